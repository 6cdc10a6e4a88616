//! The state file over the years: brought up to date with a copy, kept small, and never less than what is needed.

mod migrations;
mod sweeps;
