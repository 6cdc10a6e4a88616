//! What is answered when something cannot be done: a status that fits, and the error in words.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Kind};

/// An answer to what cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaultBody {
    /// What went wrong.
    pub error: FaultText,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaultText {
    /// What kind of fault it is: `usage`, `config`, `not found`, `storage`, ….
    pub kind: String,
    /// What was being done, and why it could not be.
    pub message: String,
    /// What would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Several lines, shown as they are: an excerpt of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A request that is not fulfilled.
#[derive(Debug, Clone)]
pub struct Fault {
    status: StatusCode,
    body: FaultBody,
}

impl Fault {
    /// A fault of this status and kind.
    pub fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        let error = FaultText { kind: kind.to_owned(), message: message.into(), hint: None, detail: None };
        Self { status, body: FaultBody { error } }
    }

    /// Something of this name is not there.
    pub fn missing(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", format!("there is no {what} `{name}`"))
    }

    /// The request itself is wrong.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "usage", message)
    }

    /// The same with a sentence that helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.error.hint = Some(hint.into());
        self
    }

    /// What is answered.
    pub fn body(&self) -> &FaultBody {
        &self.body
    }

    /// The same without secrets.
    #[must_use]
    pub fn redacted(mut self, redactor: &crate::secret::Redactor) -> Self {
        let error = &mut self.body.error;
        error.message = redactor.redact(&error.message);
        for text in [&mut error.hint, &mut error.detail].into_iter().flatten() {
            *text = redactor.redact(text);
        }
        self
    }
}

/// The status that an error of the library becomes.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Usage => StatusCode::BAD_REQUEST,
        Kind::NothingDue | Kind::Held | Kind::Budget | Kind::Stale | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::Config | Kind::Template | Kind::Connection | Kind::Data | Kind::Check => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Auth | Kind::Unavailable | Kind::RateLimited | Kind::Source | Kind::Warehouse => StatusCode::BAD_GATEWAY,
        Kind::Storage => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut fault = Self::new(status(error.kind()), error.kind().name(), error.chain());
        fault.body.error.hint = error.hints().first().map(|hint| (*hint).to_owned());
        fault.body.error.detail = error.details().map(str::to_owned);
        fault
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self.body)).into_response();
        // What stands at the door takes secrets out of it before it leaves.
        response.extensions_mut().insert(self);
        response
    }
}
