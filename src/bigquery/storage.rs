//! Objects of Google Cloud Storage on their way into BigQuery: put by the same resumable protocol, and removed.
//!
//! The calls are `objects.insert` and `objects.delete` of the Cloud Storage JSON API, version 1.

use serde_json::json;
use url::Url;

use super::auth::STORAGE_SCOPES;
use super::resumable::Upload;
use super::{BigQuery, Caller, Refused};
use crate::error::{Error, Kind, Result};

/// The address of the service.
const STORAGE: &str = "https://storage.googleapis.com";

impl BigQuery {
    /// Puts a file into a bucket, in place of what is there under its name.
    pub(super) async fn put_object(
        &self,
        bucket: &str,
        name: &str,
        upload: &Upload,
        caller: &Caller<'_>,
    ) -> Result<(), Refused> {
        let mut url = self.storage_url("upload/storage/v1/b", &[bucket, "o"])?;
        url.query_pairs_mut().append_pair("uploadType", "resumable").append_pair("name", name);
        let metadata = json!({ "name": name, "contentType": "application/octet-stream" });
        let sent = self.send_resumable(&url, &metadata, upload, STORAGE_SCOPES, caller).await;
        sent.map(drop).map_err(|refused| Refused {
            error: refused.error.while_doing(format!("writing gs://{bucket}/{name}")),
            ..refused
        })
    }

    /// Removes an object, as well as that goes: what stays is of no use to anybody, and in nobody's way.
    pub(super) async fn remove_object(&self, bucket: &str, name: &str, caller: &Caller<'_>) {
        let Ok(url) = self.storage_url("storage/v1/b", &[bucket, "o", name]) else { return };
        let removed = self.exchange(self.inner.http.delete(url.clone()), &url, STORAGE_SCOPES).await;
        if let Err(refused) = removed {
            (caller.retrying)(&refused.error.chain(), std::time::Duration::ZERO);
        }
    }

    fn storage_url(&self, place: &str, parts: &[&str]) -> Result<Url> {
        let root = self.inner.settings.storage_endpoint.as_deref().unwrap_or(STORAGE).trim_end_matches('/');
        let mut url = Url::parse(&format!("{root}/{place}")).map_err(|error| {
            Error::new(Kind::Connection, format!("`{root}` is no address: {error}"))
                .hint("storage_endpoint = \"http://localhost:4443\"")
        })?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(parts);
        }
        Ok(url)
    }
}
