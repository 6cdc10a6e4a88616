//! Exchanges: a request to an API and what was answered, without any secret, as a cassette keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the form in which cassettes are written.
pub const CASSETTE_VERSION: u32 = 1;

/// The first line of a cassette: what was recorded, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CassetteHead {
    /// The version of the form; always [`CASSETTE_VERSION`].
    pub haul_cassette: u32,
    /// The pipeline, or the hook, that was recorded.
    pub of: String,
    /// The logical date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The addresses of the connections when it was recorded.
    pub connections: BTreeMap<String, String>,
}

/// One request and its answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The connection that it went through.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub connection: String,
    /// What was asked.
    pub request: Asked,
    /// What was answered.
    pub response: Answered,
}

/// A request, before it said who we are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// `GET`, `POST`, …
    pub method: String,
    /// The address without its query.
    pub url: String,
    /// The query's parameters in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<(String, String)>,
    /// Headers that may decide what is answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The status code.
    pub status: u16,
    /// Headers that may decide what happens next.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
}

/// A body, in the most readable form that has all that matters of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// JSON, without blanks between its tokens; its numbers keep their digits.
    Json(Box<RawValue>),
    /// Any other text.
    Text(String),
    /// Bytes that are no text, in base64.
    Base64(String),
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Json(one), Self::Json(other)) => one.get() == other.get(),
            (Self::Text(one), Self::Text(other)) | (Self::Base64(one), Self::Base64(other)) => one == other,
            _ => false,
        }
    }
}
