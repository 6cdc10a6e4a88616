//! Databases as sources: real servers that the tests of a module share, and files; each test has a database of its own.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use haul::model::connection::{ServerConnection, Tls};
use sqlx::{Connection as _, Executor, Row};

use super::mariadb::MariaDb;
use super::postgres::Postgres;

/// The password of every server, which must never be seen.
pub const SECRET: &str = "table-secret-77";

/// A database that event tables are read from.
pub trait Database {
    /// Its table of `connections.toml`, under the name `origin`; with another password where one is given.
    fn connection(&self, password: &str) -> String;

    /// A table of `connections.toml` that leads to nobody.
    fn gone(&self) -> Option<String>;

    /// Runs statements, one after the other.
    fn execute(&self, statements: &[&str]);

    /// A type of instants, and one of wall-clock times.
    fn stamps(&self) -> (&'static str, &'static str);

    /// How often rows of a table were read: by the server's own log of statements.
    fn reads(&self, table: &str) -> Option<usize>;

    /// Statements that make `rows` rows of `id`, `happened_at` (on 2024-05-03) and `name` in a table `big`.
    fn big(&self, rows: u32) -> String;

    /// Ends the connection of the binary while it reads; false while it does not read yet.
    fn cut(&self) -> bool;
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn fresh() -> String {
    format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// The server that is running for another test, or a new one.
fn shared<S>(place: &Mutex<Weak<S>>, start: impl FnOnce() -> S) -> Arc<S> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    place.upgrade().unwrap_or_else(|| {
        let server = Arc::new(start());
        *place = Arc::downgrade(&server);
        server
    })
}

fn toml(kind: &str, port: u16, user: &str, password: &str, database: &str) -> String {
    format!(
        "[origin]\ntype = \"{kind}\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{user}\"\npassword = \"{password}\"\ndatabase = \"{database}\"\n"
    )
}

/// A database of a PostgreSQL server.
pub struct PostgresDatabase {
    server: Arc<Postgres>,
    name: String,
}

impl PostgresDatabase {
    pub fn new() -> Self {
        static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let start = || {
            let server = Postgres::start(SECRET);
            server.unwrap_or_else(|missing| panic!("{missing}: scripts/counterparts.sh postgres installs it"))
        };
        let new = Self { server: shared(&SERVER, start), name: fresh() };
        let name = &new.name;
        new.execute_in(
            "postgres",
            &[
                &format!("CREATE DATABASE {name}"),
                &format!("ALTER DATABASE {name} SET log_statement = 'all'"),
                "ALTER SYSTEM SET log_line_prefix = '%d '",
                "SELECT pg_reload_conf()",
            ],
        );
        // The server takes up its new settings when it comes to it.
        let prefixed = "SELECT count(*) FROM pg_settings WHERE name = 'log_line_prefix' AND setting = '%d '";
        while new.number(prefixed) == 0 {
            std::thread::yield_now();
        }
        new
    }

    /// The settings of a connection to it.
    pub fn server(&self) -> ServerConnection {
        ServerConnection {
            host: "127.0.0.1".to_owned(),
            port: self.server.port,
            user: Postgres::USER.to_owned(),
            password: Some(SECRET.to_owned().into()),
            database: self.name.clone(),
            tls: Tls::Disable,
            statement_timeout: None,
            lock_timeout: None,
        }
    }

    /// A session of somebody else.
    pub async fn session(&self) -> sqlx::PgConnection {
        sqlx::PgConnection::connect(&self.url(&self.name)).await.expect("PostgreSQL")
    }

    /// Runs statements inside of a runtime.
    pub async fn run(&self, sql: &str) {
        let mut connection = self.session().await;
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{}:{SECRET}@127.0.0.1:{}/{database}?sslmode=disable", Postgres::USER, self.server.port)
    }

    fn execute_in(&self, database: &str, statements: &[&str]) {
        wait(async {
            let mut connection = sqlx::PgConnection::connect(&self.url(database)).await.expect("PostgreSQL");
            for statement in statements {
                let done = connection.execute(sqlx::AssertSqlSafe((*statement).to_owned())).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
        });
    }

    /// The only number that a statement has.
    fn number(&self, sql: &str) -> i64 {
        wait(async {
            let mut connection = sqlx::PgConnection::connect(&self.url(&self.name)).await.expect("PostgreSQL");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await;
            row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
        })
    }
}

impl Database for PostgresDatabase {
    fn connection(&self, password: &str) -> String {
        toml("postgres", self.server.port, Postgres::USER, password, &self.name)
    }

    fn gone(&self) -> Option<String> {
        Some(toml("postgres", super::doors::nobody(), Postgres::USER, SECRET, &self.name))
    }

    fn execute(&self, statements: &[&str]) {
        self.execute_in(&self.name, statements);
    }

    fn stamps(&self) -> (&'static str, &'static str) {
        ("timestamptz", "timestamp")
    }

    /// The server logs every statement.
    fn reads(&self, table: &str) -> Option<usize> {
        let from = format!("FROM \"{table}\"");
        let of_database = format!("{} ", self.name);
        let log = self.server.log();
        let reads = log
            .lines()
            .filter(|line| line.starts_with(&of_database) && line.contains("COPY (SELECT") && line.contains(&from));
        Some(reads.count())
    }

    fn big(&self, rows: u32) -> String {
        format!(
            "CREATE TABLE big AS SELECT n::int8 AS id, timestamptz '2024-05-03 00:00:00+00' + n * interval '1 millisecond' AS happened_at, \
             md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) AS name FROM generate_series(1, {rows}) AS n"
        )
    }

    fn cut(&self) -> bool {
        self.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'haul' AND query LIKE 'COPY%'",
        ) > 0
    }
}

/// A database of a MariaDB server.
pub struct MariaDatabase {
    server: Arc<MariaDb>,
    name: String,
}

impl MariaDatabase {
    pub fn new() -> Self {
        static SERVER: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());
        let new = Self { server: shared(&SERVER, || MariaDb::start(SECRET)), name: fresh() };
        new.execute_in("mysql", &[&format!("CREATE DATABASE {} CHARACTER SET utf8mb4", new.name)]);
        new.execute_in("mysql", &["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"]);
        new
    }

    fn url(&self, database: &str) -> String {
        format!("mysql://{}:{SECRET}@127.0.0.1:{}/{database}", MariaDb::USER, self.server.port)
    }

    fn execute_in(&self, database: &str, statements: &[&str]) {
        wait(async {
            let mut connection = sqlx::MySqlConnection::connect(&self.url(database)).await.expect("MariaDB");
            for statement in statements {
                let done = sqlx::raw_sql(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
        });
    }

    fn numbers(&self, sql: &str) -> Vec<i64> {
        wait(async {
            let mut connection = sqlx::MySqlConnection::connect(&self.url(&self.name)).await.expect("MariaDB");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
            rows.unwrap_or_else(|error| panic!("{sql}: {error}")).iter().map(|row| row.get(0)).collect()
        })
    }
}

impl Database for MariaDatabase {
    fn connection(&self, password: &str) -> String {
        toml("mysql", self.server.port, MariaDb::USER, password, &self.name)
    }

    fn gone(&self) -> Option<String> {
        Some(toml("mysql", super::doors::nobody(), MariaDb::USER, SECRET, &self.name))
    }

    fn execute(&self, statements: &[&str]) {
        self.execute_in(&self.name, statements);
    }

    fn stamps(&self) -> (&'static str, &'static str) {
        ("timestamp(6) NULL", "datetime(6)")
    }

    /// The server logs every statement that is executed.
    fn reads(&self, table: &str) -> Option<usize> {
        let sql = format!(
            "SELECT count(*) FROM mysql.general_log WHERE command_type = 'Execute' \
             AND argument LIKE 'SELECT `id`%FROM `{table}`%' AND user_host NOT LIKE '%root%' AND thread_id IN \
             (SELECT thread_id FROM mysql.general_log WHERE command_type = 'Connect' AND argument LIKE '% on {}%')",
            self.name
        );
        self.numbers(&sql).first().and_then(|count| usize::try_from(*count).ok())
    }

    fn big(&self, rows: u32) -> String {
        format!(
            "CREATE TABLE big AS SELECT seq AS id, timestamp('2024-05-03 00:00:00') + INTERVAL seq * 1000 MICROSECOND AS happened_at, \
             concat(md5(seq), md5(seq + 1), md5(seq + 2)) AS name FROM seq_1_to_{rows}"
        )
    }

    fn cut(&self) -> bool {
        let sql = format!(
            "SELECT id FROM information_schema.processlist WHERE db = '{}' AND info LIKE 'SELECT `id`%FROM `big`%'",
            self.name
        );
        let readers = self.numbers(&sql);
        for reader in &readers {
            self.execute(&[&format!("KILL {reader}")]);
        }
        !readers.is_empty()
    }
}

/// A DuckDB file.
pub struct DuckDbDatabase {
    folder: tempfile::TempDir,
}

impl DuckDbDatabase {
    pub fn new() -> Self {
        let new = Self { folder: tempfile::tempdir().expect("a folder") };
        new.execute(&[]);
        new
    }
}

impl Database for DuckDbDatabase {
    fn connection(&self, _password: &str) -> String {
        format!("[origin]\ntype = \"duckdb\"\npath = \"{}\"\n", self.folder.path().join("origin.duckdb").display())
    }

    fn gone(&self) -> Option<String> {
        Some("[origin]\ntype = \"duckdb\"\npath = \"gone.duckdb\"\n".to_owned())
    }

    fn execute(&self, statements: &[&str]) {
        let file = duckdb::Connection::open(self.folder.path().join("origin.duckdb")).expect("a DuckDB file");
        for statement in statements {
            file.execute_batch(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    fn stamps(&self) -> (&'static str, &'static str) {
        ("timestamptz", "timestamp")
    }

    fn reads(&self, _table: &str) -> Option<usize> {
        None
    }

    fn big(&self, rows: u32) -> String {
        format!(
            "CREATE TABLE big AS SELECT n AS id, (timestamp '2024-05-03 00:00:00' + to_milliseconds(n))::timestamptz AS happened_at, \
             md5(n::varchar) || md5((n + 1)::varchar) || md5((n + 2)::varchar) AS name FROM range(1, {rows} + 1) AS t(n)"
        )
    }

    fn cut(&self) -> bool {
        unreachable!("a file has no server")
    }
}
