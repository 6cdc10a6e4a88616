//! Trials: what brought other schedulers down, done to the daemon and its warehouse on purpose.

mod beside;
mod chaos;
mod disk;
mod fences;
mod outages;
mod sizes;

use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::cable::Cable;
use crate::support::databases::{Database, PostgresDatabase, SECRET};
use crate::support::gate::{Served, until};
use crate::support::project::Project;

/// The daemon's settings in these tests: it looks often, believes nobody for long, and tries again soon.
const QUICK: &str = "warehouse = \"warehouse\"\n[serve]\npoll = \"100ms\"\nlease = \"1s\"\n\
                     [retry]\nmax_attempts = 100\nmin_backoff = \"200ms\"\nmax_backoff = \"500ms\"\n";

/// One day, computed in the warehouse as soon as a test lets it.
const GATED: &str = "[window]\nlookback = 1\n[[transform]]\nname = \"x\"\ninto = \"mart.x\"\n\
                     sql = \"select {{ ds | sql }} as day, cast(pg_advisory_xact_lock_shared(4711) as varchar) as waited\"\n";

/// Keeps everybody from writing to the state store of a project, until it is let go.
struct Locked {
    runtime: tokio::runtime::Runtime,
    writer: sqlx::SqliteConnection,
}

impl Locked {
    /// As soon as nobody else writes.
    fn of(project: &Project) -> Self {
        Self::within(project, Duration::from_mins(1)).expect("the lock")
    }

    /// If nobody else writes.
    fn at_once(project: &Project) -> Option<Self> {
        Self::within(project, Duration::ZERO).ok()
    }

    fn within(project: &Project, patience: Duration) -> Result<Self, sqlx::Error> {
        let file = SqliteConnectOptions::new().filename(project.path().join(".haul/state.db")).busy_timeout(patience);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let writer = runtime.block_on(async {
            let mut writer = file.connect().await.expect("the file");
            sqlx::query("BEGIN EXCLUSIVE").execute(&mut writer).await.map(|_| writer)
        })?;
        Ok(Self { runtime, writer })
    }

    fn let_go(self) {
        self.runtime.block_on(self.writer.close()).expect("let go");
    }
}

/// A project whose warehouse is a PostgreSQL database, with one pipeline `p`.
struct House {
    project: Project,
    database: PostgresDatabase,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new(pipeline: &str) -> Self {
        let (project, database) = (Project::empty(), PostgresDatabase::new());
        project.write("haul.toml", QUICK);
        project.write("connections.toml", &database.connection(SECRET).replace("[origin]", "[warehouse]"));
        project.write("pipelines/p.toml", pipeline);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { project, database, runtime }
    }

    /// A daemon that reaches the warehouse by a cable, and the cable.
    fn served_by_cable(&self) -> (Served, Cable) {
        let server = self.database.server();
        let cable = Cable::to(server.port);
        let connection = serde_json::json!({
            "type": "postgres", "host": server.host, "port": cable.port, "user": server.user,
            "password": SECRET, "database": server.database,
        });
        let mut command = self.project.haul(&["serve", "--log", "json"]);
        command.env("HAUL_CONN_WAREHOUSE", connection.to_string());
        (Served::of(command), cable)
    }

    /// Shuts the gate of the pipeline: what is computed waits until the value is dropped.
    fn shut(&self) -> sqlx::PgConnection {
        self.runtime.block_on(async {
            let mut session = self.database.session().await;
            sqlx::query("SELECT pg_advisory_lock(4711)").execute(&mut session).await.expect("the lock");
            session
        })
    }

    /// Opens the gate.
    fn open(&self, gate: sqlx::PgConnection) {
        self.runtime.block_on(sqlx::Connection::close(gate)).expect("it closes");
    }

    fn number(&self, sql: &'static str) -> i64 {
        self.runtime.block_on(async {
            let mut session = self.database.session().await;
            sqlx::query_scalar(sql).fetch_one(&mut session).await.expect("a number")
        })
    }

    /// Waits until a load of so many processes stands before the gate.
    fn wait_for_loads(&self, count: i64) {
        let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database \
                       WHERE datname = current_database() AND locktype = 'advisory' AND objid = 4711 AND NOT granted";
        until("loads under way", || (self.number(waiting) == count).then_some(()));
    }

    /// Waits until no session of haul does anything in the warehouse any more.
    fn wait_for_quiet(&self) {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                        AND application_name LIKE 'haul%' AND state <> 'idle'";
        until("sessions that are over", || (self.number(sessions) == 0).then_some(()));
    }

    /// How often each unit was committed, and how many rows it has.
    fn commits(&self) -> Vec<(String, i64, i64)> {
        self.runtime.block_on(async {
            let mut session = self.database.session().await;
            let there: bool = sqlx::query_scalar("SELECT to_regclass('mart._haul_loads') IS NOT NULL AND to_regclass('mart.x') IS NOT NULL")
                .fetch_one(&mut session)
                .await
                .expect("an answer");
            if !there {
                return Vec::new();
            }
            let commits = "SELECT unit, count(*), (SELECT count(*) FROM mart.x WHERE cast(_haul_unit AS varchar) = unit) \
                           FROM mart._haul_loads GROUP BY unit ORDER BY unit";
            sqlx::query_as(commits).fetch_all(&mut session).await.expect("rows")
        })
    }

    /// The jobs of the project, whatever became of them, the first one first.
    fn jobs(&self) -> Vec<Value> {
        let mut jobs = self.project.json(&["queue", "--all"]).as_array().expect("a list").clone();
        jobs.reverse();
        jobs
    }

    /// Waits until the first job has ended; returns it.
    fn ended(&self) -> Value {
        until("the end of the job", || self.jobs().into_iter().next().filter(|job| job["state"] == "done"))
    }
}
