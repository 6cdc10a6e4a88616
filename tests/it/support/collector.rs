//! A loopback collector of OpenTelemetry: it takes spans over HTTP in protobuf, and answers as a test says.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::sync::{Arc, Mutex};

use super::loopback::serve;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// A batch that came in.
#[derive(Debug, Clone)]
pub struct Batch {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub request: ExportTraceServiceRequest,
}

impl Batch {
    /// The text of a header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whose spans it has.
    pub fn resource(&self) -> &Resource {
        self.request.resource_spans[0].resource.as_ref().expect("a resource")
    }
}

/// What is answered to a batch.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// All of it is taken.
    Taken,
    /// All but so many.
    But(i64),
    /// A status, and nothing more.
    Status(u16),
    /// Nothing, ever.
    Silence,
}

/// The running collector; it ends with the test's process.
pub struct Collector {
    pub url: String,
    batches: Arc<Mutex<Vec<Batch>>>,
}

impl Collector {
    /// Starts one that takes everything.
    pub fn start() -> Self {
        Self::that(|_| Reply::Taken)
    }

    /// Starts one that answers the batch of this number, from 0, so.
    pub fn that(answer: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let batches: Arc<Mutex<Vec<Batch>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&batches), Arc::new(answer));
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body.clone()).expect("spans in protobuf");
            let batch = Batch { path: uri.path().to_owned(), headers, body: body.to_vec(), request };
            let number = {
                let mut seen = seen.lock().expect("no test panicked here");
                seen.push(batch);
                seen.len() - 1
            };
            let reply = answer(number);
            async move {
                let (status, rejected_spans) = match reply {
                    Reply::Taken => (200, 0),
                    Reply::But(some) => (200, some),
                    Reply::Status(status) => (status, 0),
                    Reply::Silence => std::future::pending().await,
                };
                let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_owned() };
                let answer = ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) };
                (StatusCode::from_u16(status).expect("a status"), answer.encode_to_vec())
            }
        };
        Self { url: serve(Router::new().fallback(handler)), batches }
    }

    /// Every batch that came in, those that were not taken included.
    pub fn batches(&self) -> Vec<Batch> {
        self.batches.lock().expect("no test panicked here").clone()
    }

    /// Every span that came in.
    pub fn spans(&self) -> Vec<Span> {
        let of = |batch: Batch| batch.request.resource_spans.into_iter().flat_map(|one| one.scope_spans);
        self.batches().into_iter().flat_map(of).flat_map(|scope| scope.spans).collect()
    }
}

/// An attribute as text; empty when it is not there.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    match found {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text,
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
