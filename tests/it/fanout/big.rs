//! The fan-out of a person with many videos and many days: a token that dies, a server that refuses, a kill in the middle.

use std::time::Duration;

use super::{number, project};
use crate::support::fan_api::{FanApi, Manner};
use crate::support::project::{Project, told};

/// Requests that may be under way at once.
const WIDTH: usize = 64;

struct Size {
    videos: usize,
    days: usize,
    token_life: Duration,
}

impl Size {
    fn requests(&self) -> u64 {
        (self.videos * self.days) as u64
    }
}

fn start(size: &Size) -> (FanApi, Project) {
    let api = FanApi::start(Manner {
        latency: Duration::from_millis(50),
        out_of_order_every: 50,
        token_life: Some(size.token_life),
        ..Manner::default()
    });
    let connection = format!(
        "max_concurrent = {WIDTH}\nauth = {{ type = \"client_credentials\", token_url = \"{}/token\", client_id = \"me\", client_secret = \"s3cret-value\" }}",
        api.url
    );
    let head = format!("[window]\ngrain = \"day\"\nlookback = {}\n", size.days);
    let step = "for_each = { file = \"videos.csv\", as = \"video\" }\nrequest = { path = \"/videos/{{ video.id }}/stats\", params = { day = \"{{ ds }}\" } }\n\
                add = { video_id = \"{{ video.id }}\", day = \"{{ ds }}\" }\nretry = { min_backoff = \"50ms\", max_backoff = \"1s\" }";
    let project = project(&api, &connection, &head, step);
    let ids: String = (0..size.videos).map(|n| format!("v{n}\n")).collect();
    project.write("videos.csv", &format!("id\n{ids}"));
    (api, project)
}

/// Kills the run when so many requests are answered.
fn kill_at(api: &FanApi, project: &Project, answers: u64) {
    let mut child = project.haul(&["run", "fan", "--date", "2024-05-04", "--quiet"]).spawn().expect("haul starts");
    while api.answers() < answers {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a kill");
    child.wait().expect("an end");
}

fn walks_through(size: &Size) {
    let (api, project) = start(size);
    let all = size.requests();
    assert_eq!(project.json(&["plan", "fan", "--date", "2024-05-04"])[0]["totals"]["requests"], all);
    kill_at(&api, &project, all * 7 / 10);
    // A limit comes on top of all else.
    api.behave(|manner| manner.most_a_second = 1000);
    let output = project.output(&["run", "fan", "--date", "2024-05-04"]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(api.answered().len() as u64, all, "every request was answered");
    let twice = api.twice();
    assert!(twice <= WIDTH as u64, "{twice} requests were answered twice, {WIDTH} were under way when it was killed");
    assert_eq!(number(&project, "select count(*) from raw.stats"), all);
    assert_eq!(number(&project, "select count(distinct (video_id, day)) from raw.stats"), all);
    let wrong = "select count(*) from raw.stats where path <> '/videos/' || video_id || '/stats?day=' || day or day::date <> _haul_unit";
    assert_eq!(number(&project, wrong), 0);
    assert!(api.tokens() >= 2, "a token died");
    assert!(api.most_in_flight() <= WIDTH);
}

#[test]
fn thousands_of_requests_end_complete_and_once_whatever_happens() {
    walks_through(&Size { videos: 100, days: 80, token_life: Duration::from_secs(3) });
}

#[test]
fn a_hundred_and_forty_four_thousand_requests_end_complete_and_once() {
    walks_through(&Size { videos: 200, days: 720, token_life: Duration::from_secs(20) });
}

#[test]
fn a_stopped_fan_out_goes_on_where_it_was() {
    let size = Size { videos: 400, days: 1, token_life: Duration::from_mins(1) };
    let (api, project) = start(&size);
    kill_at(&api, &project, 280);
    let output = project.output(&["run", "fan", "--date", "2024-05-04"]);
    assert!(output.status.success(), "{}", told(&output));
    let says = told(&output);
    let done = says.split("resumed   stats 2024-05-03: ").nth(1).and_then(|text| text.split(' ').next());
    let done: u64 = done.and_then(|text| text.parse().ok()).expect("it says how many were done");
    assert!(done + WIDTH as u64 >= 280, "{done} were durable of 280 that were answered");
    assert_eq!(api.answers(), 400 + api.twice());
    assert!(api.twice() <= WIDTH as u64, "{} were under way when it was killed", api.twice());
    assert_eq!(number(&project, "select count(*) from raw.stats"), 400);
}
