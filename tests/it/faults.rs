//! The fault server: whatever an API does wrong, nothing is lost, nothing is doubled, and what cannot be mended is told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use haul::time::Clock;
use serde_json::json;

use crate::extract::{all, ids, project, run, run_badly};
use crate::support::pages::{Fault, PagesApi, ROWS, ordinary};
use crate::support::project::told;

const CURSOR: &str = "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }";
const SIDE_BY_SIDE: &str = "paginate = { by = \"offset\", limit = 5, total = \"$.meta.total\" }";

const DAY: &[&str] = &["2024-05-01"];
const DATE: &str = "2024-05-02";

/// A fault at the first request for the page at this offset or cursor.
fn once(
    place: &'static str,
    fault: impl Fn() -> Fault + Send + 'static,
) -> impl FnMut(&crate::support::pages::Asked) -> Option<Fault> + Send {
    move |asked| (asked.again == 0 && [asked.param("offset"), asked.param("cursor")].contains(&place)).then(&fault)
}

#[test]
fn every_fault_that_passes_costs_one_more_request_and_no_row() {
    type Make = fn() -> Fault;
    let faults: [(&str, Make); 9] = [
        ("too many requests", || Fault::Status(429, Some("0".to_owned()))),
        ("too many requests, without a word on when", || Fault::Status(429, None)),
        ("forbidden for now", || Fault::Status(403, Some("0".to_owned()))),
        ("unavailable", || Fault::Status(503, None)),
        ("a bad gateway", || Fault::Status(502, None)),
        ("a proxy's own status", || Fault::Status(522, None)),
        ("cut in the middle", || Fault::Cut),
        ("an error page instead of JSON", || Fault::Body("<html>Bad Gateway</html>".to_owned())),
        ("half of the JSON, and a clean end", || {
            Fault::Body("{\"meta\": {\"total\": 25}, \"items\": [{\"id\": 1".to_owned())
        }),
    ];
    for (name, fault) in faults {
        let api = PagesApi::start();
        api.misbehave(move |asked| (asked.again == 0 && ["10", "c10"].contains(&place(asked).as_str())).then(fault));
        let project = project(&api, "", 1, &[("pages", CURSOR), ("numbers", SIDE_BY_SIDE)]);
        run(&project, DATE);
        for table in ["raw.pages", "raw.numbers"] {
            assert_eq!(ids(&project, table), all(DAY, ROWS), "{name}: {table}");
        }
        let counts = api.counts();
        assert_eq!((counts["/pages"], counts["/numbers"]), (3 + 1, 5 + 1), "{name}");
    }
}

/// Where a page begins, by offset or cursor.
fn place(asked: &crate::support::pages::Asked) -> String {
    format!("{}{}", asked.param("offset"), asked.param("cursor"))
}

#[test]
fn a_pause_that_the_server_asks_for_holds_for_the_whole_connection() {
    let seconds: fn() -> String = || "1".to_owned();
    // A date has whole seconds: the one after the next is between one and two seconds away.
    let date: fn() -> String =
        || httpdate::fmt_http_date(SystemTime::from(Clock::System.now() + Duration::from_secs(2)));
    for after in [seconds, date] {
        let api = PagesApi::start();
        api.resize(DAY[0], 200);
        api.slow_down(Duration::from_millis(5));
        api.misbehave(once("20", move || Fault::Status(429, Some(after()))));
        let project = project(&api, "max_concurrent = 2", 1, &[("items", SIDE_BY_SIDE), ("others", CURSOR)]);
        run(&project, DATE);
        assert_eq!(ids(&project, "raw.items"), all(DAY, 200));
        assert_eq!(ids(&project, "raw.others"), all(DAY, 200));
        let asked = api.asked();
        let refused = asked.iter().position(|one| one.param("offset") == "20").expect("the refused request");
        let gaps = asked.windows(2).map(|two| two[1].at.duration_since(two[0].at)).enumerate();
        let (last, pause) = gaps.max_by_key(|(_, gap)| *gap).expect("a gap");
        assert!(pause >= Duration::from_millis(900), "{pause:?}");
        // Besides the refused request, only what was under way already arrives before the pause.
        assert!((refused..refused + 3).contains(&last), "quiet after request {last}, {refused} was refused");
        assert!(asked.len() - last > 30, "all others came after the pause");
    }
}

#[test]
fn what_stays_broken_is_told_with_its_page_and_what_was_found() {
    type Lasting = (&'static str, fn() -> Fault, &'static [&'static str], usize);
    let lasting: [Lasting; 5] = [
        (
            "html",
            || Fault::Body("<html>Service <b>down</b></html>".to_owned()),
            &[
                "reading page 2 of",
                "/html",
                "attempt 3 of 3",
                "the answer is not JSON",
                "<html>Service <b>down</b></html>",
            ],
            3,
        ),
        ("silence", || Fault::Body(String::new()), &["/silence: attempt 3 of 3", "found nothing|): nothing"], 3),
        ("refused", || Fault::Status(404, None), &["/refused: 404 Not Found not now"], 1),
        ("overload", || Fault::Status(503, None), &["/overload: attempt 4 of 4: 503 Service Unavailable not now"], 4),
        (
            "error_inside",
            || Fault::Body("{\"error\": \"quota used up\"}".to_owned()),
            &["/error_inside: the answer has no member `items`: it has error: {\"error\": \"quota used up\"}"],
            1,
        ),
    ];
    for (name, fault, words, requests) in lasting {
        let api = PagesApi::start();
        api.misbehave(move |asked| (place(asked) == "c10").then(fault));
        let project = project(&api, "", 1, &[(name, CURSOR)]);
        let told = run_badly(&project, DATE);
        for words in words {
            assert!(words.split('|').any(|words| told.contains(words)), "{name}: `{words}` is not in {told}");
        }
        assert_eq!(api.asked().iter().filter(|asked| place(asked) == "c10").count(), requests, "{name}");
        assert!(
            project
                .query("select 1 from information_schema.tables where table_schema = 'raw'")
                .as_array()
                .is_some_and(Vec::is_empty)
        );
    }
}

#[test]
fn bytes_that_stop_coming_are_waited_for_no_longer_than_the_page_timeout() {
    let api = PagesApi::start();
    api.misbehave(once("c10", || Fault::Stall));
    let patient = project(&api, "timeout = \"300ms\"", 1, &[("items", CURSOR)]);
    run(&patient, DATE);
    assert_eq!(ids(&patient, "raw.items"), all(DAY, ROWS));
    assert_eq!(api.asked().len(), 4);

    api.misbehave(|asked| (place(asked) == "c10").then_some(Fault::Stall));
    let keys = format!("{CURSOR}\nretry = {{ max_attempts = 2, min_backoff = \"1ms\" }}");
    let stuck = project(&api, "timeout = \"300ms\"", 1, &[("items", &keys)]);
    let told = run_badly(&stuck, DATE);
    assert!(told.contains("reading page 2 of") && told.contains("no whole answer within 300ms"), "{told}");
}

#[test]
fn a_redirect_stays_on_its_host() {
    let other = PagesApi::start();
    let api = PagesApi::start();
    let place = format!("{}/items", other.url);
    api.misbehave(move |asked| {
        (asked.path == "/elsewhere")
            .then(|| Fault::Redirect(place.clone()))
            .or_else(|| (asked.path == "/moved").then(|| Fault::Redirect(format!("/here?day={}", asked.param("day")))))
    });
    let connection = "auth = { type = \"api_key\", key = \"a-secret-key\", header = \"X-Key\" }";
    let moved = project(&api, connection, 1, &[("moved", "paginate = { by = \"link\" }\nrecords = \"$.items[*]\"")]);
    run(&moved, DATE);
    assert_eq!(ids(&moved, "raw.moved"), all(DAY, ROWS));
    assert!(api.asked().iter().all(|asked| asked.header("x-key") == "a-secret-key"));

    api.forget();
    let elsewhere = project(&api, connection, 1, &[("elsewhere", CURSOR)]);
    let told = run_badly(&elsewhere, DATE);
    assert!(told.contains(&format!("the server redirects to {}", other.url)), "{told}");
    assert_eq!((api.asked().len(), other.asked().len()), (1, 0), "neither tried again nor followed");
}

#[test]
fn a_next_address_on_another_host_is_not_followed() {
    let other = PagesApi::start();
    let api = PagesApi::start();
    let next = format!("{}/items?cursor=c10", other.url);
    api.misbehave(move |_| Some(Fault::Body(json!({ "items": [{ "id": 1 }], "next": next }).to_string())));
    let project = project(&api, "", 1, &[("items", "paginate = { by = \"next_url\", at = \"$.next\" }")]);
    let told = run_badly(&project, DATE);
    assert!(told.contains(&format!("the next page of page 1 is at {}, not at {}", other.url, api.url)), "{told}");
    assert!(other.asked().is_empty());
}

#[test]
fn a_total_that_changes_while_pages_are_read_begins_the_pull_anew() {
    let styles = [
        ("numbers", SIDE_BY_SIDE),
        ("unsized", "paginate = { by = \"page\", total = \"$.meta.total\" }"),
        ("pages", "paginate = { by = \"page\", total_pages = \"$.meta.pages\" }"),
        (
            "cursors",
            "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\", total = \"$.meta.total\" }",
        ),
        ("links", "paginate = { by = \"link\", total = \"$.meta.total\" }"),
    ];
    for (name, keys) in styles {
        let api = Arc::new(PagesApi::start());
        let (source, asked) = (Arc::clone(&api), AtomicUsize::new(0));
        api.misbehave(move |_| {
            // Before the third answer a row is put in front, and all others move by one.
            if asked.fetch_add(1, Ordering::Relaxed) == 2 {
                source.set_rows(DAY[0], (0..=40).map(|id| ordinary(DAY[0], id + 1)).collect());
            }
            None
        });
        api.set_rows(DAY[0], (2..=31).map(|id| ordinary(DAY[0], id)).collect());
        let project = project(&api, "max_concurrent = 1", 1, &[(name, keys)]);
        let output = project.output(&["run", "items", "--date", DATE]);
        assert!(output.status.success(), "{name}: {}", told(&output));
        assert_eq!(ids(&project, &format!("raw.{name}")), all(DAY, 41), "{name}");
        assert!(told(&output).contains("begins anew"), "{name}: {}", told(&output));
    }
}

#[test]
fn a_total_that_never_rests_is_an_error_and_loads_nothing() {
    let api = Arc::new(PagesApi::start());
    let (source, asked) = (Arc::clone(&api), AtomicUsize::new(100));
    api.misbehave(move |_| {
        source.resize(DAY[0], asked.fetch_add(1, Ordering::Relaxed));
        None
    });
    let project = project(&api, "max_concurrent = 1", 1, &[("items", SIDE_BY_SIDE)]);
    let told = run_badly(&project, DATE);
    assert!(told.contains("the total moved during each of 3 pulls"), "{told}");
    assert!(api.asked().len() < 12, "a pull that is lost is not read to its end: {}", api.asked().len());
}

#[test]
fn a_page_that_comes_again_in_the_middle_loads_nothing_and_the_next_run_is_whole() {
    let api = PagesApi::start();
    let stuck = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&stuck);
    let page = json!({ "meta": { "total": 25, "next": "c20" }, "items": [{ "id": 1, "day": DAY[0] }] }).to_string();
    api.misbehave(move |asked| {
        let again = place(asked).starts_with('c') && still.load(Ordering::Relaxed);
        again.then(|| Fault::Body(page.clone()))
    });
    let project = project(&api, "", 1, &[("items", CURSOR)]);
    let told = run_badly(&project, DATE);
    assert!(told.contains("page 3 has the same rows as the page before"), "{told}");
    stuck.store(false, Ordering::Relaxed);
    run(&project, DATE);
    assert_eq!(ids(&project, "raw.items"), all(DAY, ROWS), "nothing of the doubtful pages is left");
}

#[test]
fn an_empty_answer_where_rows_were_is_held_and_the_old_rows_stay() {
    let api = PagesApi::start();
    let project = project(&api, "", 1, &[("items", CURSOR), ("numbers", SIDE_BY_SIDE)]);
    run(&project, DATE);
    api.resize(DAY[0], 0);
    let output = project.output(&["run", "items", "--date", DATE]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("25 rows became none"), "{}", told(&output));
    for table in ["raw.items", "raw.numbers"] {
        assert_eq!(ids(&project, table), all(DAY, ROWS), "{table}");
    }
    // An API that fails with 200 and a null in the place of the rows looks the same.
    api.misbehave(|_| Some(Fault::Body("{\"items\": null, \"meta\": {}}".to_owned())));
    assert_eq!(project.output(&["run", "items", "--date", DATE]).status.code(), Some(3));
    assert_eq!(ids(&project, "raw.items"), all(DAY, ROWS));
}

/// A well mixed number out of two.
fn mix(seed: u64, index: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 32)
}

#[test]
fn a_long_pull_with_faults_everywhere_loses_and_doubles_nothing() {
    const PAGES: usize = 300;
    let keys =
        |style: &str| format!("{style}\nretry = {{ max_attempts = 12, min_backoff = \"1ms\", max_backoff = \"4ms\" }}");
    let cursor = keys(
        "request = { path = \"/cursors\", params = { day = \"{{ ds }}\", limit = \"5\" } }\npaginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\", total = \"$.meta.total\" }",
    );
    for (name, keys, seed) in [("numbers", keys(SIDE_BY_SIDE), 7), ("cursors", cursor, 11)] {
        let api = PagesApi::start();
        api.resize(DAY[0], PAGES * 5 - 2);
        let dealt: Arc<Mutex<Vec<u64>>> = Arc::default();
        let (count, kinds) = (AtomicUsize::new(0), Arc::clone(&dealt));
        api.misbehave(move |_| {
            let dice = mix(seed, count.fetch_add(1, Ordering::Relaxed) as u64);
            if !dice.is_multiple_of(20) {
                return None;
            }
            let kind = (dice >> 8) % 6;
            kinds.lock().expect("no test panicked here").push(kind);
            Some(match kind {
                0 => Fault::Status(429, Some("0".to_owned())),
                1 => Fault::Status(503, None),
                2 => Fault::Cut,
                3 => Fault::Body("{\"meta\": {\"total\"".to_owned()),
                4 => Fault::Status(500, Some("0".to_owned())),
                _ => Fault::Body("upstream connect error".to_owned()),
            })
        });
        let project = project(&api, "", 1, &[(name, &keys)]);
        run(&project, DATE);
        let sql = format!(
            "select count(*) as rows, count(distinct id) as ids, min(id) as first, max(id) as last from raw.{name}"
        );
        let rows = (PAGES * 5 - 2) as u64;
        assert_eq!(project.query(&sql), json!([{ "rows": rows, "ids": rows, "first": 1, "last": rows }]), "{name}");
        let dealt = dealt.lock().expect("no test panicked here");
        let kinds: std::collections::BTreeSet<u64> = dealt.iter().copied().collect();
        assert!(dealt.len() >= 8 && kinds.len() >= 4, "{name}: {dealt:?}");
        assert_eq!(
            api.asked().len(),
            PAGES + dealt.len(),
            "{name}: each fault costs one request, each page comes once"
        );
    }
}

#[test]
fn a_pull_that_failed_goes_on_with_the_pages_that_were_good() {
    let api = PagesApi::start();
    api.resize(DAY[0], 60);
    let down = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&down);
    api.misbehave(move |asked| {
        let late = asked.param("offset").parse::<usize>().is_ok_and(|offset| offset >= 40);
        (late && still.load(Ordering::Relaxed)).then_some(Fault::Status(503, None))
    });
    let project = project(&api, "max_concurrent = 2", 1, &[("items", SIDE_BY_SIDE)]);
    run_badly(&project, DATE);
    let before: Vec<String> = api.asked().iter().filter(|asked| asked.again == 0).map(place).collect();
    down.store(false, Ordering::Relaxed);
    api.forget();
    run(&project, DATE);
    assert_eq!(ids(&project, "raw.items"), all(DAY, 60));
    let after: Vec<String> = api.asked().iter().map(place).collect();
    assert!(
        after.iter().all(|page| page.parse::<usize>().is_ok_and(|offset| offset >= 10)),
        "{before:?}, then {after:?}"
    );
    let twice =
        after.iter().filter(|page| page.parse::<usize>().is_ok_and(|offset| offset < 40) && before.contains(page));
    // A page whose answer was dropped together with the pull was not durable.
    assert!(twice.count() <= 4, "{before:?}, then {after:?}");
}
