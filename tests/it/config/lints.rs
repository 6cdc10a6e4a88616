//! Faults that one file shows by itself: what a step says of its rows, its window and its pages must fit together.

use super::*;

#[test]
fn append_with_a_lookback_is_refused_unless_copies_are_meant() {
    let step = "write = \"append\"\n";
    let fault = only_fault(step);
    assert_eq!(fault.code, "append-with-lookback");
    assert!(fault.help.expect("a hint").contains("append_repeats"));
    assert_eq!(faults(&format!("{WINDOW}{RATINGS}{step}append_repeats = true\n")), Vec::<String>::new());
    assert_eq!(faults(&format!("[window]\nlookback = 1\n{RATINGS}{step}")), Vec::<String>::new());
}

#[test]
fn a_request_that_never_uses_its_window_is_refused() {
    let step = |more: &str| {
        format!("{WINDOW}[[extract]]\nname = \"a\"\nconnection = \"other\"\nrequest = {{ path = \"/a\" }}\n{more}")
    };
    assert_eq!(faults(&step("")), ["unused-window 6:11"]);
    assert_eq!(faults(&step("write = \"full\"\n")), Vec::<String>::new());
    assert_eq!(faults(&step("per = \"window\"\ntime_column = \"at\"\n")), Vec::<String>::new());
    assert_eq!(faults(&step("time_column = \"at\"\noutside = \"keep\"\n")), ["unused-window 6:11"]);
    let body = "[window]\n[[extract]]\nname = \"a\"\nconnection = \"other\"\nrequest = { body = { from = \"{{ unit.start | strftime(\\\"%Y\\\") }}\" } }\n";
    assert_eq!(faults(body), Vec::<String>::new());
}

#[test]
fn asking_the_clock_in_a_windowed_transform_is_told() {
    let sql = "SELECT 'now()' -- today()\nFROM {{ ref('ratings') }} WHERE day = {{ ds }} AND x < CURRENT_DATE AND y < now()\n";
    let files = [
        ("pipelines/p.toml", format!("{WINDOW}{RATINGS}[[transform]]\nname = \"t\"\nsql = \"sql/t.sql\"\n")),
        ("sql/t.sql", sql.to_owned()),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert_eq!(underlined(&files), ["CURRENT_DATE", "now"]);
    let loaded = loaded(&files);
    assert!(loaded.diagnostics.iter().all(|fault| fault.severity == Severity::Warning));
    assert!(loaded.project.is_some(), "a warning does not stop a project");
    let inline = "[[transform]]\nname = \"t\"\nsql = \"SELECT {{ ds }}, today() FROM {{ ref('ratings') }}\"\n";
    assert_eq!(only_fault(inline).labels[0].column, 25);
}

#[test]
fn a_duration_without_its_unit_is_refused_with_the_forms_it_may_have_meant() {
    for written in ["30", "\"30\""] {
        let fault = loaded(&[("pipelines/p.toml", &format!("[window]\nsettle_after = {written}\n{RATINGS}"))]);
        assert_eq!(places(&fault), ["bare-duration 2:16"]);
        assert!(fault.diagnostics[0].help.as_deref().expect("a hint").contains("\"30d\""));
    }
}

#[test]
fn a_table_has_one_writer_over_all_pipelines() {
    let second = format!("{WINDOW}{RATINGS}into = \"RAW.ratings\"\n");
    let loaded = loaded(&[("pipelines/p.toml", &format!("{WINDOW}{RATINGS}")), ("pipelines/q.toml", &second)]);
    assert_eq!(places(&loaded), ["two-writers 8:8"]);
    assert_eq!(loaded.diagnostics[0].labels[1].file, Path::new("pipelines/p.toml"));
    let elsewhere = format!("warehouse = \"other\"\n{second}");
    let loaded = self::loaded(&[("pipelines/p.toml", &format!("{WINDOW}{RATINGS}")), ("pipelines/q.toml", &elsewhere)]);
    assert_eq!(places(&loaded), Vec::<String>::new());
}

#[test]
fn a_circle_of_references_is_refused_with_its_path() {
    let step = |name: &str, reads: &str| {
        format!("[[transform]]\nname = \"{name}\"\nsql = \"SELECT {{{{ ds }}}} FROM {{{{ ref('{reads}') }}}}\"\n")
    };
    let circle = format!("{WINDOW}{}{}{}", step("a", "c"), step("b", "a"), step("c", "b"));
    let loaded = loaded(&[("pipelines/p.toml", &circle)]);
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].message, "these steps wait for each other: b -> c -> a -> b");
    let fault = only_fault(&step("me", "me"));
    assert_eq!((fault.code, fault.message.as_str()), ("cycle", "`me` reads itself"));
}

#[test]
fn a_reference_to_nothing_names_the_nearest_step() {
    let reads = |name: &str| {
        let fault = only_fault(&format!(
            "[[transform]]\nname = \"t\"\nsql = \"SELECT {{{{ ds }}}} FROM {{{{ ref('{name}') }}}}\"\n"
        ));
        (fault.code, fault.help.expect("a hint"))
    };
    assert_eq!(reads("ratngs"), ("unknown-ref", "did you mean `ratings`?".to_owned()));
    assert_eq!(reads("p.ratngs"), ("unknown-ref", "did you mean `ratings`?".to_owned()));
    let other = "[window]\n[[transform]]\nname = \"t\"\nsql = \"SELECT {{ ds }} FROM {{ ref('ratings') }}\"\n";
    let loaded = loaded(&[("pipelines/p.toml", &format!("{WINDOW}{RATINGS}")), ("pipelines/q.toml", other)]);
    assert_eq!(
        loaded.diagnostics[0].help.as_deref(),
        Some("a step of another pipeline is named with it: ref('p.ratings')")
    );
}

#[test]
fn a_step_over_the_whole_window_names_its_time_column_and_keeps_nothing_outside() {
    assert_eq!(only_fault("per = \"window\"\n").code, "window-without-time-column");
    assert_eq!(only_fault("per = \"window\"\ntime_column = \"at\"\noutside = \"keep\"\n").code, "keep-over-window");
    let transform = "[[transform]]\nname = \"t\"\nsql = \"SELECT {{ window.start }}\"\nper = \"window\"\n";
    assert_eq!(only_fault(transform).code, "window-without-time-column");
}

#[test]
fn a_merge_names_its_keys_and_replacing_may() {
    assert_eq!(only_fault("write = \"merge\"\n").code, "merge-without-keys");
    assert_eq!(faults(&format!("{WINDOW}{RATINGS}keys = \"id\"\n")), Vec::<String>::new());
    assert_eq!(only_fault("newest_by = \"at\"\n").code, "newest-without-merge");
}

#[test]
fn what_counts_units_needs_a_window() {
    let pipeline = format!(
        "{RATINGS}per = \"unit\"\nwrite = \"replace\"\n[[transform]]\nname = \"t\"\nsql = \"SELECT 1\"\nreach = \"-1d..0d\"\n"
    );
    assert_eq!(
        faults(&pipeline),
        ["per-without-window 6:7", "replace-without-window 7:9", "reach-without-window 11:9"]
    );
    let reach = "[[transform]]\nname = \"t\"\nsql = \"SELECT {{ ds }} FROM {{ ref('ratings') }}\"\nreach = { ratngs = \"-1d..0d\", ratings = \"-1w..0d\" }\n";
    assert_eq!(faults(&format!("{WINDOW}{RATINGS}{reach}")), ["unknown-ref 11:11", "bad-reach 11:41"]);
}

#[test]
fn a_guard_is_written_in_percent() {
    let hint = |written: &str| {
        let fault = only_fault(&format!("guard = {{ max_shrink = {written} }}\n"));
        (fault.code, fault.help.expect("a hint"))
    };
    assert_eq!(hint("0.5"), ("bad-percentage", "a share is written in percent: \"50%\"".to_owned()));
    assert_eq!(hint("30"), ("bad-percentage", "a share is written in percent: \"30%\"".to_owned()));
    assert_eq!(hint("\"130%\""), ("bad-percentage", "a share is written from \"0%\" to \"100%\"".to_owned()));
}

#[test]
fn two_steps_of_one_name_are_refused() {
    let loaded = loaded(&[("pipelines/p.toml", &format!("{WINDOW}{RATINGS}{RATINGS}into = \"raw.others\"\n"))]);
    assert_eq!(places(&loaded), ["duplicate-step 10:14"]);
}

#[test]
fn unknown_connections_and_hooks_are_told_with_the_nearest() {
    let fault = only_fault("[[extract]]\nname = \"b\"\nconnection = \"othr\"\nrequest = { path = \"/{{ ds }}\" }\n");
    assert_eq!((fault.code, fault.help.as_deref()), ("unknown-connection", Some("did you mean `other`?")));
    let unchecked = Folder::new(&[("pipelines/p.toml", &format!("warehouse = \"nowhere\"\n{WINDOW}{RATINGS}"))]);
    assert!(load(unchecked.0.path(), &Options::default()).project.is_some(), "without names, none is unknown");
}

#[test]
fn pages_have_the_keys_of_their_style() {
    let pages = |text: &str| faults(&format!("{WINDOW}{RATINGS}paginate = {{ {text} }}\n"));
    assert_eq!(pages("by = \"cursor\", at = \"$.next\""), ["missing-key 8:12"]);
    assert_eq!(pages("by = \"link\", limit = 5"), ["foreign-key 8:35"]);
    assert_eq!(pages("by = \"next_url\", at = { header = \"Link\" }"), ["foreign-key 8:36"]);
    let good = format!(
        "{WINDOW}{RATINGS}paginate = {{ by = \"cursor\", param = \"c\", in = \"body\", at = {{ header = \"X-Next\" }} }}\n"
    );
    let project = loaded(&[("pipelines/p.toml", &good)]).project.expect("a project");
    let cursor = &http_of(extract_of(&project.pipelines[0].steps[0].action)).paginate.by;
    let at = CursorPlace::Header("X-Next".to_owned());
    assert_eq!(*cursor, PageStyle::Cursor { param: "c".to_owned(), in_body: true, at });
}

#[test]
fn a_fan_out_never_leaves_the_report_of_its_hook_out_silently() {
    let hook = "connection = \"other\"\n[request]\npath = \"/r/{{ item }}\"\n[report]\nvalues = { id = \"$.id\" }\n\
                poll = { path = \"/r/{{ report.id }}\" }\ndownload = { path = \"/d\" }\n";
    let step = "[[extract]]\nname = \"a\"\nhook = \"rep\"\nwrite = \"full\"\nfor_each = { values = [1] }\n";
    let loaded = loaded(&[("hooks/rep.toml", hook), ("pipelines/p.toml", step)]);
    let told: Vec<_> = loaded.diagnostics.iter().map(|fault| (fault.code, fault.message.as_str())).collect();
    assert!(matches!(told[..], [("foreign-key", message)] if message.contains("`report`")), "{told:?}");
}
