//! Spans in the words of OTLP: <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto>.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
pub(super) use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Status, status::StatusCode};

use crate::time::Instant;

/// So many events of a span are kept; the others are counted.
const MOST_EVENTS: usize = 128;

/// A span that has begun.
pub(super) struct Open {
    span: Span,
}

impl Open {
    /// The first span of a trace of its own.
    pub fn root(name: &str, at: Instant) -> Self {
        Self::new(rand::random::<u128>().to_be_bytes().to_vec(), Vec::new(), name, at)
    }

    /// A span below this one.
    pub fn child(&self, name: &str, at: Instant) -> Self {
        Self::new(self.span.trace_id.clone(), self.span.span_id.clone(), name, at)
    }

    fn new(trace_id: Vec<u8>, parent_span_id: Vec<u8>, name: &str, at: Instant) -> Self {
        let span_id = rand::random::<u64>().max(1).to_be_bytes().to_vec();
        let span = Span {
            trace_id,
            span_id,
            parent_span_id,
            // Sampled.
            flags: 1,
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start_time_unix_nano: nanos(at),
            ..Span::default()
        };
        Self { span }
    }

    /// An attribute.
    pub fn set(&mut self, key: &str, value: impl Into<Attribute>) {
        self.span.attributes.push(pair(key, value));
    }

    /// An attribute, where it is known.
    pub fn set_known(&mut self, key: &str, value: Option<impl Into<Attribute>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Something that happened meanwhile.
    pub fn happened(&mut self, name: &str, at: Instant, attributes: Vec<KeyValue>) {
        if self.span.events.len() < MOST_EVENTS {
            let (time_unix_nano, name) = (nanos(at), name.to_owned());
            self.span.events.push(Event { time_unix_nano, name, attributes, dropped_attributes_count: 0 });
        } else {
            self.span.dropped_events_count += 1;
        }
    }

    /// It ended badly.
    pub fn fail(&mut self, message: String) {
        self.span.status = Some(Status { code: StatusCode::Error.into(), message });
    }

    /// It has ended.
    pub fn end(mut self, at: Instant) -> Span {
        // A clock that was put back does not make a span that ends before it begins.
        self.span.end_time_unix_nano = nanos(at).max(self.span.start_time_unix_nano);
        self.span
    }
}

/// The value of an attribute.
pub(super) struct Attribute(Value);

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self(Value::StringValue(text.to_owned()))
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self(Value::StringValue(text))
    }
}

impl From<u64> for Attribute {
    fn from(number: u64) -> Self {
        Self(Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self(Value::IntValue(number))
    }
}

impl From<u32> for Attribute {
    fn from(number: u32) -> Self {
        Self(Value::IntValue(number.into()))
    }
}

/// An attribute as it is sent.
pub(super) fn pair(key: &str, value: impl Into<Attribute>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value.into().0) }), ..KeyValue::default() }
}

/// Nanoseconds since 1970.
fn nanos(at: Instant) -> u64 {
    at.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default()
}
