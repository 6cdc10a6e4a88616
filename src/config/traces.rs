//! `[serve.traces]`: where the traces of runs go.

use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::connection_file::SecretValue;
use super::diagnostic::Diagnostic;
use super::reader::{At, Reader, Required, twin};
use super::scalar::Entries;
use crate::model::serve::{HeaderText, SecretPlace, TraceSettings};

twin! {
    /// Where the traces of runs go.
    pub struct TracesTable {
        /// The address of a collector that takes OTLP over HTTP, such as `"http://127.0.0.1:4318"`; spans are posted to
        /// `/v1/traces` below it.
        pub endpoint: Required<String>,
        /// The name of the service that the spans are of. Default `"haul"`.
        pub service: Option<At<String>>,
        /// Headers of every request. What lets us in is not written here, but where it is found.
        pub headers: Option<At<Entries<SecretValue>>>,
    }
}

/// Reads where traces go; nowhere in a program that was built without them, which is told.
pub fn traces(at: &At<TracesTable>, reader: &mut Reader) -> Option<TraceSettings> {
    let table = &at.value;
    let endpoint = table.endpoint.0.as_ref().and_then(|at| endpoint(at, reader));
    let headers = table.headers.iter().flat_map(|at| &at.value.0);
    let headers = headers.filter_map(|(name, value)| header(name, value, reader)).collect();
    if !cfg!(feature = "otel") {
        reader.warning("no-traces", at.span.clone(), "this haul was built without traces: none are sent").help =
            Some("cargo install --path . --features otel builds one with them".to_owned());
        return None;
    }
    Some(TraceSettings { endpoint: endpoint?, service: table.service.as_ref().map(|at| at.value.clone()), headers })
}

fn endpoint(at: &At<String>, reader: &mut Reader) -> Option<String> {
    let read = Url::parse(&at.value).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = read else {
        reader.error("bad-address", at.span.clone(), format!("`{}` is no address of a collector", at.value)).help =
            Some("endpoint = \"http://127.0.0.1:4318\"".to_owned());
        return None;
    };
    let fault = if !url.username().is_empty() || url.password().is_some() {
        Some("an address does not say who we are")
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("the address of a collector ends with its path")
    } else if url.path().trim_end_matches('/').ends_with("/v1/traces") {
        Some("`/v1/traces` is added to the address")
    } else {
        None
    };
    if let Some(fault) = fault {
        reader.error("bad-address", at.span.clone(), fault).help =
            Some("endpoint = \"http://127.0.0.1:4318\", and a header where it wants to know who we are".to_owned());
        return None;
    }
    Some(at.value.trim_end_matches('/').to_owned())
}

fn header(name: &At<String>, value: &At<SecretValue>, reader: &mut Reader) -> Option<(String, HeaderText)> {
    if HeaderName::from_bytes(name.value.as_bytes()).is_err() {
        reader.error("bad-header", name.span.clone(), format!("`{}` is no name of a header", name.value)).help =
            Some("headers = { \"x-tenant\" = \"shop\" }".to_owned());
        return None;
    }
    let text = match &value.value {
        SecretValue::Env(name) => HeaderText::Secret(SecretPlace::Env(name.clone())),
        SecretValue::File(path) => HeaderText::Secret(SecretPlace::File(path.clone())),
        SecretValue::Command(command) => HeaderText::Secret(SecretPlace::Command(command.clone())),
        SecretValue::Plain(_) if lets_in(&name.value) => {
            // An excerpt of the line would show it.
            let origin = reader.source.origin(value.span.start);
            let (file, line) = (origin.file.display(), origin.line);
            let message = format!("{file}:{line}: what stands in `{}` lets us in, and is not written here", name.value);
            let help = "say where it is: { env = \"OTLP_TOKEN\" }, { file = \"…\" } or { command = \"…\" }";
            reader.diagnostics.push(Diagnostic::error("written-secret", message).help(help));
            return None;
        }
        SecretValue::Plain(text) if HeaderValue::from_str(text).is_err() => {
            let message = format!("the text of `{}` cannot stand in a header", name.value);
            reader.error("bad-header", value.span.clone(), message).help =
                Some("letters, digits and signs of ASCII, on one line".to_owned());
            return None;
        }
        SecretValue::Plain(text) => HeaderText::Plain(text.clone()),
    };
    Some((name.value.clone(), text))
}

/// Whether a header says who we are, by its name.
fn lets_in(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "key", "token", "secret", "cookie", "password", "team", "license"].iter().any(|word| name.contains(word))
}
