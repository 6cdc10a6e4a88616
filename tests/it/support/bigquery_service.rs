//! A strict BigQuery of a test's own: REST answers as Google documents them, and faults where a test wants them.
//!
//! It knows just the calls that the documentation has, refuses parameters that it does not, and wants a token that it gave out.
//! Page tokens belong to one version of a table or to one job.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::doors::{Asked, Door, Reply};
use super::project::Project;

/// The project that the account is of.
pub const PROJECT: &str = "strict-project";
const ACCOUNT: &str = "robot@strict-project.iam.gserviceaccount.com";

/// A table: its columns, its rows as cells, and what it tells of itself.
#[derive(Clone, Default)]
pub struct Stored {
    pub schema: Value,
    pub rows: Vec<Value>,
    pub modified: u64,
    pub streaming: bool,
}

/// What a job does: how often it says that it runs, then its end.
#[derive(Clone)]
pub enum Plan {
    Rows(Value, Vec<Value>),
    Fails { reason: &'static str, message: &'static str },
    Runs,
}

/// A fault: for requests whose path has this text, so many times.
struct Fault {
    at: &'static str,
    times: usize,
    done: bool,
    reply: fn() -> Reply,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Stored>,
    faults: Vec<Fault>,
    /// What statements with this text come to, the first that fits; used up but for the last.
    plans: Vec<(String, Vec<Plan>)>,
    jobs: HashMap<String, (Value, Plan)>,
    tokens: Vec<String>,
    page: usize,
    /// Happens after so many pages of a table.
    after_page: Option<(usize, String, Stored)>,
    /// What statements with this text read, the first that fits: bytes of so many tables.
    reads: Vec<(String, u64, u64)>,
    /// Statements whose table is not there yet when they are planned, so many times.
    unplannable: Vec<(String, usize)>,
    pages: usize,
    /// The first page of a statement's rows whose query has this text comes when so many jobs have been sent.
    held_rows: Option<(&'static str, usize)>,
    refuses_keys: bool,
}

/// The running service.
pub struct Service {
    pub door: Door,
    state: Arc<Mutex<State>>,
}

impl Service {
    /// Starts it; pages have at most `page` rows.
    pub fn start(page: usize) -> Self {
        let state = Arc::new(Mutex::new(State { page, ..State::default() }));
        let shared = Arc::clone(&state);
        let door = Door::start(move |asked| {
            let mut state = shared.lock().expect("no test panicked here");
            let reply = state.answer(asked);
            let is_rows = asked.path.contains("/queries/") && !asked.query.contains("maxResults=0");
            let held = state.held_rows.take_if(|(text, _)| is_rows && asked.query.contains(*text));
            let Some((_, jobs)) = held else { return reply };
            let shared = Arc::clone(&shared);
            reply.once(move || shared.lock().expect("no test panicked here").jobs.len() >= jobs)
        });
        Self { door, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked here")
    }

    /// These rows are all that `dataset.table` has from now on.
    pub fn put(&self, table: &str, stored: Stored) {
        self.state().tables.insert(table.to_owned(), stored);
    }

    /// After this many pages of rows a table becomes another.
    pub fn put_after(&self, pages: usize, table: &str, stored: Stored) {
        self.state().after_page = Some((pages, table.to_owned(), stored));
    }

    /// Requests whose path has this text are answered so, this often; what they ask for is not done.
    pub fn fail(&self, at: &'static str, times: usize, reply: fn() -> Reply) {
        self.state().faults.push(Fault { at, times, done: false, reply });
    }

    /// The same, but what is asked for is done: only the answer is lost.
    pub fn lose(&self, at: &'static str, times: usize, reply: fn() -> Reply) {
        self.state().faults.push(Fault { at, times, done: true, reply });
    }

    /// What statements that have this text come to, one after the other.
    pub fn plan(&self, statement: &str, plans: Vec<Plan>) {
        self.state().plans.push((statement.to_owned(), plans));
    }

    /// Statements that have this text read so many bytes of so many tables.
    pub fn reads(&self, statement: &str, bytes: u64, tables: u64) {
        self.state().reads.insert(0, (statement.to_owned(), bytes, tables));
    }

    /// Statements that have this text name a table that is not there yet, the first times that they are planned.
    pub fn unplannable(&self, statement: &str, times: usize) {
        self.state().unplannable.push((statement.to_owned(), times));
    }

    /// The statements that were only planned.
    pub fn dry_runs(&self) -> Vec<String> {
        let asked = self.door.asked();
        let planned = asked.iter().filter(|asked| is_dry_run(asked)).map(|asked| {
            let job: Value = serde_json::from_str(&asked.body).expect("JSON");
            job["configuration"]["query"]["query"].as_str().expect("a statement").to_owned()
        });
        planned.collect()
    }

    /// Whoever is the first to ask for rows of a statement by a query with this text waits until so many jobs have been sent.
    pub fn hold_rows(&self, text: &'static str, jobs: usize) {
        self.state().held_rows = Some((text, jobs));
    }

    /// No key is good any more.
    pub fn refuse_keys(&self) {
        self.state().refuses_keys = true;
    }

    /// The jobs that were sent, by their names.
    pub fn jobs(&self) -> BTreeMap<String, Value> {
        self.state().jobs.iter().map(|(id, (job, _))| (id.clone(), job.clone())).collect()
    }

    /// How many requests had a path with this text; those that only plan a statement are not among them.
    pub fn asked(&self, text: &str) -> usize {
        self.door.asked().iter().filter(|asked| asked.path.contains(text) && !is_dry_run(asked)).count()
    }

    /// The key of an account that may use it.
    pub fn key(&self) -> Value {
        json!({
            "type": "service_account", "project_id": PROJECT, "private_key_id": "0123456789abcdef",
            "private_key": include_str!("../bigquery/test-key.pem"), "client_email": ACCOUNT, "client_id": "1",
            "token_uri": format!("{}/token", self.door.url),
        })
    }

    /// A project whose connection `ga4` leads here with that key.
    pub fn project(&self) -> Project {
        let project = Project::empty();
        project.write("haul.toml", "warehouse = \"warehouse\"\n");
        project.write("key.json", &self.key().to_string());
        project.write("connections.toml", &format!(
            "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[ga4]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nlocation = \"EU\"\nendpoint = \"{}\"\nservice_account = {{ file = \"key.json\" }}\n",
            self.door.url
        ));
        project
    }
}

/// An error as BigQuery answers it.
pub fn refusal(status: u16, reason: &str, message: &str) -> Reply {
    let error = json!({ "error": {
        "code": status, "message": message, "status": "SOME_STATUS",
        "errors": [{ "message": message, "domain": "global", "reason": reason }],
    } });
    Reply::new(status, error.to_string()).header("content-type", "application/json; charset=UTF-8")
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Reply {
        if asked.path == "/token" {
            return self.token(asked);
        }
        let bearer = asked.header("authorization").strip_prefix("Bearer ");
        if !bearer.is_some_and(|token| self.tokens.iter().any(|good| good == token)) {
            return refusal(401, "authError", "Request had invalid authentication credentials.");
        }
        let planned = is_dry_run(asked);
        let hit = |fault: &&mut Fault| fault.times > 0 && !planned && asked.path.contains(fault.at);
        let fault = self.faults.iter_mut().find(hit);
        let fault = fault.map(|fault| {
            fault.times -= 1;
            (fault.done, fault.reply)
        });
        match fault {
            Some((false, reply)) => reply(),
            Some((true, reply)) => {
                self.serve(asked);
                reply()
            }
            None => self.serve(asked),
        }
    }

    /// RFC 7523, as Google's token endpoint takes it.
    fn token(&mut self, asked: &Asked) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(asked.body.as_bytes()).into_owned().collect();
        let claims = form.get("assertion").and_then(|jwt| {
            let claims = jwt.split('.').nth(1)?;
            serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()
        });
        let claims = claims.unwrap_or_default();
        let good = form.get("grant_type").is_some_and(|grant| grant == "urn:ietf:params:oauth:grant-type:jwt-bearer")
            && claims["iss"] == ACCOUNT
            && claims["scope"] == "https://www.googleapis.com/auth/bigquery"
            && claims["aud"].as_str().is_some_and(|audience| audience.ends_with("/token"));
        if !good || self.refuses_keys {
            return Reply::new(
                400,
                json!({ "error": "invalid_grant", "error_description": "Invalid JWT" }).to_string(),
            );
        }
        let token = format!("ya29.strict-token-number-{}", self.tokens.len() + 1);
        self.tokens.push(token.clone());
        Reply::json(&json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }))
    }

    fn serve(&mut self, asked: &Asked) -> Reply {
        let query: HashMap<String, String> = url::form_urlencoded::parse(asked.query.as_bytes()).into_owned().collect();
        let known = ["maxResults", "pageToken", "formatOptions.useInt64Timestamp", "location", "timeoutMs"];
        if let Some(unknown) = query.keys().find(|name| !known.contains(&name.as_str())) {
            return refusal(400, "invalid", &format!("Invalid JSON payload received. Unknown name \"{unknown}\""));
        }
        let base = format!("/bigquery/v2/projects/{PROJECT}/");
        let Some(path) = asked.path.strip_prefix(&base) else {
            return refusal(404, "notFound", &format!("Not found: {}", asked.path));
        };
        match path.split('/').collect::<Vec<_>>()[..] {
            ["datasets"] => {
                Reply::json(&json!({ "kind": "bigquery#datasetList", "etag": "e", "datasets": self.datasets() }))
            }
            ["datasets", dataset, "tables"] => self.listed(dataset),
            ["datasets", dataset, "tables", table] => self.resource(dataset, table),
            ["datasets", dataset, "tables", table, "data"] => self.data(dataset, table, &query),
            ["jobs"] => self.insert(&asked.body),
            ["jobs", id] | ["jobs", id, "cancel"] => self.job(id),
            ["queries", id] => self.results(id, &query),
            _ => refusal(404, "notFound", &format!("Not found: {path}")),
        }
    }

    fn datasets(&self) -> Vec<Value> {
        let mut names: Vec<&str> = self.tables.keys().filter_map(|table| table.split('.').next()).collect();
        names.dedup();
        names.iter().map(|name| json!({ "datasetReference": { "projectId": PROJECT, "datasetId": name } })).collect()
    }

    fn listed(&self, dataset: &str) -> Reply {
        let names = self.tables.keys().filter_map(|name| name.strip_prefix(&format!("{dataset}.")));
        let tables: Vec<Value> = names
            .map(|name| json!({ "tableReference": { "projectId": PROJECT, "datasetId": dataset, "tableId": name } }))
            .collect();
        if tables.is_empty() {
            return refusal(404, "notFound", &format!("Not found: Dataset {PROJECT}:{dataset}"));
        }
        Reply::json(&json!({ "kind": "bigquery#tableList", "totalItems": tables.len(), "tables": tables }))
    }

    fn stored(&self, dataset: &str, table: &str) -> Result<&Stored, Reply> {
        self.tables
            .get(&format!("{dataset}.{table}"))
            .ok_or_else(|| refusal(404, "notFound", &format!("Not found: Table {PROJECT}:{dataset}.{table}")))
    }

    fn resource(&self, dataset: &str, table: &str) -> Reply {
        let found = match self.stored(dataset, table) {
            Ok(found) => found,
            Err(reply) => return reply,
        };
        let mut resource = json!({
            "kind": "bigquery#table", "etag": "e", "type": "TABLE", "location": "EU",
            "tableReference": { "projectId": PROJECT, "datasetId": dataset, "tableId": table },
            "schema": { "fields": found.schema },
            "numRows": found.rows.len().to_string(), "numBytes": (found.rows.len() * 100).to_string(),
            "creationTime": "1714600000000", "lastModifiedTime": found.modified.to_string(),
        });
        if found.streaming {
            resource["streamingBuffer"] =
                json!({ "estimatedRows": "3", "estimatedBytes": "300", "oldestEntryTime": "1714600000000" });
        }
        Reply::json(&resource)
    }

    fn data(&mut self, dataset: &str, table: &str, query: &HashMap<String, String>) -> Reply {
        let found = match self.stored(dataset, table) {
            Ok(found) => found.clone(),
            Err(reply) => return reply,
        };
        let reply = page(
            &found.rows,
            &found.modified.to_string(),
            self.page,
            query,
            json!({ "kind": "bigquery#tableDataList" }),
        );
        self.pages += 1;
        if let Some((_, name, other)) = self.after_page.take_if(|(pages, ..)| *pages == self.pages) {
            self.tables.insert(name, other);
        }
        reply
    }

    fn insert(&mut self, body: &str) -> Reply {
        let job: Value = serde_json::from_str(body).expect("JSON");
        if job["configuration"]["dryRun"] == true {
            return self.planned(&job);
        }
        let id = job["jobReference"]["jobId"].as_str().expect("a job of a name").to_owned();
        assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{id}");
        assert_eq!(job["configuration"]["query"]["useLegacySql"], false, "{job}");
        if self.jobs.contains_key(&id) {
            return refusal(409, "duplicate", &format!("Already Exists: Job {PROJECT}:EU.{id}"));
        }
        let sql = job["configuration"]["query"]["query"].as_str().expect("a statement");
        let plans = self.plans.iter_mut().find(|(text, _)| sql.contains(text.as_str()));
        let plans = &mut plans.unwrap_or_else(|| panic!("nothing is planned for {sql}")).1;
        let mut plan = if plans.len() > 1 { plans.remove(0) } else { plans[0].clone() };
        let (_, billed, _) = self.bytes(sql);
        let most =
            job["configuration"]["query"]["maximumBytesBilled"].as_str().map(|text| text.parse().expect("a number"));
        if let Some(most) = most.filter(|most: &u64| *most < billed) {
            let message = format!("Query exceeded limit for bytes billed: {most}. {billed} or higher required.");
            plan = Plan::Fails { reason: "bytesBilledLimitExceeded", message: message.leak() };
        }
        self.jobs.insert(id.clone(), (job, plan));
        self.job(&id)
    }

    /// What a statement reads, what is billed for it, and how many tables it names: whole MiB, at least ten a table.
    fn bytes(&self, sql: &str) -> (u64, u64, u64) {
        let reads = self.reads.iter().find(|(text, ..)| sql.contains(text.as_str()));
        let (bytes, tables) = reads.map_or((0, 1), |(_, bytes, tables)| (*bytes, *tables));
        let billed = if bytes == 0 { 0 } else { (bytes.div_ceil(1 << 20) << 20).max((10 << 20) * tables) };
        (bytes, billed, tables)
    }

    /// jobs.insert with `dryRun`: the job has no name, it is done at once, and its statistics tell what it would read.
    fn planned(&mut self, job: &Value) -> Reply {
        let (query, reference) = (&job["configuration"]["query"], &job["jobReference"]);
        assert_eq!((&query["useLegacySql"], &reference["jobId"]), (&json!(false), &Value::Null), "{job}");
        let sql = query["query"].as_str().expect("a statement");
        let early = self.unplannable.iter_mut().find(|(text, times)| *times > 0 && sql.contains(text.as_str()));
        if let Some((_, times)) = early {
            *times -= 1;
            return refusal(
                404,
                "notFound",
                &format!("Not found: Table {PROJECT}:shop.orders was not found in location EU"),
            );
        }
        let plan = self.plans.iter().find(|(text, _)| sql.contains(text.as_str())).and_then(|(_, plans)| plans.first());
        let schema = match plan {
            Some(Plan::Fails { reason: "invalidQuery", message }) => return refusal(400, "invalidQuery", message),
            Some(Plan::Rows(schema, _)) => schema.clone(),
            _ => json!([]),
        };
        let (bytes, _, tables) = self.bytes(sql);
        let table = |n: u64| json!({ "projectId": PROJECT, "datasetId": "shop", "tableId": format!("table_{n}") });
        Reply::json(&json!({
            "kind": "bigquery#job", "etag": "e", "configuration": job["configuration"],
            "jobReference": { "projectId": PROJECT, "location": "EU" },
            "statistics": {
                "creationTime": "1714600000000", "totalBytesProcessed": bytes.to_string(),
                "query": {
                    "totalBytesProcessed": bytes.to_string(), "totalBytesBilled": "0", "cacheHit": false,
                    "statementType": "SELECT", "totalBytesProcessedAccuracy": "PRECISE",
                    "referencedTables": (0..tables).map(table).collect::<Vec<_>>(), "schema": { "fields": schema },
                },
            },
            "status": { "state": "DONE" },
        }))
    }

    fn job(&self, id: &str) -> Reply {
        let Some((job, plan)) = self.jobs.get(id) else { return no_job(id) };
        let (bytes, billed, _) = self.bytes(job["configuration"]["query"]["query"].as_str().expect("a statement"));
        let mut status = json!({ "state": if matches!(plan, Plan::Runs) { "RUNNING" } else { "DONE" } });
        if let Plan::Fails { reason, message } = plan {
            status["errorResult"] = json!({ "reason": reason, "message": message });
        }
        Reply::json(&json!({
            "kind": "bigquery#job", "id": format!("{PROJECT}:EU.{id}"), "status": status,
            "jobReference": { "projectId": PROJECT, "jobId": id, "location": "EU" },
            "configuration": job["configuration"],
            "statistics": {
                "creationTime": "1714600000000", "totalBytesProcessed": bytes.to_string(), "totalSlotMs": "1234",
                "query": {
                    "totalBytesProcessed": bytes.to_string(), "totalBytesBilled": billed.to_string(), "cacheHit": false,
                    "statementType": "SELECT", "totalSlotMs": "1234",
                },
            },
        }))
    }

    fn results(&mut self, id: &str, query: &HashMap<String, String>) -> Reply {
        assert_eq!(
            query.get("location").map(String::as_str),
            Some("EU"),
            "a job outside of the US is found by its location"
        );
        let Some((_, plan)) = self.jobs.get(id) else { return no_job(id) };
        match plan {
            Plan::Runs => Reply::json(&json!({ "kind": "bigquery#getQueryResultsResponse", "jobComplete": false })),
            Plan::Fails { reason, message } => {
                let status = match *reason {
                    "backendError" => 503,
                    _ => 400,
                };
                refusal(status, reason, message)
            }
            Plan::Rows(schema, rows) => {
                let envelope = json!({ "jobComplete": true, "schema": { "fields": schema } });
                page(rows, id, self.page, query, envelope)
            }
        }
    }
}

/// Whether a statement is only planned.
fn is_dry_run(asked: &Asked) -> bool {
    asked.path.ends_with("/jobs") && asked.body.contains("\"dryRun\":true")
}

fn no_job(id: &str) -> Reply {
    refusal(404, "notFound", &format!("Not found: Job {PROJECT}:{id}"))
}

/// A page of rows; its token belongs to this version alone.
fn page(rows: &[Value], version: &str, size: usize, query: &HashMap<String, String>, mut envelope: Value) -> Reply {
    let most: usize = query["maxResults"].parse().expect("a number");
    let start = match query.get("pageToken") {
        None => 0,
        Some(token) => match token.strip_prefix(&format!("{version}/")) {
            Some(start) => start.parse().expect("a token of ours"),
            None => return refusal(400, "invalid", "Invalid page token."),
        },
    };
    assert!(most == 0 || query.get("formatOptions.useInt64Timestamp").is_some_and(|word| word == "true"));
    let end = rows.len().min(start + size.min(most));
    envelope["totalRows"] = json!(rows.len().to_string());
    if most > 0 {
        envelope["rows"] = json!(rows[start..end]);
    }
    if end < rows.len() {
        envelope["pageToken"] = json!(format!("{version}/{end}"));
    }
    Reply::json(&envelope)
}

/// Rows `{ id, name }` as cells, and the columns that they have.
pub fn stored(ids: std::ops::Range<u64>, modified: u64) -> Stored {
    let rows = ids.map(|id| json!({ "f": [{ "v": id.to_string() }, { "v": format!("name {id}") }] })).collect();
    Stored { schema: columns(), rows, modified, streaming: false }
}

/// The columns of [`stored`].
pub fn columns() -> Value {
    json!([{ "name": "id", "type": "INTEGER", "mode": "REQUIRED" }, { "name": "name", "type": "STRING" }])
}
