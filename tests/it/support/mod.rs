//! What the tests share: loopback servers, temporary projects, the binary.

pub mod apis;
pub mod days;
pub mod mornings;
pub mod project;
pub mod scripted;
