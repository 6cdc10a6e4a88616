//! Load jobs of local files: in one request while they are small, resumable above that, through a bucket where they are large.

use std::path::Path;

use serde_json::Value;
use url::Url;

use super::auth::SCOPES;
use super::refused::Why;
use super::resumable::Upload;
use super::run::Work;
use super::{BigQuery, Caller, JobRequest, JobState, Refused, SERVICE};
use crate::error::{Error, Kind, Result};

/// Up to so many bytes go in one request, together with the job.
const ONE_REQUEST: u64 = 8 << 20;

impl BigQuery {
    /// Loads files by one job and waits for its end, well or not.
    ///
    /// A job of that name that is there already is waited for; who can tell before, by [`BigQuery::job`], need not send the rows.
    /// Several files need a bucket.
    ///
    /// # Errors
    /// A job that cannot be sent or asked for; see [`Refused`].
    pub async fn load_files(
        &self,
        job: &JobRequest,
        files: &[impl AsRef<Path>],
        caller: &Caller<'_>,
    ) -> Result<JobState, Refused> {
        let uploads = files.iter().map(|file| Upload::open(file.as_ref())).collect::<Result<Vec<_>>>()?;
        let bytes: u64 = uploads.iter().map(|upload| upload.len).sum();
        if let Some((bucket, prefix)) = &self.inner.settings.stage_bucket
            && (bytes > self.inner.settings.stage_above || uploads.len() > 1)
        {
            return self.load_through(bucket, prefix, job, &uploads, caller).await;
        }
        let [upload] = uploads.as_slice() else {
            return Err(Error::new(Kind::Warehouse, format!("{bytes} bytes are more than one upload can have"))
                .hint("stage_bucket = \"gs://my-bucket/haul\" in the connection: large uploads go there first")
                .into());
        };
        let metadata = self.job_json(job)?;
        let sent = if upload.len <= ONE_REQUEST {
            self.send_whole(&metadata, upload, caller).await
        } else {
            let start = self.upload_url("resumable")?;
            self.send_resumable(&start, &metadata, upload, SCOPES, caller).await
        };
        let location = match sent {
            Ok(body) => {
                let state = JobState::read(&body)?;
                if state.done {
                    return Ok(self.billed(state, caller));
                }
                state.location
            }
            Err(refused) if refused.why == Why::Duplicate || refused.broken => {
                // There already; or the answer was lost, and the job may be there all the same.
                match self.job(&job.id, self.location(), caller).await {
                    Ok(Some(state)) => state.location,
                    Ok(None) | Err(_) => return Err(refused.elsewhere(self.location())),
                }
            }
            Err(refused) => {
                self.unless_wanted(&job.id, &refused).await;
                return Err(refused);
            }
        };
        self.wait(&job.id, location.as_deref().or(self.location()), caller).await
    }

    /// Job and rows in one request (RFC 2387).
    async fn send_whole(
        &self,
        metadata: &Value,
        upload: &Upload,
        caller: &Caller<'_>,
    ) -> Result<bytes::Bytes, Refused> {
        let boundary = format!("haul_{:032x}", rand::random::<u128>());
        let mut body = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n\
             --{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(&upload.whole()?);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let body = bytes::Bytes::from(body);
        let url = self.upload_url("multipart")?;
        self.patiently(caller, || async {
            let request = self.inner.http.post(url.clone()).body(body.clone());
            let request = request.header("content-type", format!("multipart/related; boundary={boundary}"));
            let answer = self.exchange(request, &url, SCOPES).await?;
            if answer.status.is_success() { Ok(answer.body) } else { Err(answer.refused()) }
        })
        .await
    }

    /// Rows in objects of a bucket, which are removed once the job has ended.
    async fn load_through(
        &self,
        bucket: &str,
        prefix: &str,
        job: &JobRequest,
        uploads: &[Upload],
        caller: &Caller<'_>,
    ) -> Result<JobState, Refused> {
        let mut names = Vec::with_capacity(uploads.len());
        for (index, upload) in uploads.iter().enumerate() {
            let name = format!("{}-{index}.ndjson", job.id);
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            self.put_object(bucket, &name, upload, caller).await?;
            names.push(name);
        }
        let mut job = job.clone();
        if let Work::Load(load) = &mut job.work {
            load.uris = names.iter().map(|name| format!("gs://{bucket}/{name}")).collect();
        }
        let state = self.settled(&job, caller).await;
        // A job that may still run needs them.
        if state.as_ref().is_ok_and(|state| state.done) {
            for name in &names {
                self.remove_object(bucket, name, caller).await;
            }
        }
        state
    }

    /// The address for uploads; it is below `/upload`, not below the methods' own.
    fn upload_url(&self, way: &str) -> Result<Url> {
        let settings = &self.inner.settings;
        let root = settings.endpoint.as_deref().unwrap_or(SERVICE).trim_end_matches('/');
        let mut url = Url::parse(&format!("{root}/upload/bigquery/v2/projects")).map_err(|error| {
            Error::new(Kind::Connection, format!("`{root}` is no address: {error}"))
                .hint("endpoint = \"http://localhost:9050\"")
        })?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend([self.project(), "jobs"]);
        }
        url.query_pairs_mut().append_pair("uploadType", way);
        Ok(url)
    }
}
