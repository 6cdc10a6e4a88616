//! From the files of a project to the model: reading, checking, and telling every fault with its place.
