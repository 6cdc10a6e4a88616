//! What a project's files mean: a good one loads, a bad one tells all its faults with place and hint.

mod collections;
mod layout;
mod lints;
mod outline;
mod schedules;

use std::path::Path;

use haul::config::{Loaded, Options, Severity, load, render, schemas, to_json};
use haul::model::hook::{AuthStyle, CursorPlace, Method, PageStyle};
use haul::model::pipeline::{Action, CheckRule, Extract, Outside, Per, Transform, Write};
use haul::model::schedule::Missed;
use haul::model::schema::LogicalType;
use haul::model::source::{HttpSource, Source};
use haul::time::{Grain, Reach, Tz};

/// A project in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        Self(folder)
    }

    fn load(&self) -> Loaded {
        let known = ["warehouse", "movielens", "other"].map(str::to_owned);
        load(self.0.path(), &Options { known_connections: Some(&known), ..Options::default() })
    }
}

fn loaded(files: &[(&str, &str)]) -> Loaded {
    Folder::new(files).load()
}

/// What `haul check` would print.
fn told(files: &[(&str, &str)]) -> String {
    let loaded = loaded(files);
    render(&loaded.diagnostics, &loaded.sources, false)
}

const WINDOW: &str = "[window]\nlookback = 3\n";
const RATINGS: &str = r#"
[[extract]]
name       = "ratings"
connection = "movielens"
request    = { path = "/ratings", params = { start_date = "{{ ds }}" } }
"#;

/// The faults of one pipeline, as `code line:column`.
fn faults(pipeline: &str) -> Vec<String> {
    places(&loaded(&[("pipelines/p.toml", pipeline)]))
}

fn places(loaded: &Loaded) -> Vec<String> {
    let place = |fault: &haul::config::Diagnostic| {
        let label = fault.labels.first().expect("every fault has a place");
        format!("{} {}:{}", fault.code, label.line, label.column)
    };
    loaded.diagnostics.iter().map(place).collect()
}

/// The only fault of a windowed pipeline with one extract and this step beside it.
fn only_fault(step: &str) -> haul::config::Diagnostic {
    let loaded = loaded(&[("pipelines/p.toml", &format!("{WINDOW}{RATINGS}{step}"))]);
    assert_eq!(loaded.diagnostics.len(), 1, "{}", render(&loaded.diagnostics, &loaded.sources, false));
    loaded.diagnostics.into_iter().next().expect("one fault")
}

fn underlined(files: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::new(files);
    let loaded = folder.load();
    let text = |label: &haul::config::Label| loaded.sources[&label.file].text[label.span.clone()].to_owned();
    loaded.diagnostics.iter().map(|fault| text(&fault.labels[0])).collect()
}

const GOOD_PIPELINE: &str = r#"
description = "Movie ratings"
timezone    = "Asia/Seoul"

[schedule]
cron   = "0 6 * * *"
missed = "each"

[window]
grain        = "day"
lookback     = [{ every = "1d", units = 3 }, { every = "7d", units = 28 }]
begin        = 2019-01-01
settle_after = "7d"
guard        = { max_shrink = "25%" }

[[extract]]
name        = "ratings"
hook        = "movielens"
request     = { path = "/ratings", params = { start_date = "{{ ds }}", end_date = "{{ next_ds }}" } }
time_column = "created_at"
outside     = "drop"
columns     = { score = "DECIMAL(3,1)" }
checks      = [{ not_null = "id" }, { row_count = { min = 1 }, severity = "warn" }]
guard       = { allow_empty = true }

[[transform]]
name  = "ranking"
sql   = "sql/ranking.sql"
into  = "mart.ranking"
reach = "-6d..0d"
write = "merge"
keys  = ["movie_id"]

[[transform]]
name  = "counts"
sql   = '''
SELECT count(*) AS n FROM {{ ref('ratings') }} WHERE day = {{ ds | sql }}
'''
"#;

const GOOD_HOOK: &str = r#"
connection = "movielens"
request    = { method = "GET", params = { start_date = "never", format = "json", page_size = 500 }, headers = { Accept = "application/json" } }
paginate   = { by = "offset", limit = 500, total = "$.total" }
records    = "$.result[*]"
auth       = { header = "X-Api-Key" }
retry      = { max_attempts = 3, max_backoff = "5s" }
"#;

fn good() -> [(&'static str, &'static str); 4] {
    [
        ("haul.toml", "name = \"movies\"\nvars = { min_votes = 4 }\nstate_dir = \"state\"\n"),
        ("pipelines/ratings.toml", GOOD_PIPELINE),
        ("hooks/movielens.toml", GOOD_HOOK),
        ("sql/ranking.sql", "SELECT * FROM {{ ref('ratings') }}\nWHERE day < {{ window.end | sql }}\n"),
    ]
}

fn extract_of(action: &Action) -> &Extract {
    match action {
        Action::Extract(extract) => extract,
        _ => panic!("no extract"),
    }
}

/// What it asks an API for.
fn http_of(extract: &Extract) -> &HttpSource {
    let Source::Http(http) = &extract.source else { panic!("it asks an API") };
    http
}

fn transform_of(action: &Action) -> &Transform {
    match action {
        Action::Transform(transform) => transform,
        _ => panic!("no transform"),
    }
}

#[test]
fn a_good_project_loads_as_it_was_meant() {
    let folder = Folder::new(&good());
    let loaded = folder.load();
    assert_eq!(render(&loaded.diagnostics, &loaded.sources, false), "");
    let project = loaded.project.expect("a project");
    assert!(project.state_dir.ends_with("state") && project.state_dir.starts_with(&project.root));
    let pipeline = project.pipeline("ratings").expect("the pipeline");
    assert_eq!((pipeline.timezone, pipeline.warehouse.as_str()), (Tz::Asia__Seoul, "warehouse"));
    assert_eq!(pipeline.vars["min_votes"], 4);
    let schedule = pipeline.schedule.as_ref().expect("a schedule");
    assert_eq!((schedule.timezone, schedule.missed), (Tz::Asia__Seoul, Missed::Each));
    let window = pipeline.window.as_ref().expect("a window");
    assert_eq!((window.grain, window.lookback(), window.tiers.len()), (Grain::Day, 3, 2));
    assert_eq!(window.begin.expect("a date").to_string(), "2019-01-01");

    let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["ratings", "ranking", "counts"]);
    let step = &pipeline.steps[0];
    assert_eq!((step.into.to_string().as_str(), &step.write), ("raw.ratings", &Write::Replace));
    assert!((step.guard.max_shrink - 0.25).abs() < 1e-9 && step.guard.allow_empty);
    assert_eq!(step.checks.len(), 2);
    assert_eq!(step.checks[0].name, "not_null(id)");
    assert!(matches!(step.checks[1].rule, CheckRule::RowCount { min: Some(1), max: None }));
    assert_eq!(step.origin.to_string(), "pipelines/ratings.toml:16:1");
}

#[test]
fn the_words_of_a_step_win_over_those_of_its_hook() {
    let folder = Folder::new(&good());
    let project = folder.load().project.expect("a project");
    let extract = extract_of(&project.pipelines[0].steps[0].action);
    assert_eq!((extract.connection.as_str(), extract.hook.as_deref()), ("movielens", Some("movielens")));
    let params: Vec<String> =
        http_of(extract).request.params.iter().map(|(name, text)| format!("{name}={}", text.text)).collect();
    assert_eq!(params, ["format=json", "page_size=500", "start_date={{ ds }}", "end_date={{ next_ds }}"]);
    assert_eq!(http_of(extract).request.params[0].1.origin.file.as_path(), Path::new("hooks/movielens.toml"));
    assert_eq!(http_of(extract).request.method, Method::Get);
    assert_eq!(http_of(extract).records.as_deref(), Some("$.result[*]"));
    assert!(matches!(http_of(extract).paginate.by, PageStyle::Offset { limit: 500, first: 0, .. }));
    assert!(http_of(extract).paginate.short_page_ends);
    assert_eq!(http_of(extract).auth, Some(AuthStyle::KeyHeader("X-Api-Key".to_owned())));
    assert_eq!((http_of(extract).retry.max_attempts, http_of(extract).retry.max_backoff.as_secs()), (3, 5));
    assert_eq!(extract.columns["score"], LogicalType::Decimal { precision: 3, scale: 1 });
    let time = extract.time.as_ref().expect("a time column");
    assert_eq!((time.outside, extract.per), (Outside::Drop, Per::Unit));
}

#[test]
fn references_are_resolved_with_their_reach() {
    let folder = Folder::new(&good());
    let project = folder.load().project.expect("a project");
    let ranking = transform_of(&project.pipelines[0].steps[1].action);
    assert_eq!(ranking.reads.len(), 1);
    assert_eq!(ranking.reads[0].table.to_string(), "raw.ratings");
    assert_eq!(ranking.reads[0].reach, Reach { from: -6, to: 0 });
    let counts = transform_of(&project.pipelines[0].steps[2].action);
    assert_eq!(counts.reads[0].reach, Reach::SAME);
    // The text begins behind the opening quotes and the line break that TOML leaves out.
    assert_eq!(counts.sql.of("duckdb").expect("SQL").origin.to_string(), "pipelines/ratings.toml:37:1");
    assert!(counts.sql.of("duckdb").expect("SQL").text.starts_with("SELECT"));
}

#[test]
fn a_step_of_another_pipeline_is_named_with_its_pipeline() {
    let other = format!(
        "{WINDOW}\n[[transform]]\nname = \"b\"\nsql = \"SELECT {{{{ ds }}}} FROM {{{{ ref('p.ratings') }}}}\"\n"
    );
    let loaded = loaded(&[("pipelines/p.toml", &format!("{WINDOW}{RATINGS}")), ("pipelines/q.toml", &other)]);
    let project = loaded.project.expect("a project");
    let read = &transform_of(&project.pipelines[1].steps[0].action).reads[0];
    assert_eq!((read.pipeline.as_str(), read.step.as_str()), ("p", "ratings"));
}

const BAD: [(&str, &str); 5] = [
    ("haul.toml", "timezon = \"UTC\"\nmax_active = 0\n"),
    (
        "hooks/movielens.toml",
        "conection = \"movielens\"\nrecords = \"result[*]\"\npaginate = { by = \"offset\", page_param = \"p\" }\n",
    ),
    (
        "pipelines/a.toml",
        r#"timezone = "Asia/Seol"
descripton = "x"

[schedule]
cron = "0 6 * *"
missed = "widenn"

[window]
lookback = "3d"
begin = "2019-01-01"
settle_after = 7
guard = { max_shrink = 0.5, allow_empty = "yes" }

[[extract]]
name = "ratings"
connection = "movilens"
hook = "movielns"
columns = { id = "BIGNIT" }
checks = [{ not_nul = "id" }, { unique = "id", not_null = "id" }]

[[transform]]
sql = "sql/rankin.sql"

[[wait]]
name = "serve"
"#,
    ),
    (
        "pipelines/b.toml",
        "[window\nlookback = 2\n\n[[transform]]\nname = \"x\"\nsql = \"SELECT {{ ds }}\"\nreech = \"-1d..0d\"\n",
    ),
    ("sql/ranking.sql", "SELECT 1\n"),
];

#[test]
fn all_faults_of_all_files_are_told_at_once_with_place_and_hint() {
    let rendered = told(&BAD);
    insta::assert_snapshot!("all_faults", rendered);
}

#[test]
fn every_fault_underlines_what_was_written() {
    let underlined = underlined(&BAD);
    for written in [
        "timezon",
        "conection",
        "\"result[*]\"",
        "\"Asia/Seol\"",
        "descripton",
        "\"3d\"",
        "7",
        "0.5",
        "\"BIGNIT\"",
        "\"sql/rankin.sql\"",
        "reech",
    ] {
        assert!(underlined.iter().any(|text| text == written), "{written} is not among {underlined:#?}");
    }
}

#[test]
fn the_same_faults_are_told_to_editors() {
    let loaded = loaded(&[(
        "pipelines/p.toml",
        "timezone = \"Asia/Seol\"\n\n[[extract]]\nname = \"a\"\nconnection = \"other\"\n",
    )]);
    let json = to_json(&loaded.diagnostics);
    assert_eq!(
        json[0],
        serde_json::json!({
            "code": "unknown-timezone",
            "severity": "error",
            "message": "there is no time zone `Asia/Seol`",
            "labels": [{ "file": "pipelines/p.toml", "span": { "start": 11, "end": 22 }, "line": 1, "column": 12, "text": "" }],
            "help": "did you mean `Asia/Seoul`?",
        })
    );
}

#[test]
fn the_committed_schemas_are_those_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (name, schema) in schemas() {
        let expected = format!("{schema:#}\n");
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(committed == expected, "schemas/{name} is stale: write what `haul schema` gives there and commit it");
    }
    let count = std::fs::read_dir(&folder).expect("the folder of the schemas").count();
    assert_eq!(count, schemas().len(), "a file in schemas/ belongs to no kind of file");
}

/// Follows `$ref` and lists.
fn resolved<'a>(schema: &'a serde_json::Value, root: &'a serde_json::Value) -> &'a serde_json::Value {
    if let Some(path) = schema["$ref"].as_str() {
        return resolved(root.pointer(path.trim_start_matches('#')).expect("a definition"), root);
    }
    if let Some(first) = schema["allOf"].get(0) {
        return resolved(first, root);
    }
    if schema["items"].is_object() { resolved(&schema["items"], root) } else { schema }
}

/// Asserts that a table of this schema knows exactly the schema's keys: each of them is accepted, another is not.
fn same_keys(
    schema: &serde_json::Value,
    root: &serde_json::Value,
    path: &[String],
    file: &dyn Fn(&str) -> String,
) -> usize {
    let schema = resolved(schema, root);
    let Some(properties) = schema["properties"].as_object() else { return 0 };
    let unknown = |key: &str| {
        let written = path.iter().rev().fold(format!("{key} = 1"), |inner, outer| match outer.strip_suffix("[]") {
            Some(list) => format!("{list} = [{{ {inner} }}]"),
            None => format!("{outer} = {{ {inner} }}"),
        });
        let path = file(&written);
        let rendered = told(&[(path.as_str(), &written)]);
        rendered.contains(&format!("unknown key `{key}`"))
    };
    assert_eq!(schema["additionalProperties"], false, "{path:?}");
    assert!(unknown("zzz"), "{path:?} has to refuse an unknown key");
    let mut count = 0;
    for (key, property) in properties {
        assert!(!unknown(key), "the reader does not know `{key}` of {path:?}");
        assert!(
            property["description"].is_string() || resolved(property, root)["description"].is_string(),
            "{key} is not described"
        );
        let list = if property["items"].is_object() { "[]" } else { "" };
        let inner: Vec<String> = path.iter().cloned().chain([format!("{key}{list}")]).collect();
        count += 1 + same_keys(property, root, &inner, file);
    }
    count
}

#[test]
fn readers_and_schemas_know_the_same_keys() {
    let schemas = schemas();
    for (name, file, least) in [
        ("haul.schema.json", "haul.toml", 6),
        ("pipeline.schema.json", "pipelines/p.toml", 100),
        ("hook.schema.json", "hooks/h.toml", 30),
    ] {
        let schema = &schemas[name];
        let count = same_keys(schema, schema, &[], &|_| file.to_owned());
        assert!(count >= least, "{name}: only {count} keys were compared");
    }
}

#[test]
fn a_hundred_pipelines_are_read_without_a_fault() {
    let files: Vec<(String, String)> = (0..100)
        .map(|number| (format!("pipelines/p{number}.toml"), format!("{WINDOW}{RATINGS}into = \"raw.t{number}\"\n")))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let project = loaded(&files).project.expect("a project");
    assert_eq!(project.pipelines.len(), 100);
}

#[test]
fn wrong_syntax_does_not_hide_the_rest_of_its_file() {
    let text = "descripton = \"x\"\n\n[window\nlookback = \"3d\"\n\n[schedule]\ncron = \"* * *\"\n\n[[extract]]\nname = \n\n[[extract]]\nname = \"b\"\nname = \"c\"\nrecrods = 1\n";
    // The key beside the second `name` may be wrong only because of it, and waits for the next time.
    assert_eq!(faults(text), ["unknown-key 1:1", "syntax 3:8", "bad-cron 7:8", "syntax 10:8", "syntax 14:1"]);
}

#[test]
fn a_file_that_is_not_text_is_one_fault() {
    let folder = Folder::new(&[("pipelines/p.toml", RATINGS)]);
    std::fs::write(folder.0.path().join("pipelines/q.toml"), b"name = \"\xff\"\n").expect("a file");
    assert_eq!(places(&folder.load()), ["not-utf8 1:9"]);
}

#[test]
fn excerpts_of_a_file_with_secrets_are_never_shown() {
    use haul::config::{Source, Sources, connection_file::read_connections};
    let text = "[api]\ntype = \"http\"\nurl = \"https://a.example\"\nauth = { type = \"bearer\", tokn = \"hunter2-secret\" }\n\n[db]\ntype = \"postgres\"\nuser = 987654321\ndatabase = \"d\"\npassword = { env = \"A\", file = \"B\" }\n";
    let source = std::sync::Arc::new(Source::new("connections.toml", text).with_secrets());
    let (file, faults) = read_connections(&source);
    assert_eq!(file.connections.len(), 2);
    let codes: Vec<&str> = faults.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["unknown-key", "wrong-type", "bad-secret"]);
    let rendered = render(&faults, &Sources::from([("connections.toml".into(), source)]), false);
    assert!(rendered.contains("connections.toml:4:27") && rendered.contains("`token`"), "{rendered}");
    assert!(!rendered.contains("hunter2") && !rendered.contains("987654321"), "{rendered}");
    assert!(!to_json(&faults).to_string().contains("hunter2"));
    let folder = Folder::new(&[("pipelines/p.toml", RATINGS), ("connections.toml", text)]);
    let options = Options { check_connections: true, ..Options::default() };
    assert_eq!(load(folder.0.path(), &options).diagnostics, faults);
}

#[test]
fn an_unknown_hook_is_the_only_fault_of_a_step_that_leans_on_it() {
    let step = "[window]\nlookback = 3\n[[extract]]\nname = \"quakes\"\nhook = \"usg\"\noutside = \"drop\"\n";
    assert_eq!(faults(step), ["unknown-hook 5:8"]);
}
