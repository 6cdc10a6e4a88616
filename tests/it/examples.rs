//! The shipped pipelines, each run by the binary against a loopback server that speaks its API's real shape.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use haul::demo::{Feed, Server};
use haul::model::drift::{Advice, Drift};
use haul::model::name::TableName;
use haul::state::State;
use serde_json::Value;

use super::support::apis::{LaunchLibrary, Movielens};
use super::support::youtube::YouTube;

/// A copy of the shipped project with connections of its own.
struct Shipped {
    folder: tempfile::TempDir,
}

/// Nothing listens there: for the connections that a test does not use.
const NOWHERE: &str = "http://127.0.0.1:9";

impl Shipped {
    fn new(usgs: &str, movielens: &str, launches: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(root.join("haul.toml"), folder.path().join("haul.toml")).expect("haul.toml");
        for part in ["pipelines", "hooks", "sql"] {
            fs::create_dir(folder.path().join(part)).expect("a folder");
            for file in fs::read_dir(root.join(part)).expect("shipped files").map(|file| file.expect("a file")) {
                fs::copy(file.path(), folder.path().join(part).join(file.file_name())).expect("a copy");
            }
        }
        let shipped = Self { folder };
        shipped.connect(usgs, movielens, launches, Movielens::PASSWORD);
        shipped
    }

    fn connect(&self, usgs: &str, movielens: &str, launches: &str, password: &str) {
        let user = Movielens::USER;
        let connections = format!(
            "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n\
             [usgs]\ntype = \"http\"\nurl = \"{usgs}\"\n\n\
             [movielens]\ntype = \"http\"\nurl = \"{movielens}\"\n\
             auth = {{ type = \"basic\", user = \"{user}\", password = \"{password}\" }}\n\n\
             [launch_library]\ntype = \"http\"\nurl = \"{launches}\"\n\n\
             [youtube]\ntype = \"http\"\nurl = \"{NOWHERE}\"\n\n[youtube_analytics]\ntype = \"http\"\nurl = \"{NOWHERE}\"\n\n\
             [ga4]\ntype = \"bigquery\"\nproject = \"p\"\nendpoint = \"{NOWHERE}\"\n\n\
             [shop]\ntype = \"postgres\"\nhost = \"127.0.0.1\"\nport = 9\nuser = \"u\"\ndatabase = \"d\"\n"
        );
        fs::write(self.folder.path().join("connections.toml"), connections).expect("the connections");
    }

    fn haul(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        command.current_dir(self.folder.path()).args(arguments).env_remove("HAUL_PROJECT").stdin(Stdio::null());
        command.output().expect("haul starts")
    }

    fn run(&self, pipeline: &str, date: &str) {
        let output = self.haul(&["run", pipeline, "--date", date]);
        assert!(output.status.success(), "{}", told(&output));
    }

    /// The rows of a SELECT, whether they are printed as objects or as lists.
    fn query(&self, sql: &str) -> Vec<Vec<Value>> {
        let output = self.haul(&["query", sql, "--output", "json"]);
        assert!(output.status.success(), "{sql}: {}", told(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rows = answer.get("rows").unwrap_or(&answer).as_array().expect("rows").clone();
        let values = |row| match row {
            Value::Object(members) => members.into_iter().map(|(_, value)| value).collect(),
            Value::Array(values) => values,
            other => vec![other],
        };
        rows.into_iter().map(values).collect()
    }

    /// Texts and counts, as in `select day, count(*)`.
    fn counts(&self, sql: &str) -> BTreeMap<String, u64> {
        self.query(sql).iter().map(|row| (text(&row[0]), count(&row[1]))).collect()
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn count(value: &Value) -> u64 {
    text(value).parse().expect("a count")
}

fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

fn days(from: &str, count: usize) -> Vec<NaiveDate> {
    date(from).iter_days().take(count).collect()
}

#[test]
fn all_shipped_files_are_without_fault_and_one_fault_would_be_found() {
    let project = Shipped::new(NOWHERE, NOWHERE, NOWHERE);
    let output = project.haul(&["check"]);
    assert!(output.status.success(), "{}", told(&output));

    let hook = project.folder.path().join("hooks/usgs.toml");
    let text = fs::read_to_string(&hook).expect("a hook");
    fs::write(&hook, text.replace("time_format", "time_fromat")).expect("a fault");
    let output = project.haul(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("time_fromat"), "{}", told(&output));
}

#[test]
fn ratings_come_in_pages_behind_a_password_and_are_ranked() {
    let api = Movielens::start();
    let project = Shipped::new(NOWHERE, &api.url, NOWHERE);
    project.run("ratings", "2019-01-04");

    let window = days("2019-01-01", 3);
    let loaded = project.counts("select cast(_haul_unit as varchar), count(*) from raw.ratings group by all");
    let expected: BTreeMap<String, u64> =
        window.iter().map(|day| (day.to_string(), Movielens::day(*day).len() as u64)).collect();
    assert_eq!(loaded, expected);
    assert_eq!(api.requests(), 9, "three pages a day");

    let mut votes: BTreeMap<u64, (u64, f64)> = BTreeMap::new();
    for rating in window.iter().flat_map(|day| Movielens::day(*day)) {
        let entry = votes.entry(rating.movie).or_default();
        *entry = (entry.0 + 1, entry.1 + rating.rating);
    }
    let ranked = project
        .query("select movie_id, votes, average from mart.ranking where _haul_unit = date '2019-01-03' order by rank");
    assert_eq!(ranked.len(), votes.values().filter(|(votes, _)| *votes >= 2).count());
    let mut last = f64::INFINITY;
    for row in &ranked {
        let (count_of_votes, sum) = votes[&count(&row[0])];
        #[expect(clippy::cast_precision_loss, reason = "a few hundred votes")]
        let average = sum / count_of_votes as f64;
        let printed: f64 = text(&row[2]).parse().expect("a number");
        assert_eq!(count(&row[1]), count_of_votes);
        assert!((printed - average).abs() < 0.001 && printed <= last, "{row:?}, {average}");
        last = printed;
    }
}

#[test]
fn ratings_that_have_not_changed_are_not_written_again() {
    let api = Movielens::start();
    let project = Shipped::new(NOWHERE, &api.url, NOWHERE);
    project.run("ratings", "2019-01-04");
    let loads = project.query("select count(*), max(generation) from _haul_loads");
    project.run("ratings", "2019-01-04");
    assert_eq!(api.requests(), 18, "they are asked for again");
    assert_eq!(project.query("select count(*), max(generation) from _haul_loads"), loads);
}

#[test]
fn a_wrong_password_is_told_without_being_shown() {
    let api = Movielens::start();
    let project = Shipped::new(NOWHERE, &api.url, NOWHERE);
    project.connect(NOWHERE, &api.url, NOWHERE, "not the right one");
    let output = project.haul(&["run", "ratings", "--date", "2019-01-04"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let told = told(&output);
    assert!(told.contains("401") && told.contains("movielens"), "{told}");
    assert!(!told.contains("not the right one"), "{told}");
}

#[test]
fn launches_follow_the_address_of_the_next_page_and_slip_without_being_doubled() {
    let api = LaunchLibrary::start();
    let project = Shipped::new(NOWHERE, NOWHERE, &api.url);
    let window = days("2021-11-06", 14);
    let by_day = "select cast(_haul_unit as varchar), count(*) from raw.launches group by all";
    let expected = |api: &LaunchLibrary| -> BTreeMap<String, u64> {
        let days = window.iter().map(|day| (day.to_string(), api.day(*day).len() as u64));
        days.filter(|(_, launches)| *launches > 0).collect()
    };

    project.run("launches", "2021-11-20");
    let before = expected(&api);
    assert_eq!(project.counts(by_day), before);
    let all: u64 = before.values().sum();
    assert_eq!(api.requests() as u64, all.div_ceil(LaunchLibrary::PAGE as u64), "one sequence for all days");

    let mut providers: BTreeMap<String, u64> = BTreeMap::new();
    for (_, provider) in window.iter().flat_map(|day| api.day(*day)) {
        *providers.entry(provider).or_default() += 1;
    }
    let counted = "select provider, launches from mart.launches_by_provider where _haul_unit = date '2021-11-19'";
    assert_eq!(project.counts(counted), providers);

    let images =
        "select distinct image, coalesce(image_file, 'none') from raw.launches where image is not null order by 1";
    let mut pictures = Vec::new();
    for row in project.query(images) {
        let (url, file) = (text(&row[0]), text(&row[1]));
        let name = url.rsplit('/').next().expect("a name").to_owned();
        match LaunchLibrary::picture(&name) {
            Some(bytes) => {
                assert_eq!(fs::read(project.folder.path().join("pictures").join(&file)).expect("a picture"), bytes);
                assert!(Path::new(&file).extension().is_some_and(|ending| ending == "png"), "{file}");
            }
            None => assert_eq!(file, "none", "{url}"),
        }
        pictures.push(name);
    }
    assert!(pictures.len() >= 3, "{pictures:?}");
    assert_eq!(api.pictures(), pictures, "each picture once, however many launches have it");

    api.slip(date("2021-11-10"), date("2021-11-12"));
    project.run("launches", "2021-11-20");
    assert_eq!(project.counts(by_day), expected(&api), "the day that they left is empty now");
    let twice = project.query("select id from raw.launches group by id having count(*) > 1");
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(project.counts(counted), providers, "a slip within the two weeks changes no sum");
}

#[test]
fn earthquakes_are_as_the_world_knew_them_each_morning_and_their_drift_is_measured() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    let mornings: Vec<(NaiveDate, DateTime<Utc>)> = haul::demo::mornings().into_iter().take(4).collect();
    let server = Server::start(mornings[0].1).expect("the demo's server");
    drop(entered);
    let project = Shipped::new(&server.url(), NOWHERE, NOWHERE);
    let feed = Feed::shipped().expect("the feed");
    for (morning, asof) in &mornings {
        server.set_asof(*asof);
        let now = asof.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let output = project.haul(&["run", "earthquakes", "--date", &morning.to_string(), "--now", &now]);
        assert!(output.status.success(), "{morning}: {}", told(&output));
        assert_known(&project, &feed, *morning, *asof);
    }
    assert!(server.requests() > 20, "{} requests: several pages a day", server.requests());

    let summary =
        project.query("select day, events, strongest, reviewed_share from mart.earthquakes_daily order by day");
    assert_eq!(summary.len(), 5, "{summary:?}");
    let first = project.query("select count(*) from mart.earthquakes_ranking where _haul_unit = date '2018-02-04'");
    assert_eq!(count(&first[0][0]), 10);

    let table = TableName::parse("raw.earthquakes").expect("a name");
    let pulls = runtime.block_on(async {
        let state = State::open(&project.folder.path().join(".haul")).await.expect("the state store");
        state.pulls(&table, None).await.expect("pulls")
    });
    let drift = Drift::of(&pulls);
    assert_eq!(drift.advice, Advice::MoreThan { lookback: 3 }, "{drift:?}");
    let second = drift.ages[1];
    assert!(second.added > 0 && second.changed + second.removed > 0, "late events, and revised ones: {drift:?}");
}

/// The warehouse has, of the last three days, exactly what was known on that morning.
fn assert_known(project: &Shipped, feed: &Feed, morning: NaiveDate, asof: DateTime<Utc>) {
    let from = (morning - TimeDelta::days(3)).max(date("2018-01-31"));
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    for event in feed.known_at(asof) {
        let properties = &event["properties"];
        let time = properties["time"].as_i64().and_then(DateTime::from_timestamp_millis).expect("a time");
        if (from..morning).contains(&time.date_naive()) {
            let key = format!("{} {} {}", time.date_naive(), text(&event["id"]), properties["updated"]);
            known.insert(key, 1);
        }
    }
    let loaded = project.counts(&format!(
        "select concat(_haul_unit, ' ', id, ' ', properties.updated), count(*) from raw.earthquakes
         where _haul_unit >= date '{from}' group by all"
    ));
    assert_eq!(loaded, known, "{morning}");
}

#[test]
fn every_video_is_asked_for_once_a_day_though_tokens_die_and_one_video_is_gone() {
    let api = YouTube::start();
    let project = Shipped::new(NOWHERE, NOWHERE, NOWHERE);
    let file = project.folder.path().join("connections.toml");
    let mut connections = fs::read_to_string(&file).expect("the connections");
    connections.truncate(connections.find("[youtube]").expect("the last connections"));
    for name in ["youtube", "youtube_analytics"] {
        connections.push_str(&format!(
            "[{name}]\ntype = \"http\"\nurl = \"{url}\"\nmax_concurrent = 16\nauth = {{ type = \"refresh_token\", token_url = \"{url}/token\", \
             client_id = \"me\", client_secret = \"not-so-secret\", refresh_token = \"1//refresh\" }}\n\n",
            url = api.url
        ));
    }
    connections.push_str("[ga4]\ntype = \"bigquery\"\nproject = \"nowhere\"\n\n[shop]\ntype = \"postgres\"\nuser = \"me\"\ndatabase = \"shop\"\n");
    fs::write(&file, connections).expect("the connections");
    let output = project.haul(&["run", "video_analytics", "--date", "2024-05-04"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("1 of 120 requests failed and are left out: 1 × 400"), "{}", told(&output));

    let reports = api.reports();
    let window = days("2024-05-01", 3);
    assert_eq!(reports.len(), 3 * (YouTube::VIDEOS - 1));
    assert!(reports.values().all(|count| *count == 1), "each report is asked for once");
    assert!(api.tokens() > 3, "tokens died on the way");
    let mut views: BTreeMap<String, u64> = BTreeMap::new();
    for (video, day) in reports.keys() {
        *views.entry(video.clone()).or_default() += YouTube::watched(video, day)[0];
    }
    let loaded = project.counts("select video_id, views from mart.video_week where _haul_unit = date '2024-05-03'");
    assert_eq!(loaded, views);
    let by_day = project.counts("select cast(_haul_unit as varchar), count(*) from raw.video_days group by all");
    assert_eq!(by_day, window.iter().map(|day| (day.to_string(), 119)).collect());
}
