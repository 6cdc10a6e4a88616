//! Taps from PyPI, as they are: their rows become tables, and their state comes back.

use std::process::Command;

use serde_json::{Value, json};

use super::project;
use crate::support::counterparts::program;
use crate::support::logs::said;
use crate::support::postgres::Postgres;
use crate::support::project::{Project, told};

const PASSWORD: &str = "open-barley-7";

/// What the server itself answers, row by row as JSON.
fn ask(server: &Postgres, database: &str, sql: &str) -> Value {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", Postgres::USER]);
    psql.args(["-p", &server.port.to_string(), "-d", database, "-c", sql]).env("PGPASSWORD", PASSWORD);
    let output = psql.output().expect("psql starts");
    assert!(output.status.success(), "{sql}: {}", told(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| json!(line))).collect()
}

const SHOP: &str = "
create table orders (id bigint primary key, customer text, amount numeric(12,2), shipped boolean, changed timestamptz not null);
insert into orders select 9007199254740993 + n, 'c' || n % 7, n * 1.25, n % 2 = 0, timestamptz '2024-05-01 06:00+02' + n * interval '1 second' from generate_series(0, 2999) n;
create table customers (id text primary key, name text);
insert into customers select 'c' || n, 'Customer ' || n from generate_series(0, 6) n;
";

/// A database of its own, and a project that reads it with the tap.
fn shop(server: &Postgres, database: &str) -> Project {
    ask(server, "postgres", &format!("create database {database}"));
    ask(server, database, SHOP);
    let tap = program("taps-postgres", "tap-postgres");
    let pipeline = r#"
[[extract]]
name = "orders"
hook = "shop"
stream = "public-orders"
replication_key = "changed"
columns = { amount = "DECIMAL(12,2)" }

[[extract]]
name = "customers"
hook = "shop"
stream = "customers"
"#;
    let project = project(&[], pipeline);
    let hook = format!(
        "type = \"process\"\nprotocol = \"singer\"\ncommand = [{:?}]\nconnection = \"db\"\n",
        tap.display().to_string()
    );
    project.write("hooks/shop.toml", &hook);
    connect(server, &project, database, PASSWORD);
    project
}

fn connect(server: &Postgres, project: &Project, database: &str, password: &str) {
    let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    let port = server.port;
    project.write("connections.toml", &format!("{warehouse}\n[db]\ntype = \"process\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"postgres\"\npassword = \"{password}\"\ndbname = \"{database}\"\n"));
}

/// Both sides have the same orders, to the last digit; without those that are gone there, which no tap of this kind sees.
fn compare(server: &Postgres, project: &Project, database: &str) {
    let there = ask(
        server,
        database,
        "select json_build_object('id', id::text, 'customer', customer, 'amount', amount::text, 'shipped', shipped, 'changed', to_char(changed at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')) from orders order by id",
    );
    let here = project.query(
        "select cast(id as varchar) as id, customer, cast(amount as varchar) as amount, shipped, strftime(changed, '%Y-%m-%d %H:%M:%S') as changed from raw.orders order by raw.orders.id",
    );
    let there = there.as_array().expect("rows");
    let here = here.as_array().expect("rows");
    assert!(there.len() > 2500);
    let gone = here.iter().filter(|row| !there.iter().any(|other| other["id"] == row["id"])).count();
    let missing: Vec<_> = there.iter().filter(|row| !here.contains(row)).collect();
    assert!(missing.is_empty(), "{} rows differ, such as {:?}", missing.len(), missing[0]);
    assert_eq!(here.len(), there.len() + gone);
}

const CHANGES: &str = "
update orders set amount = amount + 0.01, changed = '2024-05-02 07:00+00' where id % 500 = 0;
insert into orders values (5, 'c1', 123456789.99, null, '2024-05-02 08:00+00');
update customers set name = 'Somebody else' where id = 'c3';
delete from customers where id = 'c5';
";

#[test]
fn a_tap_of_postgres_is_asked_only_for_what_is_new_and_loses_and_doubles_nothing() {
    let server = Postgres::start(PASSWORD).expect("PostgreSQL: scripts/counterparts.sh postgres installs it");
    brings_two_mornings(&server);
    survives_a_kill_around_the_commit(&server);
}

fn brings_two_mornings(server: &Postgres) {
    let (database, date) = ("two_mornings", "2024-05-02");
    let project = shop(server, database);
    project.stdout(&["run", "days", "--date", date]);
    compare(server, &project, database);
    ask(server, database, CHANGES);
    let second = told(&project.output(&["run", "days", "--date", "2024-05-03", "--verbose"]));
    // Six orders changed, one is new, and the newest of the first morning is told again.
    assert!(second.contains("loaded    orders all: 8 rows") || second.contains("loaded    orders: 8 rows"), "{second}");
    compare(server, &project, database);
    let customers = project.query("select id, name from raw.customers order by id");
    assert_eq!(
        customers,
        ask(server, database, "select json_build_object('id', id, 'name', name) from customers order by id")
    );
    let log = said(&project, "orders");
    assert!(log.contains("incremental replication"), "the tap's own words are the log: {log}");

    // Somebody else's password: the tap's words are the reason, and the rows stay.
    connect(server, &project, database, "wrong-password-9");
    let output = project.output(&["run", "days", "--date", "2024-05-04"]);
    let refused = told(&output);
    assert_eq!(output.status.code(), Some(1), "{refused}");
    assert!(refused.contains("password authentication failed") && !refused.contains("wrong-password-9"), "{refused}");
    connect(server, &project, database, PASSWORD);
    project.stdout(&["run", "days", "--date", "2024-05-04"]);
    compare(server, &project, database);
}

fn survives_a_kill_around_the_commit(server: &Postgres) {
    for point in ["judged:1", "committed:1"] {
        let database = format!("killed_{}", point.split(':').next().expect("a name"));
        let project = shop(server, &database);
        project.stdout(&["run", "days", "--date", "2024-05-02"]);
        ask(server, &database, CHANGES);
        let killed = project.output(&["run", "days", "--date", "2024-05-03", "--kill-at", point]);
        assert!(!killed.status.success(), "{point}");
        // What was staged is gone as well: the tap is asked again, with the state from before.
        let _ = std::fs::remove_dir_all(project.path().join(".haul/stage"));
        project.stdout(&["run", "days", "--date", "2024-05-03"]);
        compare(server, &project, &database);
        let count = project.query("select count(*) as n, count(distinct id) as ids from raw.orders");
        assert_eq!(count, json!([{ "n": 3001, "ids": 3001 }]), "{point}");
    }
}

#[test]
fn a_tap_of_spreadsheets_brings_each_day_from_its_own_file_and_again_when_that_changes() {
    let tap = program("taps-spreadsheets", "tap-spreadsheets");
    let pipeline = format!(
        r#"
[window]
lookback = 2

[[extract]]
name = "sales"
type = "process"
protocol = "singer"
command = [{:?}]
config = {{ files = [{{ path = "{{{{ var('folder') }}}}/{{{{ ds }}}}.csv", format = "csv", table_name = "sales", primary_keys = ["id"] }}] }}
keys = ["id"]
"#,
        tap.display().to_string()
    );
    let project = project(&[], &pipeline);
    project.write(
        "haul.toml",
        &format!(
            "warehouse = \"warehouse\"\nvars = {{ folder = {:?} }}\n",
            project.path().join("sales").display().to_string()
        ),
    );
    let day = |from: u32, to: u32, price: u32| {
        let rows: String = (from..to).map(|id| format!("{id},item {id},{}\n", id * price)).collect();
        format!("id,name,price\n{rows}")
    };
    project.write("sales/2024-05-01.csv", &day(1, 40, 3));
    project.write("sales/2024-05-02.csv", &day(40, 90, 3));
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    let sums = "select cast(_haul_unit as varchar) as day, count(*) as n, sum(cast(id as bigint)) as ids, sum(cast(price as bigint)) as prices from raw.sales group by 1 order by 1";
    let sum = |from: u32, to: u32| (from..to).sum::<u32>();
    let first = json!({ "day": "2024-05-01", "n": 39, "ids": sum(1, 40), "prices": 3 * sum(1, 40) });
    assert_eq!(
        project.query(sums),
        json!([first, { "day": "2024-05-02", "n": 50, "ids": sum(40, 90), "prices": 3 * sum(40, 90) }])
    );

    project.write("sales/2024-05-02.csv", &day(41, 95, 5));
    let second = told(&project.output(&["run", "days", "--date", "2024-05-03"]));
    assert_eq!(
        project.query(sums),
        json!([first, { "day": "2024-05-02", "n": 54, "ids": sum(41, 95), "prices": 5 * sum(41, 95) }])
    );
    assert!(second.contains("+5 -1 ~49"), "{second}");
}
