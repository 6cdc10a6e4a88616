//! What the tests share: loopback servers, temporary projects, the binary.

pub mod apis;
pub mod days;
pub mod pages;
pub mod project;
