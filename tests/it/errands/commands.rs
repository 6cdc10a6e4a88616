//! Commands: what they get, what becomes of what they say, how they fail, and when they are run again.

use super::*;
use crate::support::logs::said;

/// A command by a shell, after the extract.
fn command(text: &str, more: &str) -> String {
    format!(
        "{}[[run]]\nname = \"tell\"\nshell = true\ncommand = '''{text}'''\nafter = [\"items\"]\n{more}\n",
        extract("items", "")
    )
}

/// What commands have written into the project's folder, line by line and sorted.
fn written(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path().join("out.txt")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_command_gets_its_unit_and_is_not_run_again_for_what_has_not_changed() {
    let text = "echo \"$HAUL_STEP $HAUL_DS $HAUL_UNIT_START {{ ds }}\" >> out.txt";
    let (api, project) = project(&command(text, ""));
    let printed = run(&project, 0);
    assert!(printed.contains("done      tell 2024-05-02: exit code 0"), "{printed}");
    let line = |day: &str| format!("tell {day} {day}T00:00:00Z {day}");
    assert_eq!(written(&project), [line("2024-05-02"), line("2024-05-03")]);

    let again = run(&project, 0);
    assert!(again.contains("skipped   tell 2024-05-02: nothing that it comes after has changed"), "{again}");
    assert_eq!(written(&project).len(), 2);

    api.put_day("2024-05-03", 4);
    let changed = run(&project, 0);
    assert!(changed.contains("done      tell 2024-05-03"), "{changed}");
    assert_eq!(written(&project), [line("2024-05-02"), line("2024-05-03"), line("2024-05-03")]);

    let status = project.stdout(&["status"]);
    assert!(status.contains("raw.items") && !status.contains("tell"), "{status}");
}

#[test]
fn a_command_over_the_window_runs_once_and_one_that_follows_nothing_at_every_run() {
    let steps = "[[run]]\nname = \"a\"\nper = \"window\"\nshell = true\n\
                 command = 'echo \"$HAUL_WINDOW_START $HAUL_WINDOW_END\" >> out.txt'\n";
    let (_api, project) = project(steps);
    run(&project, 0);
    run(&project, 0);
    assert_eq!(written(&project), ["2024-05-02T00:00:00Z 2024-05-04T00:00:00Z"; 2]);
}

#[test]
fn a_command_that_fails_shows_its_last_words_and_is_run_again_by_the_next_run() {
    let text = "echo out; echo one >&2; echo two >&2; test -f ok.txt || exit 3; echo done >> out.txt";
    let (_api, project) = project(&command(text, "per = \"window\""));
    let failed = run(&project, 1);
    assert!(
        failed.contains("failed    tell 2024-05-02 to 2024-05-03: source: the program `sh` failed with exit code 3"),
        "{failed}"
    );
    assert!(failed.contains("one") && failed.contains("two"), "{failed}");
    let log = said(&project, "tell/2024-05-02");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "out", "two"]);

    project.write("ok.txt", "");
    let printed = run(&project, 0);
    assert!(printed.contains("done      tell 2024-05-02 to 2024-05-03: exit code 0"), "{printed}");
    assert_eq!(written(&project), ["done"]);
}

#[test]
fn a_command_is_tried_again_as_often_as_it_says() {
    let text = "echo x >> out.txt; test $(wc -l < out.txt) -ge 3";
    let (_api, project) = project(&command(text, "per = \"window\"\nretries = 2\nretry_pause = \"1ms\""));
    let printed = run(&project, 0);
    assert!(printed.contains("retrying  tell"), "{printed}");
    assert!(printed.contains("exit code 0 at the attempt number 3"), "{printed}");
    assert_eq!(written(&project).len(), 3);
}

#[test]
fn a_command_that_takes_too_long_ends_with_all_that_it_began() {
    let text = "sleep 600 & echo $! > child.txt; wait";
    let (_api, project) = project(&command(text, "per = \"window\"\ntimeout = \"300ms\""));
    let printed = run(&project, 1);
    assert!(printed.contains("had not ended after 300ms"), "{printed}");
    let child = std::fs::read_to_string(project.path().join("child.txt")).expect("the child's number");
    // Whoever is dead and not yet buried has ended too.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
    assert!(matches!(state, None | Some('Z')), "the child {child} is still there: {stat}");
}

#[test]
fn a_command_needs_no_shell_and_gets_the_fields_of_a_connection_without_letting_them_out() {
    let steps = "[[run]]\nname = \"tell\"\ncommand = [\"python3\", \"tell.py\", \"{{ window.last }}; echo no\"]\n\
                 connection = \"crm\"\nenv = { MODE = \"{{ 1 + 1 }}\" }\nper = \"window\"\n";
    let (_api, project) = project(steps);
    let connections = std::fs::read_to_string(project.path().join("connections.toml")).expect("the file");
    project
        .write("connections.toml", &format!("{connections}\n[crm]\ntype = \"process\"\ntoken = \"s3cret-of-crm\"\n"));
    project.write(
        "tell.py",
        "import json, os, sys\nfields = json.load(open(os.environ['HAUL_CONNECTION']))\n\
         print(sys.argv[1], os.environ['MODE'], 'HAUL_PROJECT' in os.environ)\nprint('token', fields['token'])\n",
    );
    let printed = run(&project, 0);
    assert!(printed.contains("2024-05-03; echo no 2 False"), "{printed}");
    assert!(printed.contains("says") && !printed.contains("s3cret-of-crm"), "{printed}");
    let log = said(&project, "tell/2024-05-02");
    assert!(log.contains("token") && !log.contains("s3cret-of-crm"), "{log}");
    let rendered = project.stdout(&["render", "p", "tell", "--date", DATE]);
    assert!(rendered.contains("python3 tell.py '2024-05-03; echo no'"), "{rendered}");
}

#[test]
fn commands_follow_each_other_and_a_table_can_be_made_after_a_command() {
    let steps = format!(
        "{}[[run]]\nname = \"second\"\nshell = true\ncommand = 'echo second {{{{ ds }}}} >> out.txt'\nafter = \"tell\"\n\
         [[transform]]\nname = \"daily\"\nafter = \"second\"\nsql = \"select {{{{ ds | sql }}}} as day, count(*) as n from {{{{ ref('items') }}}} where _haul_unit = {{{{ ds | sql }}}}\"\n",
        command("echo first {{ ds }} >> out.txt", "")
    );
    let (api, project) = project(&steps);
    run(&project, 0);
    assert_eq!(written(&project).len(), 4);
    let plan = project.json(&["plan", "p", "--date", DATE, "--force"]);
    let after = |task: &str| {
        let tasks = plan[0]["tasks"].as_array().expect("tasks");
        tasks.iter().find(|one| one["task"] == task).map(|one| one["after"].to_string()).unwrap_or_default()
    };
    assert!(after("daily 2024-05-02").contains("second 2024-05-02"), "{}", after("daily 2024-05-02"));
    assert!(after("second 2024-05-02").contains("tell 2024-05-02"), "{}", after("second 2024-05-02"));
    api.put_day("2024-05-02", 2);
    run(&project, 0);
    assert_eq!(written(&project)[..2], ["first 2024-05-02", "first 2024-05-02"]);
    assert_eq!(written(&project).len(), 6);
}

#[test]
fn a_command_that_is_stopped_ends_with_all_that_it_began() {
    let text = "trap '' TERM; sleep 600 & echo $! $$ > pids.txt; echo ready >&2; wait; wait";
    let (_api, project) = project(&command(text, "per = \"window\""));
    let mut running = running(&project);
    running.says("ready");
    running.interrupt();
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    let pids = std::fs::read_to_string(project.path().join("pids.txt")).expect("the numbers");
    assert_eq!(pids.split_whitespace().count(), 2);
    for pid in pids.split_whitespace() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
        assert!(matches!(state, None | Some('Z')), "the process {pid} is still there: {stat}");
    }
}
