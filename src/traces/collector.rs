//! The collector: OTLP over HTTP as <https://opentelemetry.io/docs/specs/otlp/#otlphttp> has it, in protobuf.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use url::Url;

use super::span::{Span, pair};
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::serve::TraceTarget;
use crate::secret::{ExposeSecret as _, Redactor};

/// So long a batch may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much of an answer is read.
const LONGEST: usize = 64 << 10;

/// Who takes spans.
pub(super) struct Collector {
    http: Client,
    url: Url,
    resource: Resource,
    redactor: Redactor,
}

/// What it says to a batch.
pub(super) enum Answer {
    /// It has taken it, or all but some of it.
    Taken { refused: u64, why: String },
    /// It does not want it.
    Refused(String),
    /// It can be sent again, after a pause that it may name.
    Busy { why: String, after: Option<Duration> },
    /// Nobody has answered.
    Away(String),
}

impl Collector {
    pub fn open(target: TraceTarget, redactor: Redactor) -> Result<Self> {
        let mut headers = HeaderMap::new();
        for (name, text) in &target.headers {
            let wrong = || Error::config(format!("the header `{name}` of traces cannot be sent"));
            // Neither message quotes the text.
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let http = Client::builder()
            .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(5))
            .timeout(PATIENCE)
            // A header that lets us in is for this address only.
            .redirect(redirect::Policy::none())
            .build()
            .context(Kind::Internal, || "making a client for traces".to_owned())?;
        let mut attributes = vec![
            pair("service.name", target.service),
            pair("service.version", env!("CARGO_PKG_VERSION")),
            pair("telemetry.sdk.name", "haul"),
            pair("telemetry.sdk.language", "rust"),
        ];
        attributes.extend(target.attributes.into_iter().map(|(name, text)| pair(&name, text)));
        let resource = Resource { attributes, ..Resource::default() };
        Ok(Self { http, url: target.url, resource, redactor })
    }

    /// A batch as it is sent.
    pub fn body(&self, spans: Vec<Span>) -> Bytes {
        let (name, version) = ("haul".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let scope = InstrumentationScope { name, version, ..InstrumentationScope::default() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
    }

    pub async fn send(&self, body: Bytes) -> Answer {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => {
                let error = Error::new(Kind::Unavailable, format!("{} cannot be reached", self.place()))
                    .because(error.without_url());
                Answer::Away(self.redactor.redact(&error.chain()))
            }
        }
    }

    async fn read(&self, mut response: Response) -> Answer {
        let status = response.status();
        if status.is_success() {
            let mut body = Vec::new();
            while let Ok(Some(chunk)) = response.chunk().await
                && body.len() < LONGEST
            {
                body.extend_from_slice(&chunk);
            }
            // A body that is none says nothing against it.
            let partial = ExportTraceServiceResponse::decode(&*body).ok().and_then(|answer| answer.partial_success);
            let (refused, why) = partial.map_or((0, String::new()), |partial| {
                let refused = u64::try_from(partial.rejected_spans).unwrap_or_default();
                (
                    refused,
                    format!("{} takes only a part: {}", self.place(), self.redactor.redact(&partial.error_message)),
                )
            });
            return Answer::Taken { refused, why };
        }
        let why = format!("{} answers {status}", self.place());
        let passes = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        if !passes.contains(&status) {
            return Answer::Refused(why);
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.trim().parse().ok());
        Answer::Busy { why, after: after.map(Duration::from_secs) }
    }

    /// The address as it may be shown: without what stands in its path.
    fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}
