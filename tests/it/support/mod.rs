//! What the tests share: loopback servers, temporary projects, the binary.

pub mod apis;
pub mod bigquery;
pub mod bigquery_gate;
pub mod bigquery_service;
pub mod bigquery_strict;
pub mod buckets;
pub mod counterparts;
pub mod databases;
pub mod days;
pub mod doors;
pub mod fan_api;
pub mod files;
pub mod ga4;
pub mod gate;
pub mod gcs_store;
pub mod inbox;
pub mod mariadb;
pub mod mongodb;
pub mod mornings;
pub mod pages;
pub mod postgres;
pub mod project;
pub mod scripted;
pub mod shelf;
pub mod station;
pub mod youtube;
