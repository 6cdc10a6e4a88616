//! The ways to people: a webhook, Slack, mail, a program.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::words::{self, About, Told};
use super::{Teller, slack};
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{GRACE, HttpClient, TokenKeeper, Watch};
use crate::mail::{Mail, Mailer};
use crate::model::connection::{Connection, ConnectionKind, SmtpConnection};
use crate::model::hook::{Body, Method, Request};
use crate::model::incident::Content;
use crate::model::notify::{Channel, To};
use crate::secret::{Redactor, SecretString};
use crate::time::display_duration;

/// Parts of an address shorter than this are no secret.
const SECRET_PART: usize = 8;

/// How much of a program's complaint is told.
const COMPLAINT: usize = 400;

/// How many bytes of it are looked at.
const LISTENED: usize = 16 << 10;

/// Sends a message; `id` is the same when the same is sent once more.
///
/// # Errors
/// The channel cannot be reached, or does not take it.
pub(super) async fn send(teller: &Teller, channel: &Channel, content: &Content, about: &About, id: &str) -> Result<()> {
    let told = words::told(content, about);
    let told = Told {
        title: teller.redactor.redact(&told.title),
        text: teller.redactor.redact(&told.text),
        html: teller.redactor.redact(&told.html),
    };
    match &channel.to {
        To::Webhook { connection } => {
            let body = webhook(content, &told, about, id, &teller.redactor)?;
            post(teller, connection, &body).await
        }
        To::Slack { connection } => {
            let body = redacted(&slack::message(content, &told, about), &teller.redactor)?;
            post(teller, connection, &body).await
        }
        To::Email { connection, recipients } => {
            let resolved = teller.connections.get(connection)?;
            let mailer = Mailer::open(connection, smtp(&resolved)?)?;
            let Told { title, text, html } = told;
            mailer.send(&Mail { to: recipients.clone(), subject: title, text, html, id: id.to_owned() }).await
        }
        To::Command { command, timeout } => {
            let body = webhook(content, &told, about, id, &teller.redactor)?;
            run(teller, command, *timeout, &told, &body).await
        }
    }
}

fn smtp(connection: &Connection) -> Result<&SmtpConnection> {
    match &connection.kind {
        ConnectionKind::Smtp(settings) => Ok(settings),
        kind => Err(Error::config(format!(
            "the connection `{}` has type {kind}, mail needs one of type smtp",
            connection.name
        ))),
    }
}

/// The JSON of webhooks and commands.
fn webhook(content: &Content, told: &Told, about: &About, id: &str, redactor: &Redactor) -> Result<String> {
    let mut value = json!({
        "id": id,
        "project": about.project,
        "title": told.title,
        "text": told.text,
        "url": about.url,
        "content": content,
    });
    if about.url.is_none()
        && let Value::Object(members) = &mut value
    {
        members.remove("url");
    }
    redacted(&value, redactor)
}

/// JSON without any secret: secrets are taken out of its texts, so that it stays JSON.
fn redacted(value: &Value, redactor: &Redactor) -> Result<String> {
    fn clean(value: &Value, redactor: &Redactor) -> Value {
        match value {
            Value::String(text) => redactor.redact(text).into(),
            Value::Array(items) => items.iter().map(|item| clean(item, redactor)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), clean(value, redactor))).collect()
            }
            other => other.clone(),
        }
    }
    serde_json::to_string(&clean(value, redactor)).context(Kind::Internal, || "writing a message as JSON".to_owned())
}

/// Puts rotated refresh tokens back into the connection store.
struct Keeper(Connections);

impl TokenKeeper for Keeper {
    fn keep(&self, connection: &str, refresh_token: &SecretString) -> Result<()> {
        self.0.keep_refresh_token(connection, refresh_token)
    }
}

async fn post(teller: &Teller, connection: &str, body: &str) -> Result<()> {
    let resolved = teller.connections.get(connection)?;
    let ConnectionKind::Http(settings) = &resolved.kind else {
        return Err(Error::config(format!(
            "the connection `{connection}` has type {}, a webhook needs one of type http",
            resolved.kind
        )));
    };
    // Whoever knows the address of an incoming webhook may write there.
    learn_address(&settings.url, &teller.redactor);
    let keeper = Arc::new(Keeper(teller.connections.clone()));
    let client = HttpClient::open(connection, settings, keeper, teller.redactor.clone(), teller.clock)?;
    let request = Request {
        method: Method::Post,
        url: settings.url.clone(),
        params: Vec::new(),
        headers: Vec::new(),
        body: Some(Body::Json(body.to_owned())),
    };
    let (status, _) = client.look(&request, &CancellationToken::new()).await?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let place = settings.url.split('/').take(3).collect::<Vec<_>>().join("/");
    let error = Error::new(Kind::Source, format!("posting to {place}")).because(format!("it answered {status}"));
    Err(error.with_status(status))
}

/// Tells the redactor of an address that is a secret by itself: the long parts of its path.
fn learn_address(address: &str, redactor: &Redactor) {
    let Ok(url) = url::Url::parse(address) else { return };
    if url.path().len() > SECRET_PART {
        redactor.learn(url.path());
    }
    url.path_segments().into_iter().flatten().filter(|part| part.len() > SECRET_PART).for_each(|part| {
        redactor.learn(part);
    });
}

/// Runs a program with the message on its standard input; it is ended with all that it began when its time is over.
async fn run(teller: &Teller, command: &[String], timeout: Duration, told: &Told, body: &str) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::config("a channel has no command"));
    };
    let doing = || format!("telling the program `{program}`");
    let path = if program.contains('/') { teller.project.root.join(program) } else { program.into() };
    // A shell leads its group of processes, so that all of them can be ended, also when haul itself is killed.
    let mut watch = Watch::begin(None).context(Kind::Storage, doing)?;
    let mut process = tokio::process::Command::new(path);
    process.args(arguments).current_dir(&teller.project.root).process_group(watch.group()).kill_on_drop(true);
    process.env("HAUL_TITLE", &told.title).env("HAUL_MESSAGE", &told.text);
    process.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = process.spawn().context(Kind::Source, doing)?;
    let stdin = child.stdin.take();
    let complaint = child.stderr.take().map(|stderr| tokio::spawn(complaint(stderr)));
    let ended = tokio::time::timeout(timeout, async {
        if let Some(mut stdin) = stdin {
            // A program that wants to read nothing has been told all the same.
            let _ = stdin.write_all(body.as_bytes()).await;
        }
        child.wait().await
    })
    .await;
    if ended.is_err() {
        watch.ask().await;
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
    }
    // What it has left running ends with it: such a process could hold its pipe open for ever.
    watch.end().await;
    let status = match ended {
        Ok(ended) => ended.context(Kind::Source, doing)?,
        Err(_) => {
            let late = format!("it had not ended after {}", display_duration(timeout));
            return Err(Error::new(Kind::Source, doing()).because(late).hint("timeout = \"2m\""));
        }
    };
    if status.success() {
        return Ok(());
    }
    let complaint = match complaint {
        Some(complaint) => tokio::time::timeout(Duration::from_secs(1), complaint).await,
        None => return Err(Error::new(Kind::Source, doing()).because(status.to_string())),
    };
    let complaint = complaint.ok().and_then(std::result::Result::ok).unwrap_or_default();
    let complaint: String = teller.redactor.redact(complaint.trim()).chars().take(COMPLAINT).collect();
    Err(Error::new(Kind::Source, doing()).because(format!("{status}: {complaint}")))
}

/// The beginning of what a program says on stderr; the rest is read, so that it need not wait, and forgotten.
async fn complaint(mut stderr: tokio::process::ChildStderr) -> String {
    let mut beginning = Vec::new();
    let mut piece = [0; 4096];
    // A stream that breaks off has given all that it has.
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        let room = LISTENED.saturating_sub(beginning.len()).min(length);
        beginning.extend_from_slice(&piece[..room]);
    }
    String::from_utf8_lossy(&beginning).into_owned()
}
