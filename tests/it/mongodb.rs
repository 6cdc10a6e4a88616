//! MongoDB as a source and as a place where rows land, with a real server.

mod with_mongodb;
