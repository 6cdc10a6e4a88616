//! Waits: what they see, what begins after them, and what happens when it does not come.

use super::*;

const READY: &str = "[[wait]]\nname = \"ready\"\nconnection = \"api\"\n\
                     request = { path = \"/rows\", params = { key = \"state\" } }\npath = \"$.rows[*].state\"\nis = \"done\"\npoll = \"10ms\"\n";

fn state(word: &str) -> Vec<Value> {
    vec![serde_json::json!({ "state": word })]
}

#[test]
fn a_wait_takes_no_place_and_what_comes_after_it_begins_when_it_is_so() {
    let after = extract("items", "after = [\"ready\"]");
    let other = extract("other", "");
    let (api, project) = project(&format!("max_active = 1\n{READY}{after}{other}").replacen("max_active = 1\n", "", 1));
    let text = std::fs::read_to_string(project.path().join("pipelines/p.toml")).expect("the file");
    project.write("pipelines/p.toml", &format!("max_active = 1\n{text}"));
    api.put("state", state("working"));
    let mut running = running(&project);
    running.says("look 1: $.rows[*].state is \"working\"");
    running.says("loaded    other 2024-05-03");
    api.put("state", state("nearly"));
    running.says("$.rows[*].state is \"nearly\"");
    assert!(!running.said.contains("items"), "{}", running.said);
    api.put("state", state("done"));
    running.says("done      ready: $.rows[*].state is \"done\", seen at look");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 done, 4 loaded"), "{said}");
    assert_eq!(count(&project, "raw.items"), 5);
    let log = crate::support::logs::said(&project, "ready");
    assert!(log.lines().count() >= 3 && log.ends_with("$.rows[*].state is \"done\"\n"), "{log}");
}

#[test]
fn a_wait_that_gives_up_fails_or_is_late_or_lets_the_others_go_on() {
    let after = extract("items", "after = \"ready\"");
    for (words, code, said, loaded) in [
        (
            "timeout = \"30ms\"",
            1,
            "failed    ready: unavailable: not so after 30ms: $.rows[*].state is \"working\"",
            false,
        ),
        ("timeout = \"30ms\"\non_timeout = \"skip\"", 4, "late      ready: not so after 30ms", false),
        ("timeout = \"30ms\"\non_timeout = \"go_on\"", 0, "what comes after it begins all the same", true),
        // The morning of that date is long over: one look is all there is.
        ("deadline = \"07:00\"\non_timeout = \"skip\"", 4, "late      ready: not so by 07:00", false),
    ] {
        let (api, project) = project(&format!("{READY}{words}\n{after}"));
        api.put("state", state("working"));
        let printed = run(&project, code);
        assert!(printed.contains(said), "{words}:\n{printed}");
        assert_eq!(printed.contains("loaded    items"), loaded, "{words}:\n{printed}");
        if !loaded {
            let reason = if code == 1 { "ready failed" } else { "ready is late" };
            assert!(printed.contains(&format!("skipped   items 2024-05-02: {reason}")), "{words}:\n{printed}");
            // The next run waits again.
            api.put("state", state("done"));
            assert!(run(&project, 0).contains("loaded    items 2024-05-02"));
        }
    }
}

#[test]
fn a_wait_that_is_stopped_ends_at_once() {
    let slow = READY.replace("poll = \"10ms\"", "poll = \"1h\"");
    let (api, project) = project(&format!("{slow}{}", extract("items", "after = \"ready\"")));
    api.put("state", state("working"));
    let mut running = running(&project);
    running.says("look 1:");
    running.interrupt();
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
}

#[test]
fn an_answer_is_judged_by_its_status_and_a_server_that_is_down_is_looked_at_again() {
    let wait = "[[wait]]\nname = \"up\"\nconnection = \"api\"\nrequest = { path = \"/rows\", params = { key = \"up\" } }\n\
                poll = \"10ms\"\n";
    let (api, project) = project(&format!("{wait}{}", extract("items", "after = \"up\"")));
    api.refuse("up", 503, "not yet");
    let mut running = running(&project);
    running.says("look 1:");
    api.relent("up");
    running.says("done      up: it answers 200");
    assert_eq!(running.end().0, Some(0));
    // The same, where the refusal is what is waited for.
    api.refuse("up", 404, "gone");
    project.write(
        "pipelines/p.toml",
        &format!("{WINDOW}{wait}status = [404, 410]\n{}", extract("items", "after = \"up\"")),
    );
    assert!(run(&project, 0).contains("done      up: it answers 404"));
}

#[test]
fn a_query_a_file_a_table_and_the_days_of_another_pipeline_can_be_waited_for() {
    let quick = "poll = \"5ms\"\ntimeout = \"30ms\"\non_timeout = \"skip\"\n";
    let waits = format!(
        "[[wait]]\nname = \"rows\"\nsql = \"select count(*) > 4 from information_schema.tables\"\n{quick}\
         [[wait]]\nname = \"file\"\nfiles = \"in/{{{{ window.last }}}}.*\"\nper = \"window\"\n{quick}\
         [[wait]]\nname = \"each\"\nfiles = \"in/{{{{ ds }}}}.csv\"\nper = \"unit\"\n{quick}\
         [[wait]]\nname = \"shard\"\nconnection = \"warehouse\"\ntable = \"main.events_{{{{ window.last | replace('-', '') }}}}\"\n{quick}\
         [[wait]]\nname = \"days\"\npipeline = \"q\"\n{quick}"
    );
    let (api, project) = project(&waits);
    let other = extract("q_items", "");
    project.write("pipelines/q.toml", &format!("{WINDOW}{other}"));
    let printed = run(&project, 4);
    for line in [
        "late      rows: not so after 30ms: the query says false",
        "late      file: not so after 30ms: no file matches",
        "late      each 2024-05-02: not so after 30ms: no file matches",
        "late      shard: not so after 30ms",
        "late      days: not so after 30ms: `raw.q_items` of 2024-05-02 is not loaded yet",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    project.write("in/2024-05-03.csv", "a\n1\n");
    project.write("in/2024-05-02.csv", "a\n1\n");
    let made = project.output(&["run", "q", "--date", DATE]);
    assert!(made.status.success(), "{}", told(&made));
    let tables = extract("events", "into = \"main.events_20240503\"");
    project.write("pipelines/r.toml", &format!("{WINDOW}{tables}"));
    assert!(project.output(&["run", "r", "--date", DATE]).status.success());
    let text = waits.replace("count(*) > 4", "count(*) > 1").replace("timeout = \"30ms\"", "timeout = \"20s\"");
    project.write("pipelines/p.toml", &format!("{WINDOW}{text}"));
    let printed = run(&project, 0);
    for line in [
        "done      rows: the query says true",
        "done      file: in/2024-05-03.csv is there, 4 bytes",
        "done      each 2024-05-02: in/2024-05-02.csv is there, 4 bytes",
        "done      shard: main.events_20240503: 5 rows",
        "done      days: `q` has 2024-05-02 to 2024-05-03",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    drop(api);
}

#[test]
fn what_still_grows_is_not_there_yet() {
    let wait = "[[wait]]\nname = \"file\"\nfiles = \"in.csv\"\npoll = \"10ms\"\nstable_for = \"1h\"\n";
    let (_api, project) = project(&format!("{wait}{}", extract("items", "after = \"file\"")));
    project.write("in.csv", "a\n");
    let mut running = running(&project);
    running.says("look 1: in.csv is there, 2 bytes");
    project.write("in.csv", "a\n1\n");
    running.says("in.csv is there, 4 bytes");
    running.interrupt();
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(!said.contains("done      file"), "{said}");
    let short = wait.replace("stable_for = \"1h\"", "stable_for = \"20ms\"");
    project.write("pipelines/p.toml", &format!("{WINDOW}{short}{}", extract("items", "after = \"file\"")));
    assert!(run(&project, 0).contains("done      file: in.csv is there, 4 bytes"));
}
