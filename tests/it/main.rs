//! The integration tests, in one binary: each module proves one promise through the public surface.

mod cli;
mod config;
mod connections;
mod contracts;
mod days;
mod demo;
mod examples;
mod extract;
mod faults;
mod kill;
mod redaction;
mod stage;
mod state;
mod stops;
mod support;
mod template;
mod time;
mod transforms;
mod warehouse;
mod zones;
