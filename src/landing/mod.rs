//! Landing places.
