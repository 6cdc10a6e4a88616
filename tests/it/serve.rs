//! The daemon: a year in seconds by its steps, and the binary at work, killed, stopped, steered and asked to end.

mod world;
mod year;
