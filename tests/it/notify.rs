//! Telling people: what is wrong is told once to those who want to know, and once more when it is well.

mod channels;
mod deadlines;
mod faults;
mod once;
mod reports;
mod waiting;
mod with_mail;
