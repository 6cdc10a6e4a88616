//! The command line: help, usage errors, init, schemas, colors, completions, and a reader that has seen enough.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use haul::demo::Server;
use serde_json::{Value, json};

use super::support::doors::Ran;
use super::support::project::Project;

/// All commands, as a person would type them.
const COMMANDS: &[&[&str]] = &[
    &["init"],
    &["check"],
    &["plan"],
    &["run"],
    &["backfill"],
    &["retry"],
    &["schedule"],
    &["serve"],
    &["trigger"],
    &["pause"],
    &["resume"],
    &["cancel"],
    &["queue"],
    &["occurrences"],
    &["status"],
    &["runs"],
    &["show"],
    &["logs"],
    &["costs"],
    &["drift"],
    &["incidents"],
    &["report"],
    &["notify"],
    &["doctor"],
    &["gc"],
    &["approve"],
    &["render"],
    &["preview"],
    &["query"],
    &["connections"],
    &["connections", "list"],
    &["connections", "show"],
    &["connections", "set"],
    &["connections", "remove"],
    &["connections", "test"],
    &["connections", "import"],
    &["hooks"],
    &["hooks", "list"],
    &["hooks", "show"],
    &["hooks", "test"],
    &["hooks", "add"],
    &["hooks", "update"],
    &["hooks", "pin"],
    &["hooks", "remove"],
    &["test"],
    &["verify-window"],
    &["record"],
    &["schema"],
    &["demo"],
    &["completions"],
];

fn ran(project: &Project, arguments: &[&str]) -> Ran {
    Ran::of(&mut project.haul(arguments))
}

/// A project with one pipeline that reads from nowhere.
fn small() -> Project {
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write(
        "pipelines/ratings.toml",
        "[window]\ngrain = \"day\"\nlookback = 1\n\n[[extract]]\nname = \"ratings\"\nconnection = \"api\"\n\
         request = { path = \"/r\", params = { day = \"{{ ds }}\" } }\nrecords = \"$[*]\"\ninto = \"raw.ratings\"\n",
    );
    project
}

#[test]
fn the_help_of_every_command_is_complete_and_fits_a_terminal() {
    let project = Project::empty();
    let whole = ran(&project, &["--help"]).well().out;
    let listed: Vec<&str> = whole
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for command in &listed {
        assert!(*command == "help" || COMMANDS.iter().any(|known| known[0] == *command), "{command} has no test");
    }
    assert_eq!(listed.len(), COMMANDS.iter().filter(|command| command.len() == 1).count() + 1);
    assert!(whole.contains("Exit codes: 0 all fine") && !whole.contains("--kill-at"), "{whole}");
    for command in [&[&[][..]], COMMANDS].concat() {
        for flag in ["--help", "-h"] {
            let mut haul = project.haul(&[command, &[flag]].concat());
            let told = Ran::of(haul.env("COLUMNS", "100")).well();
            assert!(told.err.is_empty() && told.out.contains("Usage: haul"), "{command:?}: {}", told.told());
            for line in told.out.lines() {
                assert!(line.chars().count() <= 100, "{command:?}: {} columns: {line}", line.chars().count());
            }
            // An entry without a word on what it does ends with its name.
            let lines: Vec<&str> = told.out.lines().collect();
            for (index, line) in lines.iter().enumerate() {
                let entry = line.trim_start();
                let is_entry = line.starts_with("  ") && (entry.starts_with('-') || entry.starts_with('<'));
                let bare = !entry.contains("  ") && lines.get(index + 1).is_none_or(|next| !next.starts_with("     "));
                assert!(!(is_entry && bare), "{command:?}: nothing is said of {line}");
            }
        }
    }
    let version = ran(&project, &["--version"]).well().out;
    assert_eq!(version, format!("haul {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_refused_with_a_hint() {
    let project = small();
    for (arguments, words) in [
        (&["rnu"][..], &["unrecognized subcommand 'rnu'", "similar subcommand exists: 'run"][..]),
        (&[], &["Usage: haul"]),
        (&["run", "--dat", "2024-01-01"], &["unexpected argument '--dat'", "'--date'"]),
        (&["run", "ratings", "--date", "yesterday"], &["invalid value 'yesterday'", "--date"]),
        (&["run", "ratings", "--date", "2024-02-30"], &["invalid value '2024-02-30'"]),
        (&["check", "--output", "yaml"], &["possible values: table, json"]),
        (&["show"], &["<RUN>"]),
        (
            &["backfill", "ratings", "--from", "2024-01-02", "--to", "2024-01-02"],
            &["is empty", "`--to` is the first date"],
        ),
        (&["backfill", "ratings"], &["--from <"]),
        (&["show", "no-such-run"], &["there is no run `no-such-run`", "`haul runs` lists them"]),
        (&["run", "rating"], &["there is no pipeline `rating`", "did you mean `ratings`?"]),
        (&["plan", "Ratings"], &["there is no pipeline `Ratings`", "did you mean `ratings`?"]),
        (&["render", "ratings", "rating"], &["`rating`", "ratings"]),
        (&["preview", "ratings", "rating"], &["`rating`", "ratings"]),
        (&["run", "ratings", "--select", "rating"], &["`rating`", "ratings"]),
        (&["drift", "raw..x"], &["raw..x"]),
        (&["connections"], &["Usage: haul connections"]),
        (&["completions", "cmd"], &["possible values: bash"]),
        (&["check", "--project", "no/such/folder"], &["no/such/folder is not there", "haul.toml"]),
        (
            &["query", "select 1", "--connection", "warehous"],
            &["no connection `warehous`", "did you mean `warehouse`?"],
        ),
    ] {
        let ran = ran(&project, arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.told());
        assert!(ran.out.is_empty(), "{arguments:?}: {}", ran.out);
        ran.refused(2, words);
    }
    let nowhere = tempfile::tempdir().expect("a folder");
    let mut haul = project.haul(&["check"]);
    Ran::of(haul.current_dir(nowhere.path())).refused(2, &["no project in", "`haul init` makes one"]);
    let ran = ran(&project, &["run", "rating", "--output", "json"]);
    let error: Value = serde_json::from_str(&ran.err).expect("one object");
    assert_eq!((ran.code, &error["error"]["kind"]), (Some(2), &json!("usage")), "{error}");
}

#[test]
fn init_makes_a_project_that_checks_clean_and_runs() {
    let project = Project::empty();
    let told = ran(&project, &["init", "mine"]).well();
    assert!(told.out.contains("cd mine") && told.out.contains("haul run earthquakes"), "{}", told.out);
    let folder = project.path().join("mine");
    let inside = |arguments: &[&str]| {
        let mut haul = project.haul(arguments);
        haul.current_dir(&folder);
        haul
    };
    let checked = Ran::of(&mut inside(&["check"])).well();
    assert!(checked.out.contains("no faults, 0 warnings") && checked.err.is_empty(), "{}", checked.told());
    assert_eq!(Ran::of(&mut inside(&["check", "--output", "json"])).well().json(), json!([]));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    let (morning, asof) = haul::demo::mornings()[0];
    let server = Server::start(asof).expect("the server");
    drop(entered);
    let now = asof.to_rfc3339();
    let date = morning.to_string();
    for arguments in [&["plan"][..], &["run", "earthquakes", "--date", &date]] {
        let mut haul = inside(arguments);
        Ran::of(haul.env("HAUL_CONN_USGS", server.url()).env("HAUL_NOW", &now)).well();
    }
    let rows = Ran::of(&mut inside(&["query", "select count(*) as n from raw.earthquakes", "--output", "json"]));
    assert!(rows.well().json()[0]["n"].as_u64().is_some_and(|rows| rows > 100));
    assert!(server.requests() > 0);
}

#[test]
fn init_writes_over_nothing() {
    let project = Project::empty();
    ran(&project, &["init", "mine"]).well();
    let folder = project.path().join("mine");
    fs::write(folder.join("haul.toml"), "# mine\n").expect("a file");
    fs::remove_file(folder.join("connections.toml")).expect("a file");
    ran(&project, &["init", "mine"]).refused(2, &["haul.toml is there already", "no project yet"]);
    assert_eq!(fs::read_to_string(folder.join("haul.toml")).expect("a file"), "# mine\n");
    assert!(!folder.join("connections.toml").exists(), "nothing was written beside it");
    // A folder of a repository has no project yet, but files that stay as they are.
    project.write("repository/.gitignore", "/target\n/.haul");
    project.write("repository/README.md", "hello\n");
    let made = ran(&project, &["init", "repository", "--output", "json"]).well().json();
    assert!(
        made["files"].as_array().is_some_and(|files| files.contains(&json!("pipelines/earthquakes.toml"))),
        "{made}"
    );
    let ignored = fs::read_to_string(project.path().join("repository/.gitignore")).expect("a file");
    assert_eq!(ignored, "/target\n/.haul\n/connections.toml\n/warehouse.duckdb*\n");
    ran(&project, &["check", "--project", "repository"]).well();
}

#[test]
fn the_committed_schemas_are_what_the_binary_prints() {
    let project = Project::empty();
    let printed = ran(&project, &["schema"]).well().json();
    let dir = ran(&project, &["schema", "--dir", "out"]).well();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut names: Vec<String> = Vec::new();
    for file in fs::read_dir(&committed).expect("the schemas").map(|file| file.expect("a file")) {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(file.path()).expect("a schema");
        let written = fs::read_to_string(project.path().join("out").join(&name)).expect("a written schema");
        assert_eq!(text, written, "{name}: run `haul schema --dir schemas`");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), printed[&name], "{name}");
        assert!(dir.out.contains(&name));
        names.push(name);
    }
    assert_eq!(names.len(), printed.as_object().expect("an object").len());
}

#[test]
fn check_tells_every_fault_to_people_and_to_programs() {
    let project = small();
    assert_eq!(project.json(&["check"]), json!([]));
    project.write("pipelines/wrong.toml", "[[extract]]\nname = \"x\"\nconection = \"api\"\ninto = \"raw.x\"\n");
    project.write(
        "connections.toml",
        "[warehouse]\ntype = \"duckdb\"\npth = \"w\"\n[api]\ntype = \"http\"\nurl = \"a b\"\n",
    );
    let faults = ran(&project, &["check", "--output", "json"]).refused(2, &[]).json();
    let found: Vec<(&str, &str, u64)> = faults
        .as_array()
        .expect("a list")
        .iter()
        .map(|fault| {
            let label = &fault["labels"][0];
            let text = |value: &'static str| fault[value].as_str().unwrap_or_default();
            (text("code"), label["file"].as_str().unwrap_or_default(), label["line"].as_u64().unwrap_or(0))
        })
        .collect();
    for expected in [("unknown-key", "pipelines/wrong.toml", 3), ("unknown-key", "connections.toml", 3)] {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    let told = ran(&project, &["check"]).refused(2, &["did you mean `connection`?", "did you mean `path`?"]);
    assert!(told.out.is_empty(), "faults are no data: {}", told.out);
    // What the forms of the file do not show is told as well, once they are right.
    fs::remove_file(project.path().join("pipelines/wrong.toml")).expect("a file");
    let good = "[warehouse]\ntype = \"duckdb\"\npath = \"w\"\n";
    project.write("connections.toml", &format!("{good}[api]\ntype = \"http\"\nurl = \"a b\"\n"));
    ran(&project, &["check"]).refused(2, &["bad-connection", "connections.toml:4", "`url` is no address"]);
    project.write("connections.toml", good);
    let with =
        |text: &str| Ran::of(project.haul(&["check"]).env("HAUL_CONN_API", text).env("AIRFLOW_CONN_X", "slack://x"));
    with("https://api.test?tmeout=3s").refused(2, &["HAUL_CONN_API", "did you mean `timeout`?"]);
    with("https://api.test").well();
}

#[test]
fn colors_come_when_they_are_asked_for() {
    let project = small();
    project.write("pipelines/wrong.toml", "nme = 1\n");
    let escapes = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut haul = project.haul(arguments);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "CI"] {
            haul.env_remove(name);
        }
        Ran::of(haul.envs(variables.iter().copied())).told().contains('\u{1b}')
    };
    for command in ["check", "run"] {
        assert!(!escapes(&[command], &[]), "{command} into a pipe");
        assert!(escapes(&[command, "--color", "always"], &[]), "{command} --color always");
        assert!(escapes(&[command, "--color", "always"], &[("NO_COLOR", "1")]), "what is said last counts");
        assert!(!escapes(&[command, "--color", "never"], &[("CLICOLOR_FORCE", "1")]));
        assert!(escapes(&[command], &[("CLICOLOR_FORCE", "1")]));
        assert!(!escapes(&[command], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!escapes(&[command, "--output", "json", "--color", "always"], &[]), "{command}: JSON has no colors");
    }
}

#[test]
fn every_shell_gets_its_completions() {
    let project = Project::empty();
    for (shell, words) in [
        ("bash", &["complete -F _haul", "backfill", "connections"][..]),
        ("zsh", &["#compdef haul", "'backfill:Run a pipeline", "--reprocess"]),
        ("fish", &["complete -c haul", "-a \"backfill\"", "-l reprocess"]),
    ] {
        let text = ran(&project, &["completions", shell]).well().out;
        for word in words {
            assert!(text.contains(word), "{shell} has no {word}");
        }
        let installed = Command::new(shell).arg("--version").output().is_ok_and(|output| output.status.success());
        if installed {
            project.write("completions", &text);
            let parsed =
                Command::new(shell).arg("-n").arg(project.path().join("completions")).output().expect("a shell");
            assert!(parsed.status.success(), "{shell}: {}", String::from_utf8_lossy(&parsed.stderr));
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_reason_to_panic() {
    let project = small();
    for arguments in [
        &["schema"][..],
        &["completions", "zsh"],
        &["query", "select range as n from range(9000)", "--output", "json"],
        &["query", "select range as n from range(9000)"],
        &["connections", "list"],
        &["check"],
        &["--help"],
    ] {
        let mut child =
            project.haul(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("haul starts");
        // The pipe is closed before anything was read from it.
        drop(child.stdout.take());
        let mut told = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("UTF-8");
        let status = child.wait().expect("an end");
        assert!(!told.contains("panicked") && !told.contains("Broken pipe"), "{arguments:?}: {told}");
        assert!(status.code() == Some(0), "{arguments:?}: {status} {told}");
    }
    let mut child =
        project.haul(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("haul starts");
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("an end").code(), Some(0), "not even where nobody hears the complaint");
}

#[test]
fn a_plan_of_many_days_is_a_line_for_each_step_and_reason() {
    let project = Project::empty();
    project.stdout(&["init"]);
    let pipeline = fs::read_to_string(project.path().join("pipelines/earthquakes.toml")).expect("a pipeline");
    project.write("pipelines/earthquakes.toml", &pipeline.replace("lookback = 3", "lookback = 10"));
    let plan = project.stdout(&["plan", "earthquakes", "--date", "2018-03-01"]);
    assert!(plan.contains("2018-02-19 to 2018-02-28 (10)") && plan.lines().count() < 8, "{plan}");
}

#[test]
fn a_broken_file_keeps_nobody_from_looking_at_the_others() {
    let project = Project::empty();
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n");
    let pipeline = |table: &str| {
        format!(
            "[schedule]\ncron = \"0 6 * * *\"\n\n[window]\nlookback = 1\n\n[[transform]]\nname = \"rows\"\ninto = \"mart.{table}\"\n\
             sql = \"SELECT {{{{ ds | sql }}}} AS day\"\n"
        )
    };
    project.write("pipelines/orders.toml", &pipeline("orders"));
    project.write("pipelines/broken.toml", &pipeline("broken"));
    project.stdout(&["run", "--date", "2026-03-05"]);
    project.write("pipelines/broken.toml", &pipeline("broken").replace("lookback", "lokback"));
    for (command, shown) in [
        (&["status"][..], "mart.orders"),
        (&["status", "orders"], "mart.orders"),
        (&["drift"], "mart.orders"),
        (&["schedule"], "orders"),
        (&["costs"], ""),
        (&["incidents"], ""),
    ] {
        let output = project.output(command);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{command:?}: {stdout}{stderr}");
        assert!(stdout.contains(shown), "{command:?}: {stdout}");
        assert!(stderr.contains("broken.toml:5") && stderr.contains("`lookback`"), "{command:?}: {stderr}");
        assert!(stderr.contains("what is wrong is left out here"), "{command:?}: {stderr}");
    }
    for command in [&["run", "orders", "--date", "2026-03-06"][..], &["plan", "orders"], &["check"]] {
        assert_ne!(project.output(command).status.code(), Some(0), "{command:?} goes by all files");
    }
}
