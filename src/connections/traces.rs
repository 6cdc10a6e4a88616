//! Where traces go: as the project says it, and as the environment does in the words of OpenTelemetry.
//!
//! The variables are those of <https://opentelemetry.io/docs/specs/otel/protocol/exporter/> and
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.

use url::Url;

use super::Connections;
use super::uri::decode;
use crate::error::{Error, Result};
use crate::model::serve::{HeaderText, TraceSettings, TraceTarget};
use crate::secret::SecretString;

/// Below the address of a collector, spans are posted here.
const PATH: &str = "/v1/traces";

/// The name of the service where nobody says another.
const SERVICE: &str = "haul";

impl Connections {
    /// Where traces go; none where nobody asked for them, or this program was built without them.
    ///
    /// An address in the environment wins over the project's, and then only the environment's headers are sent there.
    ///
    /// # Errors
    /// An address that is none, a secret that cannot be found.
    pub fn traces(&self, settings: Option<&TraceSettings>) -> Result<Option<TraceTarget>> {
        let off = self.told("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"))
            || self.told("OTEL_TRACES_EXPORTER").is_some_and(|word| word == "none");
        if off || !cfg!(feature = "otel") {
            return Ok(None);
        }
        let below = |base: &str| format!("{}{PATH}", base.trim_end_matches('/'));
        let named = self
            .told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .map(|whole| ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole.to_owned()));
        let named = named.or_else(|| {
            self.told("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| ("OTEL_EXPORTER_OTLP_ENDPOINT", below(base)))
        });
        let (url, headers) = match (named, settings) {
            (Some((variable, url)), _) => (address(&url, variable)?, self.told_headers()),
            (None, Some(settings)) => (address(&below(&settings.endpoint), "serve.traces")?, self.headers(settings)?),
            (None, None) => return Ok(None),
        };
        let mut attributes = self.told_attributes();
        let service = self.told("OTEL_SERVICE_NAME").map(str::to_owned);
        let named = attributes.iter().position(|(name, _)| name == "service.name").map(|at| attributes.remove(at).1);
        let service = service.or(named).or_else(|| settings?.service.clone()).unwrap_or_else(|| SERVICE.to_owned());
        Ok(Some(TraceTarget { url, headers, service, attributes }))
    }

    fn told(&self, variable: &str) -> Option<&str> {
        self.inner.environment.get(variable).map(String::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    fn headers(&self, settings: &TraceSettings) -> Result<Vec<(String, SecretString)>> {
        let header = |(name, text): &(String, HeaderText)| {
            let text = match text {
                HeaderText::Plain(text) => SecretString::from(text.clone()),
                HeaderText::Secret(place) => self
                    .secret(place)
                    .map_err(|error| error.while_doing(format!("reading `serve.traces.headers.{name}`")))?,
            };
            Ok((name.clone(), text))
        };
        settings.headers.iter().map(header).collect()
    }

    /// The headers of the environment; all of them may be secret.
    fn told_headers(&self) -> Vec<(String, SecretString)> {
        let told = self.told("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| self.told("OTEL_EXPORTER_OTLP_HEADERS"));
        let header = |(name, text): (String, String)| {
            self.inner.redactor.learn(&text);
            (name, SecretString::from(text))
        };
        told.into_iter().flat_map(pairs).map(header).collect()
    }

    fn told_attributes(&self) -> Vec<(String, String)> {
        self.told("OTEL_RESOURCE_ATTRIBUTES").into_iter().flat_map(pairs).collect()
    }
}

/// `a=1,b=2`, with values as in an address.
fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), decode(value.trim())))
    })
}

fn address(text: &str, told_by: &str) -> Result<Url> {
    let read = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    // What cannot be read is not shown: it may hold a password.
    read.ok_or_else(|| {
        Error::config(format!("reading `{told_by}`"))
            .because("it is no address of a collector")
            .hint("such as http://127.0.0.1:4318, where one listens to OTLP over HTTP")
    })
}
