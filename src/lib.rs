//! `haul`: ELT pipelines for warehouse loads, where the rolling window and its ledger come first.
//!
//! The modules are floors; imports go downhill only:
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 0 | [`error`], [`time`], [`secret`] | the ground |
//! | 1 | [`model`] | plain data: pipelines, schemas, the ledger, runs, plans |
//! | 2 | [`config`], [`template`], [`connections`] | text becomes model |
//! | 3 | [`bigquery`], [`delivery`], [`extract`], [`landing`], [`logs`], [`mail`], [`mongo`], [`server`], [`stage`], [`warehouse`], [`state`], [`monitor`], [`traces`] | gear, one trait a family |
//! | 4 | [`plan`], [`schedule`] | pure: what is due, and why; when that is asked |
//! | 5 | [`execute`] | walks the plan |
//! | 5.5 | [`notify`], [`retention`], [`doctor`] | beside the work: tells people what goes wrong, keeps the history small, looks for what may be wrong |
//! | 5.5 | [`serve`] | runs pipelines on their schedules, by itself |
//! | 5.6 | [`api`] | what the daemon is asked and told over HTTP |
//! | 6 | [`replay`], [`cli`], [`demo`] | tests on recorded answers; what people see |

pub mod error;
pub mod secret;
pub mod time;

pub mod model;

pub mod config;
pub mod connections;
pub mod template;

pub mod bigquery;
pub mod delivery;
pub mod extract;
pub mod landing;
pub mod logs;
pub mod mail;
pub mod mongo;
pub mod monitor;
pub mod server;
pub mod stage;
pub mod state;
pub mod traces;
pub mod warehouse;

pub mod plan;
pub mod schedule;

pub mod execute;

pub mod doctor;
pub mod notify;
pub mod retention;
pub mod serve;

pub mod api;

pub mod replay;

pub mod cli;
pub mod demo;
