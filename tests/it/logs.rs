//! The log of a run: every task tells, whoever reads, and much is not kept whole.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::logs::{lines, parse, said};
use crate::support::project::{Project, told};

/// How long anything may take on a machine that is busy.
const FAR: Duration = Duration::from_secs(120);

/// A project whose pipeline `p` runs programs of the shell, one a step.
fn commands(steps: &[(&str, &str)]) -> Project {
    let project = Project::with_api("http://127.0.0.1:9", "");
    let step = |(name, text): &(&str, &str)| {
        format!("[[run]]\nname = \"{name}\"\nper = \"window\"\nshell = true\ncommand = '''{text}'''\n\n")
    };
    let steps: String = steps.iter().map(step).collect();
    project.write("pipelines/p.toml", &format!("[window]\nlookback = 2\nbegin = 2024-05-01\n\n{steps}"));
    project
}

fn run(project: &Project, code: i32) -> String {
    let output = project.output(&["run", "p", "--date", "2024-05-04"]);
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    told(&output)
}

fn words(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter(|line| line["level"] != "debug").map(|line| line["what"].as_str().expect("a word")).collect()
}

/// Waits for something that another process is about to do.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < FAR, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_tells_its_tasks_line_by_line_and_they_are_read_by_run_task_and_end() {
    let project = commands(&[("one", "echo first; echo second >&2"), ("two", "echo other; exit 3")]);
    run(&project, 1);
    let all = lines(&project, None, None);
    let numbers: Vec<u64> = all.iter().map(|line| line["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>(), "no line is missing and none is out of order");
    assert_eq!((&all[0]["what"], &all[0]["data"]["tasks"]), (&json!("run_started"), &json!(2)));
    let last = all.last().expect("a last line");
    assert_eq!((&last["what"], &last["data"]["status"]), (&json!("run_finished"), &json!("failed")));
    assert!(all.iter().all(|line| line["run"] == "p-2024-05-04-1" && line["pipeline"] == "p"), "{all:?}");

    let one = lines(&project, Some("p-2024-05-04-1"), Some("one"));
    assert_eq!(words(&one), ["started", "said", "said", "done"]);
    assert!(one.iter().all(|line| line["step"] == "one" && line["unit"] == "2024-05-02"), "{one:?}");
    assert!(one.last().expect("an end")["data"]["took_ms"].is_u64());
    let two = lines(&project, Some("p"), Some("two/2024-05-02"));
    assert_eq!(words(&two), ["started", "said", "failed"]);
    assert_eq!(two.last().expect("an end")["level"], "error");
    assert_eq!(lines(&project, None, Some("two/2024-05-03")), Vec::<Value>::new());

    let text = project.stdout(&["logs", "--task", "two", "--tail", "2"]);
    let text: Vec<&str> = text.lines().collect();
    assert!(text[0].ends_with("says      two 2024-05-02: other"), "{text:?}");
    assert!(text[1].contains("failed    two 2024-05-02: source: the program `sh` failed with exit code 3"), "{text:?}");
}

#[test]
fn a_program_that_prints_without_end_keeps_what_it_said_first_and_last() {
    let text = "yes 'the quick brown fox jumps over the lazy dog and does so again' | head -n 60000 | cat -n";
    let project = commands(&[("loud", text), ("quiet", "echo hush")]);
    run(&project, 0);
    let mut size = 0;
    let logs = project.path().join(".haul/logs");
    for folder in [logs.clone(), logs.join("p-2024-05-04-1")] {
        for entry in fs::read_dir(folder).expect("a folder") {
            let metadata = entry.expect("an entry").metadata().expect("a size");
            size += if metadata.is_file() { metadata.len() } else { 0 };
        }
    }
    assert!((1 << 20..=1700 << 10).contains(&size), "{size} bytes are kept of 4 million");
    let said = said(&project, "loud");
    let number = |line: &str| line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let numbers: Vec<u64> = said.lines().map(number).collect();
    assert_eq!((numbers.first(), numbers.last()), (Some(&1), Some(&60000)));
    assert_eq!(numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count(), 1, "one gap, and order");
    assert_eq!(words(&lines(&project, None, Some("quiet"))), ["started", "said", "done"]);
    let shown = project.stdout(&["logs", "--task", "loud"]);
    let left = 60000 - numbers.len();
    assert!(shown.contains(&format!("… {left} lines of loud 2024-05-02 were not kept")), "{}", &shown[..2000]);
    assert!(shown.lines().last().is_some_and(|line| line.contains("done")), "the end stands at the end");
}

/// `haul logs -f` at work, and what it has printed.
struct Following {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Following {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.haul(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("haul starts");
        let out = BufReader::new(child.stdout.take().expect("its stdout"));
        Self { child, out }
    }

    /// The lines until one has these words.
    fn until(&mut self, words: &str) -> String {
        let mut text = String::new();
        while !text.contains(words) {
            assert!(self.out.read_line(&mut text).expect("a line") > 0, "the end came before {words}: {text}");
        }
        text
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        while self.out.read_line(&mut text).expect("a line") > 0 {}
        (self.child.wait().expect("an end").code(), text)
    }
}

#[test]
fn a_run_of_another_process_is_followed_until_it_ends() {
    let project = commands(&[("slow", "echo begun; until test -f go; do sleep 0.02; done; echo over")]);
    let mut run = project.haul(&["run", "p", "--date", "2024-05-04"]).stderr(Stdio::null()).spawn().expect("haul");
    until("the run", || project.path().join(".haul/logs/p-2024-05-04-1.jsonl").is_file());
    let mut following = Following::start(&project, &["logs", "-f", "--output", "json"]);
    let begun = following.until("begun");
    assert!(!begun.contains("over"), "{begun}");
    project.write("go", "");
    let (code, rest) = following.end();
    assert_eq!(code, Some(0));
    assert_eq!(words(&parse(&rest)), ["said", "done", "run_finished"]);
    assert!(run.wait().expect("an end").success());
    // Whoever follows a run that is over gets all of it, and an end.
    assert!(project.stdout(&["logs", "p", "-f"]).contains("says      slow 2024-05-02: over"));
}

#[test]
fn the_log_of_a_run_that_was_killed_ends_where_it_was_killed() {
    let project = commands(&[("slow", "echo begun; sleep 600")]);
    let mut run = project.haul(&["run", "p", "--date", "2024-05-04"]).stderr(Stdio::null()).spawn().expect("haul");
    until("the first word", || {
        let text = fs::read_to_string(project.path().join(".haul/logs/p-2024-05-04-1.jsonl")).unwrap_or_default();
        text.contains("begun")
    });
    let following = Following::start(&project, &["logs", "-f", "--output", "json"]);
    run.kill().expect("a kill");
    run.wait().expect("an end");
    let (code, text) = following.end();
    assert_eq!(code, Some(0));
    assert_eq!(words(&parse(&text)), ["run_started", "started", "said"]);
}

#[test]
fn what_a_run_tells_has_no_secret_and_a_torn_line_hides_no_other() {
    let project = commands(&[("tell", "echo the word is open-sesame-7; echo second")]);
    let connections = fs::read_to_string(project.path().join("connections.toml")).expect("the file");
    project.write("connections.toml", &format!("{connections}\n[x]\ntype = \"http\"\nurl = \"http://x.test\"\nauth = \"bearer\"\ntoken = \"open-sesame-7\"\n"));
    run(&project, 0);
    let path = ".haul/logs/p-2024-05-04-1.jsonl";
    let text = fs::read_to_string(project.path().join(path)).expect("the log");
    assert!(text.contains("the word is •••") && !text.contains("open-sesame-7"), "{text}");
    let torn: String = text
        .lines()
        .map(|line| if line.contains("the word") { "{\"n\":3,\"at\n".to_owned() } else { format!("{line}\n") })
        .collect();
    project.write(path, &torn);
    assert_eq!(said(&project, "tell"), "second\n");
}

#[test]
fn a_run_that_is_not_there_is_said_so() {
    let project = commands(&[("one", "echo x")]);
    let output = project.output(&["logs"]);
    assert!(output.status.code() == Some(2) && told(&output).contains("nothing has run yet"), "{}", told(&output));
    let output = project.output(&["logs", "../../etc/passwd"]);
    assert!(told(&output).contains("there is no run `../../etc/passwd`"), "{}", told(&output));
    // A file that is wrong now says nothing of what was told then.
    run(&project, 0);
    project.write("pipelines/broken.toml", "steps = 1\n");
    assert!(project.stdout(&["logs"]).contains("says      one 2024-05-02: x"));
    fs::remove_file(project.path().join(".haul/logs/p-2024-05-04-1.jsonl")).expect("the log");
    let output = project.output(&["logs"]);
    assert!(told(&output).contains("there is no log of p-2024-05-04-1 any more"), "{}", told(&output));
}
