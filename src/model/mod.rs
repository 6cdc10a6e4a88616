//! What everything else speaks of: pipelines, hooks, schemas, the ledger, runs and plans, as plain data without I/O.

pub mod answer;
pub mod connection;
pub mod cost;
pub mod drift;
pub mod errand;
pub mod exchange;
pub mod fanout;
pub mod files;
pub mod fit;
pub mod hook;
pub mod infer;
pub mod layout;
pub mod ledger;
pub mod load;
mod logical_type;
pub mod manual;
pub mod name;
pub mod page;
pub mod parameter;
pub mod pipeline;
pub mod plan;
pub mod run;
pub mod schedule;
pub mod schema;
pub mod shape;
pub mod source;
pub mod trial;
