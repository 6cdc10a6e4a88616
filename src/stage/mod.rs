//! The stage: pages on disk between the source and the warehouse, and the journal that makes a pull resumable.
