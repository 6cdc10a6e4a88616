//! Requests as they are read and answers as they are written: faults in words, no secrets, and pages of lists.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::fault::Fault;
use super::house::House;

/// What a handler answers.
pub(super) type Answer = Result<Response, Fault>;

/// The most items of one page.
const MOST: u32 = 1000;

/// The items of a page, where nothing is said.
const USUAL: u32 = 100;

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for as `after` to get the next page; none where this is the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most so many items, of one more that were looked up; `key` tells where an item stands.
    pub fn cut(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }

    /// The same page of something else.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

/// How many items a page has.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Fault> {
    match asked.unwrap_or(USUAL) {
        0 => Err(Fault::bad("`limit` is 0").hint(format!("a page has 1 to {MOST} items"))),
        limit if limit > MOST => {
            Err(Fault::bad(format!("`limit` is more than {MOST}")).hint("ask for the next page by `after`"))
        }
        limit => Ok(limit),
    }
}

/// What is answered to an `after` that no page has told.
pub(super) fn no_page() -> Fault {
    Fault::bad("`after` is not what a page said").hint("it is `next` of the page before, as it is")
}

/// An answer as JSON, of which every text has passed the redactor.
pub(super) fn json<T: Serialize>(house: &House, value: &T) -> Answer {
    let value = serde_json::to_value(value);
    let mut value =
        value.map_err(|error| Fault::from(crate::error::Error::internal("writing an answer").because(error)))?;
    redact(house, &mut value);
    Ok(Json(value).into_response())
}

fn redact(house: &House, value: &mut Value) {
    match value {
        Value::String(text) => *text = house.redactor().redact(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(house, item)),
        Value::Object(members) => members.values_mut().for_each(|member| redact(house, member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The parameters behind the `?`.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => Err(Fault::bad(reason(&error.body_text()))),
            Err(error) => Err(Fault::bad(error.body_text())),
        }
    }
}

/// The names in the path.
pub(super) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(Fault::bad(reason(&error.body_text()))),
            Err(error) => Err(Fault::bad(error.body_text())),
        }
    }
}

/// The body as JSON; an empty one says nothing.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error| Fault::new(error.status(), "usage", error.body_text()))?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(T::default()));
        }
        Json::<T>::from_bytes(&bytes).map(|Json(body)| Self(body)).map_err(|error| match error {
            JsonRejection::JsonDataError(error) => Fault::bad(reason(&error.body_text())),
            error => Fault::bad(error.body_text()),
        })
    }
}

/// What was wrong, without the words of the library around it.
fn reason(text: &str) -> String {
    let words = [
        "Failed to deserialize query string: ",
        "Failed to deserialize the JSON body into the target type: ",
        "Invalid URL: ",
    ];
    words.iter().fold(text.to_owned(), |text, words| text.replace(words, ""))
}
