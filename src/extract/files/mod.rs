//! Extraction from files: of a folder, a bucket or a web server, in bounded memory, page by page.

mod decode;
mod deliver;
mod folder;
mod parquet;
mod pattern;
mod pull;
mod store;
mod web;

pub use deliver::Mark;
pub use pattern::Pattern;
pub use pull::FilesPull;
pub use store::FileStore;
