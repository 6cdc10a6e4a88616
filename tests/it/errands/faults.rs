//! Faults of `[[wait]]`, `[[run]]` and `after`.

use super::*;

/// The codes of a pipeline's faults, with all that was said of them.
fn faults(steps: &str) -> (Vec<String>, String) {
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write("pipelines/p.toml", &format!("{WINDOW}{steps}"));
    project.write("pipelines/q.toml", &format!("{WINDOW}{}", extract("other", "")));
    let loaded = haul::config::load(project.path(), &haul::config::Options::default());
    let codes = loaded.diagnostics.iter().map(|fault| fault.code.to_owned()).collect();
    (codes, haul::config::render(&loaded.diagnostics, &loaded.sources, false))
}

#[test]
fn every_key_that_is_wrong_has_one_fault_with_its_place_and_a_hint() {
    let wait = |keys: &str| format!("[[wait]]\nname = \"w\"\n{keys}\n{}", extract("items", "after = \"w\""));
    let run = |keys: &str| format!("[[run]]\nname = \"c\"\n{keys}\n{}", extract("items", ""));
    for good in [
        wait("connection = \"api\"\nrequest = { path = \"/x\" }\nstatus = [200]\npath = \"$.a\"\nis = [\"x\", 2]"),
        wait("sql = \"select 1\"\ndeadline = \"07:00\"\nmax_poll = \"5m\""),
        wait("pipeline = \"q\"\nper = \"unit\""),
        run("command = [\"true\"]\nafter = [\"items\"]"),
    ] {
        assert_eq!(faults(&good).0, Vec::<String>::new(), "{good}");
    }
    for (steps, code, hint) in [
        (wait(""), "missing-key", "one of `request`, `sql`"),
        (wait("sql = \"select 1\"\nfiles = \"x\""), "foreign-key", "several waits"),
        (wait("request = { path = \"/x\" }"), "missing-key", "connection = "),
        (wait("table = \"x\""), "missing-key", "connection = "),
        (wait("files = \"x\"\npath = \"$.a\""), "foreign-key", "it belongs to `request`"),
        (wait("connection = \"api\"\nrequest = { path = \"/x\" }\nis = 1"), "missing-key", "$.state"),
        (wait("pipeline = \"q\"\nstable_for = \"1m\""), "foreign-key", "`table`"),
        (wait("pipeline = \"r\""), "unknown-pipeline", "did you mean `q`?"),
        (wait("pipeline = \"p\""), "unknown-pipeline", "waits for ever"),
        (wait("sql = \"select 1\"\ntimeout = \"1h\"\ndeadline = \"07:00\""), "foreign-key", "one of the two"),
        (wait("sql = \"select 1\"\ndeadline = \"7 o'clock\""), "wrong-type", "07:00"),
        (wait("sql = \"select 1\"\npoll = \"5m\"\nmax_poll = \"1m\""), "bad-interval", "max_poll"),
        (wait("sql = \"select 1\"\non_timeout = \"retry\""), "unknown-value", "go_on"),
        (run("command = \"echo\""), "bad-command", "shell = true"),
        (run("command = [\"echo\"]\nshell = true"), "bad-command", "one text"),
        (run("command = []"), "bad-command", "python"),
        (run(""), "missing-key", "command"),
        (run("command = [\"true\"]\nenv = { HAUL_DS = \"x\" }"), "bad-name", "HAUL_"),
        (run("command = [\"true\"]\npass_env = [\"HAUL_CONN_API\"]"), "bad-name", "credentials"),
        (run("command = [\"true\"]\ninto = \"raw.x\""), "unknown-key", "into"),
        (run("command = [\"true\"]\nafter = \"itemz\""), "unknown-step", "did you mean `items`?"),
        (run("command = [\"{{ ds \"]"), "template", ""),
        (
            format!(
                "[[wait]]\nname = \"w\"\nsql = \"select 1\"\nafter = \"items\"\n{}",
                extract("items", "after = \"w\"")
            ),
            "cycle",
            "wait for each other",
        ),
        (
            format!(
                "{}[[transform]]\nname = \"t\"\nsql = \"select {{{{ ds | sql }}}} as d from {{{{ ref('c') }}}}\"\n",
                run("command = [\"true\"]")
            ),
            "no-table",
            "after = [\"c\"]",
        ),
    ] {
        let (codes, told) = faults(&steps);
        assert_eq!(codes.len(), 1, "{steps}\n{told}");
        if code != "template" {
            assert_eq!(codes, [code], "{steps}\n{told}");
        }
        assert!(told.contains(hint), "{steps}\n{told}");
    }
}
