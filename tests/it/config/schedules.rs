//! Faults of `[schedule]`.

use super::*;

fn scheduled(schedule: &str) -> String {
    format!("{WINDOW}[schedule]\n{schedule}\n{RATINGS}")
}

#[test]
fn a_schedule_goes_by_one_of_cron_every_and_after() {
    for good in [
        "cron = \"0 6 * * *\"",
        "cron = [\"0 6 * * 1-5\", \"0 9 * * 6,0\"]\ngap = \"skip\"\nfold = \"both\"",
        "every = \"6h\"\nanchor = 2026-01-01T03:00:00+01:00",
        "cron = \"0 0 29 2 *\"\nmissed = \"each\"\nmissed_limit = 3\noverlap = \"cancel_other\"\npaused = true",
    ] {
        assert_eq!(faults(&scheduled(good)), Vec::<String>::new(), "{good}");
    }
    for (schedule, code, help) in [
        ("paused = true", "no-times", "every = \"6h\""),
        ("cron = \"0 6 * * *\"\nevery = \"6h\"", "two-schedules", "one list"),
        ("every = \"6h\"\nafter = \"q\"", "two-schedules", "one list"),
        ("cron = []", "empty", ""),
        ("cron = [\"0 6 * *\"]", "bad-cron", "five fields"),
        ("cron = \"61 6 * * *\"", "bad-cron", "five fields"),
        ("cron = \"0 6 31 2 *\"", "never-runs", "day of month"),
        ("every = \"500ms\"", "bad-interval", "15m"),
        ("cron = \"0 6 * * *\"\nanchor = 2026-01-01T00:00:00Z", "foreign-key", "every"),
        ("every = \"6h\"\ngap = \"skip\"", "foreign-key", "cron"),
        ("every = \"6h\"\nfold = \"both\"", "foreign-key", "cron"),
        ("every = \"6h\"\ntimezone = \"Asia/Seoul\"", "foreign-key", "cron"),
        ("cron = \"0 6 * * *\"\nmissed = \"skip\"\nmissed_limit = 3", "foreign-key", "widen"),
        ("cron = \"0 6 * * *\"\noverlap = \"cancel\"", "unknown-value", "cancel_other"),
        ("cron = \"0 6 * * *\"\nfold = \"second\"", "unknown-value", "first"),
        ("cron = \"0 6 * * *\"\nmissed_limit = 0", "out-of-range", ""),
    ] {
        let loaded = loaded(&[("pipelines/p.toml", &scheduled(schedule)), ("pipelines/q.toml", &other())]);
        let codes: Vec<_> = loaded.diagnostics.iter().map(|fault| fault.code).collect();
        assert_eq!(codes, [code], "{schedule}");
        let told = loaded.diagnostics[0].help.clone().unwrap_or_default();
        assert!(told.contains(help), "{schedule}: {told}");
    }
}

fn other() -> String {
    format!("{WINDOW}{RATINGS}into = \"raw.other\"\n")
}

#[test]
fn a_schedule_follows_a_pipeline_that_exists_and_none_follow_each_other() {
    let follows =
        |name: &str, after: &str| format!("{WINDOW}[schedule]\nafter = \"{after}\"\n{RATINGS}into = \"raw.{name}\"\n");
    let files = [("pipelines/p.toml", &*follows("p", "qq")), ("pipelines/q.toml", &*other())];
    let printed = told(&files);
    assert!(printed.contains("there is no pipeline `qq`") && printed.contains("did you mean `q`?"), "{printed}");
    assert_eq!(underlined(&files), ["\"qq\""]);

    let loaded = loaded(&[
        ("pipelines/a.toml", &follows("a", "b")),
        ("pipelines/b.toml", &follows("b", "c")),
        ("pipelines/c.toml", &follows("c", "b")),
    ]);
    let messages: Vec<_> = loaded.diagnostics.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "these pipelines wait for each other: b after c after b",
            "these pipelines wait for each other: c after b after c"
        ]
    );
}
