//! The connection store: where credentials come from, in which order, and how they stay secret.
