//! The one Jinja environment: windows, units and references in SQL and requests, strictly.
