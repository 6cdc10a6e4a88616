//! Google's application default credentials: where Google's own libraries look for them (AIP-4110).

use std::path::PathBuf;

use super::reference::Resolver;
use super::resolve::learn;
use crate::error::{Context, Error, Kind, Result};
use crate::secret::SecretString;

/// The name of the file that `gcloud auth application-default login` writes.
const FILE: &str = "application_default_credentials.json";

/// The credentials of the environment as JSON, which the redactor now knows: the file of `GOOGLE_APPLICATION_CREDENTIALS`,
/// else gcloud's own. None where there is neither: a machine of Google's knows who it is by its metadata server.
pub(super) fn default_credentials(resolver: &Resolver) -> Result<Option<SecretString>> {
    let variable = |name: &str| resolver.environment.get(name).filter(|text| !text.is_empty());
    let named = variable("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let gcloud = variable("CLOUDSDK_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config/gcloud")))
        .map(|folder| folder.join(FILE))
        .filter(|path| path.is_file());
    let Some(path) = named.or(gcloud) else { return Ok(None) };
    let doing = || format!("reading the application default credentials in {}", path.display());
    let text = std::fs::read_to_string(&path).context(Kind::Connection, doing).map_err(|error| {
        error.hint("GOOGLE_APPLICATION_CREDENTIALS names that file; or give the connection a `service_account`")
    })?;
    if text.trim().is_empty() {
        return Err(Error::new(Kind::Connection, doing()).because("it is empty"));
    }
    learn(&resolver.redactor, "service_account", &text);
    Ok(Some(SecretString::from(text)))
}

/// Where the metadata server is, if the environment says so as Google's own libraries understand it.
pub(super) fn metadata_host(resolver: &Resolver) -> Option<String> {
    resolver.environment.get("GCE_METADATA_HOST").filter(|text| !text.is_empty()).cloned()
}
