//! The integration tests, in one binary: each module proves one promise through the public surface.
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod apis;
mod bigquery;
mod bigquery_warehouse;
mod cli;
mod config;
mod connections;
mod contracts;
mod days;
mod demo;
mod examples;
mod extract;
mod fanout;
mod faults;
mod files;
mod hooks;
mod http;
mod kill;
mod loads;
mod macros;
mod mongodb;
mod process;
mod redaction;
mod replay;
mod schedules;
mod sources;
mod stage;
mod state;
mod stops;
mod support;
mod tables;
mod template;
mod time;
mod transforms;
mod warehouse;
mod zones;
