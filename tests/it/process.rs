//! Programs as sources: what they are told, what their end means, and that nothing of them stays behind.

mod singer;
mod with_taps;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::logs::said;
use crate::support::project::{Project, told};

const CONNECTIONS: &str = r#"
[warehouse]
type = "duckdb"
path = "warehouse.duckdb"

[shop]
type = "process"
host = "localhost"
port = 5432
login = { user = "ann", password = { command = "echo sesame-and-thyme" } }
"#;

/// A project whose programs are these shell scripts.
fn project(programs: &[(&str, &str)], pipeline: &str) -> Project {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    project.write("connections.toml", CONNECTIONS);
    project.write("pipelines/days.toml", pipeline);
    for (name, script) in programs {
        project.write(name, &format!("#!/bin/sh\n{script}"));
        let path = project.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    project
}

const ONE_DAY: &str = "[window]\nlookback = 1\n\n[[extract]]\nname = \"feed\"\ntype = \"process\"\n";

/// A run that fails, and both of its streams.
fn fails(script: &str, more: &str) -> (Project, String) {
    let project = project(&[("feed", script)], &format!("{ONE_DAY}command = [\"./feed\"]\n{more}"));
    let output = project.output(&["run", "days", "--date", "2024-05-02"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let told = told(&output);
    (project, told)
}

fn read(project: &Project, path: &str) -> String {
    fs::read_to_string(project.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn a_program_is_told_its_unit_and_its_connection_and_nothing_else() {
    let script = r#"
env > env.txt
cp "$HAUL_CONNECTION" connection.json
stat -c %a "$HAUL_CONNECTION" "$(dirname "$HAUL_CONNECTION")" > modes.txt
printf '{"day":"%s","argument":"%s"}\n' "$HAUL_DS" "$1"
"#;
    let pipeline = r#"
timezone = "Asia/Seoul"
[window]
lookback = 1

[[extract]]
name = "feed"
type = "process"
connection = "shop"
command = ["./feed"]
args = ["{{ ds_nodash }} and more"]
env = { REGION = "kr-{{ ds }}" }
pass_env = ["SEEN_BY_ALL"]
"#;
    let project = project(&[("feed", script)], pipeline);
    let mut run = project.haul(&["run", "days", "--date", "2024-05-02"]);
    run.env("SEEN_BY_ALL", "yes").env("NOT_PASSED", "no").env("HAUL_CONN_OTHER", "https://ann:pw-of-another@b/");
    let output = run.output().expect("haul starts");
    assert!(output.status.success(), "{}", told(&output));
    let rows = project.query("select day, argument from raw.feed");
    assert_eq!(rows, json!([{ "day": "2024-05-01", "argument": "20240501 and more" }]));

    let env = read(&project, "env.txt");
    for line in [
        "HAUL_DS=2024-05-01",
        "HAUL_NEXT_DS=2024-05-02",
        "HAUL_UNIT_START=2024-04-30T15:00:00Z",
        "HAUL_UNIT_END=2024-05-01T15:00:00Z",
        "HAUL_WINDOW_START=2024-04-30T15:00:00Z",
        "HAUL_WINDOW_END=2024-05-01T15:00:00Z",
        "HAUL_PIPELINE=days",
        "HAUL_STEP=feed",
        "HAUL_RUN=days-2024-05-02-1",
        "HAUL_TIMEZONE=Asia/Seoul",
        "REGION=kr-2024-05-01",
        "SEEN_BY_ALL=yes",
    ] {
        assert!(env.lines().any(|found| found == line), "{line} is not in\n{env}");
    }
    for hidden in ["NOT_PASSED", "HAUL_CONN_OTHER", "sesame"] {
        assert!(!env.contains(hidden), "{hidden} is in\n{env}");
    }
    let connection: serde_json::Value = serde_json::from_str(&read(&project, "connection.json")).expect("JSON");
    let login = json!({ "user": "ann", "password": "sesame-and-thyme" });
    assert_eq!(connection, json!({ "host": "localhost", "port": 5432, "login": login }));
    assert_eq!(read(&project, "modes.txt"), "600\n700\n");
    assert_eq!(private_folders(&project), 0);
}

fn private_folders(project: &Project) -> usize {
    let entries = fs::read_dir(project.path().join(".haul/private")).expect("a folder");
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count()
}

#[test]
fn a_program_that_fails_fails_its_task_with_its_last_words() {
    let script = "echo \"{\\\"a\\\":1}\"\ni=0\nwhile [ $i -lt 30 ]; do echo \"word $i\" >&2; i=$((i+1)); done\ncat \"$HAUL_CONNECTION\" >&2\nexit 3\n";
    let (project, told) = fails(script, "connection = \"shop\"");
    assert!(told.contains("the program `") && told.contains("failed with exit code 3"), "{told}");
    assert!(told.contains("word 29") && !told.contains("word 9\n"), "{told}");
    let log = said(&project, "feed/2024-05-01");
    assert!(log.starts_with("word 0\nword 1\n") && log.contains("word 29\n"), "{log}");
    for text in [&told, &log] {
        assert!(text.contains("localhost") && !text.contains("sesame"), "{text}");
    }
    // Nothing of what it had printed is there, and what it prints when it is mended is.
    assert!(!project.output(&["query", "from raw.feed"]).status.success());
    project.write("feed", "#!/bin/sh\necho '{\"a\":2}'\n");
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    assert_eq!(project.query("select a from raw.feed"), json!([{ "a": 2 }]));
}

#[test]
fn an_end_that_is_none_says_what_it_was() {
    for (script, more, expected) in [
        ("kill -9 $$", "", "was killed by signal 9"),
        ("echo '{\"a\":1}'; echo; echo oops; sleep 600", "", "line 3 of its output is no JSON object: `oops`"),
        ("echo '{\"a\":1}'; echo '[1]'", "", "line 2 of its output is no JSON object: `[1]`"),
        ("echo '{\"a\":1}'; printf '{\"a\":'", "", "the last line of its output, line 2, is cut off: `{\"a\":`"),
        ("echo hm >&2; sleep 600", "timeout = \"300ms\"", "had not ended after 300ms"),
    ] {
        let (_, told) = fails(script, more);
        assert!(told.contains(expected), "`{expected}` is not in {told}");
    }
    let project = project(&[], &format!("{ONE_DAY}command = [\"no-such-program\"]"));
    let told = told(&project.output(&["run", "days", "--date", "2024-05-02"]));
    assert!(told.contains("starting the program `no-such-program`") && told.contains("on the PATH"), "{told}");
}

#[test]
fn a_last_line_needs_no_line_break_and_long_output_comes_in_pages() {
    let script = r#"
awk 'BEGIN { for (i = 0; i < 40000; i++) printf "{\"n\":%d,\"text\":\"%080d\"}\n", i, i }'
printf '{"n":40000,"text":"the last"}'
"#;
    let project = project(&[("feed", script)], &format!("{ONE_DAY}command = [\"./feed\"]"));
    let told = told(&project.output(&["run", "days", "--date", "2024-05-02"]));
    assert!(told.contains("40001 rows") && told.contains("(4 pages"), "{told}");
    let rows = project.query("select count(distinct n) as n, sum(n) as total, max(text) as last from raw.feed");
    assert_eq!(rows, json!([{ "n": 40001, "total": 800_020_000, "last": "the last" }]));
}

#[test]
fn a_program_that_prints_nothing_empties_a_day_only_if_the_guard_lets_it() {
    let pipeline = format!("{ONE_DAY}command = [\"./feed\"]");
    let project = project(&[("feed", "echo '{\"a\":1}'")], &pipeline);
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    project.write("feed", "#!/bin/sh\ntrue\n");
    assert_eq!(project.output(&["run", "days", "--date", "2024-05-02"]).status.code(), Some(3));
    assert_eq!(project.query("select count(*) as n from raw.feed"), json!([{ "n": 1 }]));
    project
        .write("pipelines/days.toml", &format!("{pipeline}\nguard = {{ allow_empty = true, max_shrink = \"100%\" }}"));
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    assert_eq!(project.query("select count(*) as n from raw.feed"), json!([{ "n": 0 }]));
}

/// A program with a child, of which it tells the process's number; both ignore a polite word.
const STUBBORN: &str =
    "trap '' TERM\nsleep 600 &\necho $! > child.pid\necho $$ > own.pid\necho '{\"a\":1}'\necho ready >&2\nwait\nwait\n";

#[test]
fn nothing_of_a_program_survives_haul_however_that_ends() {
    for (signal, code) in [("-INT", Some(130)), ("-KILL", None)] {
        let project =
            project(&[("feed", STUBBORN)], &format!("{ONE_DAY}connection = \"shop\"\ncommand = [\"./feed\"]"));
        let mut run = project.haul(&["run", "days", "--date", "2024-05-02", "--verbose"]);
        let mut child = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("haul starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        assert!(lines.any(|line| line.expect("a line").contains("ready")), "{signal}: the program never spoke");
        let alive = ["child.pid", "own.pid"].map(|file| read(&project, file).trim().to_owned());
        assert!(alive.iter().all(|id| lives(id)), "{signal}");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("a signal");
        assert!(sent.success());
        let ended = child.wait().expect("an end");
        assert_eq!(ended.code(), code, "{signal}");
        let deadline = Instant::now() + Duration::from_secs(30);
        while alive.iter().any(|id| lives(id)) || private_folders(&project) > 0 {
            assert!(Instant::now() < deadline, "{signal}: {alive:?} live, or private files are there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a process runs; one that only waits to be buried does not.
fn lives(id: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(id).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[test]
fn what_a_program_leaves_running_ends_with_it() {
    let script = "sleep 600 &\necho $! > child.pid\necho '{\"a\":1}'\n";
    let project = project(&[("feed", script)], &format!("{ONE_DAY}command = [\"./feed\"]"));
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    assert!(!lives(read(&project, "child.pid").trim()));
}

#[test]
fn keys_that_do_not_fit_together_are_told_with_their_place() {
    let window = "[window]\nlookback = 1\n";
    for (window, step, expected, help) in [
        ("", "type = \"process\"", "`feed` runs a program, but does not say which", "command = ["),
        ("", "command = [\"a\"]\nrecords = \"$\"", "`records` is how an API is asked", "HAUL_DS"),
        ("", "command = [\"a\"]\nstream = \"x\"", "`stream` belongs to a Singer tap", "protocol = \"singer\""),
        ("", "connection = \"shop\"\nargs = [\"a\"]", "`args` belongs to a program", "type = \"process\""),
        ("", "command = [\"a\"]\nenv = { HAUL_DS = \"x\" }", "`HAUL_DS` cannot be set", ""),
        ("", "command = [\"a\"]\npass_env = [\"HAUL_CONN_A\"]", "has credentials of haul", "connection ="),
        ("", "command = [\"a {{ dss }}\"]", "`dss`", ""),
        (window, "command = [\"a\"]\nprotocol = \"singer\"", "never use the window", "gets its state back"),
        (
            "",
            "command = [\"a\"]\nprotocol = \"singer\"\nreplication_key = \"b\"\nwrite = \"append\"",
            "would be there twice",
            "merge",
        ),
        ("", "command = [\"a\"]\nprotocol = \"singr\"", "`singr` is no value", "singer"),
    ] {
        let project = project(&[], &format!("{window}\n[[extract]]\nname = \"feed\"\n{step}\n"));
        let output = project.output(&["check"]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{step}: {told}");
        assert!(told.contains(expected) && told.contains(help) && told.contains("days.toml"), "{step}: {told}");
    }
}

#[test]
fn a_hook_describes_a_program_and_its_steps_say_what_differs() {
    let project = project(
        &[(
            "bin/feed",
            "printf '{\"which\":\"%s\",\"where\":\"%s\",\"how\":\"%s\"}\\n' \"$1\" \"$REGION\" \"$HOW\"; pwd >&2",
        )],
        "[[extract]]\nname = \"one\"\nhook = \"feed\"\nargs = [\"first\"]\nenv = { REGION = \"kr\" }\n\n[[extract]]\nname = \"two\"\nhook = \"feed\"\n",
    );
    fs::create_dir(project.path().join("inside")).expect("a folder");
    project.write(
        "hooks/feed.toml",
        "type = \"process\"\ncommand = [\"bin/feed\"]\nargs = [\"other\"]\nenv = { REGION = \"eu\", HOW = \"so\" }\ndir = \"inside\"\n",
    );
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    let rows = project.query("select * exclude (_haul_pull) from (from raw.one union all from raw.two) order by which");
    assert_eq!(
        rows,
        json!([{ "which": "first", "where": "kr", "how": "so" }, { "which": "other", "where": "eu", "how": "so" }])
    );
    assert!(said(&project, "one").trim().ends_with("/inside"));
    let rendered = project.stdout(&["render", "days", "one"]);
    assert!(rendered.contains("bin/feed first") && rendered.contains("HAUL_STEP=one"), "{rendered}");
    let preview = project.json(&["preview", "days", "two"]);
    assert_eq!(preview, json!([{ "which": "other", "where": "eu", "how": "so" }]));

    project.write("hooks/feed.toml", "type = \"process\"\ncommand = [\"bin/feed\"]\nrecords = \"$\"\n");
    let told = told(&project.output(&["check"]));
    assert!(told.contains("`records` is how an API is asked") && told.contains("hooks/feed.toml"), "{told}");
}

#[test]
fn a_program_of_others_gets_no_variable_that_only_their_hook_asks_for() {
    let elsewhere = Project::empty();
    elsewhere
        .write("feed.toml", "type = \"process\"\ncommand = [\"echo\", \"{}\"]\npass_env = [\"LONG_LIVED_TOKEN\"]\n");
    let project = project(&[], "[[extract]]\nname = \"feed\"\nhook = \"feed\"\n");
    let path = elsewhere.path().join("feed.toml").display().to_string();
    project.stdout(&["hooks", "add", &path, "--allow-programs"]);
    let checked = told(&project.output(&["check"]));
    assert!(checked.contains("passes variables of haul's environment on"), "{checked}");
}

#[test]
fn a_connection_of_a_program_has_any_fields_and_shows_no_secret() {
    let project = project(&[], &format!("{ONE_DAY}command = [\"a\"]"));
    let shown = project.stdout(&["connections", "show", "shop"]);
    for part in ["host = localhost", "port = 5432", "{ command = \"echo sesame-and-thyme\" }"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let tried = project.stdout(&["connections", "test", "shop"]);
    assert!(tried.contains("resolved its fields: host, login, port") && !tried.contains("sesame"), "{tried}");
    project.write("connections.toml", "[shop]\ntype = \"process\"\napi_token = \"shallots\"\nwhere = { env = \"A\", file = \"b\" }\nat = { env = 5 }\n");
    let shown = project.stdout(&["connections", "show", "shop"]);
    assert!(shown.contains("api_token = •••") && !shown.contains("shallots"), "{shown}");
    let checked = told(&project.output(&["check"]));
    assert!(checked.contains("`shop.at.env` has to be a text"), "{checked}");
}
