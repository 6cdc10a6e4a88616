//! Taps from PyPI, as they are: their rows become tables, and their state comes back.
