//! The sources that pass the suite, each over the real system.

mod http;
mod mongodb;
