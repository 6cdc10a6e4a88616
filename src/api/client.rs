//! Asks the daemon that works on a project, in the place of doing it here.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fault::FaultBody;
use super::token::{Door, DoorSign, Token};
use crate::connections::Connections;
use crate::error::{Context as _, Error, Kind, Result};
use crate::logs::Line;
use crate::model::pipeline::Project;
use crate::model::run::RunRecord;
use crate::secret::Redactor;

/// How long an answer may take; longer than the daemon itself allows.
const PATIENCE: Duration = Duration::from_secs(150);

/// A client of the daemon that works on a project.
pub struct Client {
    door: Door,
    token: Token,
    http: reqwest::Client,
    redactor: Redactor,
}

/// What comes of a run that is followed.
#[derive(Debug)]
pub enum Followed {
    /// A line of its log.
    Line(Box<Line>),
    /// It has ended.
    End(Option<Box<RunRecord>>),
}

impl Client {
    /// The client of the daemon that works on a project now; none where none does.
    ///
    /// # Errors
    /// A token that cannot be read.
    pub fn of(project: &Project, connections: &Connections, redactor: &Redactor) -> Result<Option<Self>> {
        let Some(door) = Self::door(&project.state_dir) else { return Ok(None) };
        let token = Token::open(project.serve.door.token.as_ref(), connections, &project.state_dir)?;
        redactor.learn(token.text());
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5));
        let http = builder.build().context(Kind::Internal, || "making an HTTP client".to_owned())?;
        Ok(Some(Self { door, token, http, redactor: redactor.clone() }))
    }

    /// Where the daemon of a state folder can be asked; none where no living one can.
    pub fn door(state_dir: &Path) -> Option<Door> {
        DoorSign::read(state_dir)
    }

    /// Where the daemon is.
    pub fn place(&self) -> &Door {
        &self.door
    }

    /// Asks for something; `path` begins with `/`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, None::<&Value>).await
    }

    /// Orders something.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<T> {
        let mut request = self.request(method, path).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.sent(request).await?;
        let doing = || format!("reading the answer of the daemon to {path}");
        let text = response.text().await.context(Kind::Unavailable, doing)?;
        serde_json::from_str(&text).context(Kind::Source, doing)
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.door.address)).bearer_auth(self.token.text())
    }

    /// The answer, if it is a good one; else the daemon's own words as an error.
    async fn sent(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let doing = || format!("asking the daemon at {} (process {})", self.door.address, self.door.pid);
        let response = request.send().await.map_err(|error| {
            let told = Error::new(Kind::Unavailable, doing()).because(error).chain();
            Error::new(Kind::Unavailable, self.redactor.redact(&told))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let Ok(fault) = serde_json::from_str::<FaultBody>(&text) else {
            return Err(Error::new(Kind::Source, doing()).because(format!("it answered {status}")));
        };
        let mut error = Error::new(kind(&fault.error.kind, status), self.redactor.redact(&fault.error.message));
        if let Some(hint) = fault.error.hint {
            error = error.hint(hint);
        }
        Err(match fault.error.detail {
            Some(detail) => error.detail(detail),
            None => error,
        })
    }

    /// Hears what a run tells from its first line on, until it ends or `each` has heard enough.
    pub async fn follow(&self, run: &str, mut each: impl FnMut(Followed) -> bool) -> Result<()> {
        let path = format!("/api/v1/runs/{run}/logs/stream?level=debug");
        let response = self.sent(self.request(Method::GET, &path)).await?;
        let mut stream = response.bytes_stream();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(piece) = stream.next().await {
            rest.extend(piece.context(Kind::Unavailable, || format!("following the run {run}"))?);
            while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = rest.drain(..end + 2).collect();
                if let Some(followed) = parsed(&String::from_utf8_lossy(&block))?
                    && !each(followed)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// One event of the stream; none for what only keeps it open.
fn parsed(block: &str) -> Result<Option<Followed>> {
    let field =
        |name: &str| block.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches([':', ' '])));
    let doing = || "reading a line of a run's log".to_owned();
    let data = field("data").unwrap_or_default();
    Ok(match field("event") {
        Some("line") => Some(Followed::Line(serde_json::from_str(data).context(Kind::Source, doing)?)),
        Some("end") => Some(Followed::End(serde_json::from_str(data).context(Kind::Source, doing)?)),
        Some("fault") => return Err(Error::new(Kind::Source, doing()).because(data.to_owned())),
        _ => None,
    })
}

/// The kind of an error that the daemon has told.
fn kind(name: &str, status: StatusCode) -> Kind {
    Kind::named(name).unwrap_or(if status.is_client_error() { Kind::Usage } else { Kind::Unavailable })
}
