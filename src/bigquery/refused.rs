//! What BigQuery answers when it does not do what it was asked: its codes and reasons become kinds and hints.

use std::time::Duration;

use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2::Error as TokenError;
use gcp_bigquery_client::yup_oauth2::error::AuthErrorCode;
use serde::Deserialize;

use super::machine::NoToken;
use crate::error::{Disposition, Error, Kind};

/// Why a call was refused, as far as anybody does something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no such project, dataset, table or job.
    NotFound,
    /// There is one of that name already.
    Duplicate,
    /// The statement is wrong, or would cost more than it may.
    Query,
    /// Anything else; the error's kind tells.
    Other,
}

/// A call that was not answered, or a job that failed.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// What is told about it.
    pub error: Error,
    /// The same call may succeed later.
    pub(super) retry: bool,
    /// Nothing answered at all, or no whole answer came.
    pub(super) broken: bool,
    /// The pause that the service asked for.
    pub(super) after: Option<Duration>,
    /// The token was not taken.
    pub(super) unauthorized: bool,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let retry = error.kind().disposition() == Disposition::Retry;
        Self { why: Why::Other, error, retry, broken: false, after: None, unauthorized: false }
    }
}

/// The body of an error (REST reference, "Error messages").
#[derive(Debug, Default, Deserialize)]
struct Body {
    #[serde(default)]
    error: Fault,
}

#[derive(Debug, Default, Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Reason>,
}

/// One reason of an error, as calls and jobs tell it.
#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct Reason {
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub message: String,
}

impl Refused {
    /// From an answer that is not 2xx.
    pub(super) fn answer(status: u16, body: &[u8], after: Option<Duration>) -> Self {
        let read: Body = serde_json::from_slice(body).unwrap_or_default();
        let reason = read.error.errors.first().map(|first| first.reason.clone()).unwrap_or_default();
        let message = if read.error.message.is_empty() {
            // A proxy or a load balancer answers in its own words.
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            format!("{status} {}", text.split_whitespace().collect::<Vec<_>>().join(" ")).trim().to_owned()
        } else {
            read.error.message
        };
        Self { after, ..Self::of(status, &reason, &message) }
    }

    /// From the reason of a job that failed; a job has no status, its reasons say the same (REST reference, "Error table").
    pub(super) fn job(reason: &Reason) -> Self {
        let status = match reason.reason.as_str() {
            "notFound" => 404,
            "duplicate" => 409,
            "accessDenied" => 403,
            "backendError" | "jobBackendError" | "tableUnavailable" => 503,
            "internalError" | "jobInternalError" => 500,
            _ => 400,
        };
        Self::of(status, &reason.reason, &reason.message)
    }

    fn of(status: u16, reason: &str, message: &str) -> Self {
        let passing = matches!(
            reason,
            "rateLimitExceeded"
                | "jobRateLimitExceeded"
                | "backendError"
                | "jobBackendError"
                | "internalError"
                | "jobInternalError"
                | "tableUnavailable"
        );
        let kind = match (status, reason) {
            (429, _) | (_, "rateLimitExceeded" | "jobRateLimitExceeded") => Kind::RateLimited,
            (408 | 500 | 502 | 503 | 504, _) => Kind::Unavailable,
            _ if passing => Kind::Unavailable,
            (_, "stopped") => Kind::Cancelled,
            (401, _) | (_, "accessDenied") => Kind::Auth,
            _ => Kind::Source,
        };
        let why = match (status, reason) {
            (404, _) | (_, "notFound") => Why::NotFound,
            (409, _) | (_, "duplicate") => Why::Duplicate,
            (_, "invalidQuery" | "bytesBilledLimitExceeded" | "resourcesExceeded" | "billingTierLimitExceeded") => {
                Why::Query
            }
            _ => Why::Other,
        };
        let mut error = Error::new(kind, message.to_owned());
        if let Some(hint) = hint(kind, reason) {
            error = error.hint(hint);
        }
        Self { why, unauthorized: status == 401, ..Self::from(error) }
    }

    /// A job that is there and is not found: jobs outside of the US and the EU are found by their location only.
    pub(super) fn elsewhere(self, location: Option<&str>) -> Self {
        if location.is_some() || self.why != Why::Duplicate {
            return self;
        }
        let error =
            self.error.hint("the job is there and is not found: say the `location` of the datasets in the connection");
        Self { error, ..self }
    }

    /// A call without an answer.
    pub(super) fn unreachable(what: &str, cause: &dyn std::error::Error, place: &str) -> Self {
        let mut text = what.to_owned();
        let mut source = cause.source();
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        let error = Error::new(Kind::Unavailable, text).hint(format!("is {place} reachable from here?"));
        Self { broken: true, ..Self::from(error) }
    }

    /// An answer that is not what the reference describes.
    pub(super) fn strange(what: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Error::new(Kind::Source, what).because(cause.to_string()).into()
    }
}

fn hint(kind: Kind, reason: &str) -> Option<&'static str> {
    Some(match (kind, reason) {
        (Kind::Auth, "accessDenied") => {
            "the account needs the roles BigQuery Data Viewer on the data, and BigQuery Job User in the project that pays"
        }
        (Kind::Auth, _) => "are the credentials those of an account that may use BigQuery?",
        (_, "bytesBilledLimitExceeded") => "`max_bytes` is the most that the statement may read",
        (_, "quotaExceeded") => "the project has used up a quota of its day; Google's console shows which",
        (_, "responseTooLarge") => "ask for fewer columns or fewer rows at once",
        _ => return None,
    })
}

impl From<BQError> for Refused {
    fn from(error: BQError) -> Self {
        match error {
            BQError::ResponseError { error } => {
                let error = error.error;
                let reason = error.errors.first().and_then(|first| first.get("reason").cloned()).unwrap_or_default();
                Self::of(u16::try_from(error.code).unwrap_or(500), &reason, &error.message)
            }
            // The client loses the status of an answer that is no JSON: a proxy's or a load balancer's, which pass.
            BQError::RequestError(error) if error.is_decode() => {
                Self { broken: true, ..Error::new(Kind::Unavailable, "the answer is no JSON").because(error).into() }
            }
            BQError::RequestError(error) => Self::unreachable("the service cannot be reached", &error, "BigQuery"),
            BQError::YupAuthError(error) => Self::token(&error),
            other => Self::from(Error::new(Kind::Auth, "asking for a token").because(other)),
        }
    }
}

impl Refused {
    /// A token that did not come.
    pub(super) fn token(error: &TokenError) -> Self {
        let doing = "asking for a token";
        if let TokenError::LowLevelError(inner) = error
            && let Some(fault) = inner.get_ref().and_then(|inner| inner.downcast_ref::<NoToken>())
        {
            let kind = if fault.passes { Kind::Unavailable } else { Kind::Auth };
            let error = Error::new(kind, doing).because(fault.to_string()).hint(
                "service_account = { file = \"key.json\" }, GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default \
                 login`; a machine of Google's needs a service account that may use BigQuery",
            );
            return Self { broken: fault.passes, ..error.into() };
        }
        let (kind, hint) = match error {
            TokenError::AuthError(fault) => match &fault.error {
                AuthErrorCode::Other(code)
                    if matches!(code.as_str(), "internal_failure" | "temporarily_unavailable" | "server_error") =>
                {
                    (Kind::Unavailable, "the token endpoint has a fault of its own")
                }
                AuthErrorCode::InvalidGrant => (
                    Kind::Auth,
                    "is the key still valid, and is this machine's clock right? `gcloud auth application-default login` \
                     renews a person's credentials",
                ),
                _ => (Kind::Auth, "are the credentials complete, and still valid?"),
            },
            TokenError::HttpError(_)
            | TokenError::HttpClientError(_)
            | TokenError::LowLevelError(_)
            | TokenError::JSONError(_) => (Kind::Unavailable, "is the token endpoint reachable from here?"),
            TokenError::UserError(_) => (
                Kind::Auth,
                "`impersonate` needs the role Service Account Token Creator on that account, and the IAM Service Account \
                 Credentials API in its project",
            ),
            _ => (Kind::Auth, "are the credentials complete?"),
        };
        let broken = kind == Kind::Unavailable;
        Self { broken, ..Error::new(kind, doing).because(error.to_string()).hint(hint).into() }
    }
}
