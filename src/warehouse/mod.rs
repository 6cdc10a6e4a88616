//! Warehouses: one handle for all of them, over one private trait.
