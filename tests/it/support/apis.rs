//! Loopback servers that speak the shapes of the APIs of the shipped examples: the same rows at every call, every request counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

use super::loopback::serve;

/// A well mixed number out of two: the dice of all that is made up here.
fn mix(seed: u64, index: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 32)
}

/// The seed of a date.
fn seed(date: NaiveDate) -> u64 {
    u64::try_from(date.signed_duration_since(NaiveDate::MIN).num_days()).expect("a date after the first one")
}

/// The ratings API of "Data Pipelines with Apache Airflow": offset pages behind basic authentication.
pub struct Movielens {
    pub url: String,
    requests: Arc<AtomicUsize>,
}

/// One rating.
#[expect(clippy::struct_field_names, reason = "the API calls it so")]
#[derive(Debug, Clone, PartialEq)]
pub struct Rating {
    pub user: u64,
    pub movie: u64,
    pub rating: f64,
    pub timestamp: i64,
}

impl Movielens {
    /// Who may ask.
    pub const USER: &'static str = "airflow";
    /// And how that is proved.
    pub const PASSWORD: &'static str = "correct horse battery staple";

    /// Starts it on a free port.
    pub fn start() -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let router = Router::new().route("/ratings", get(ratings)).with_state(Arc::clone(&requests));
        Self { url: serve(router), requests }
    }

    /// How many requests were answered.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The ratings of a day, in the order of time: two and a half pages of a thousand.
    pub fn day(date: NaiveDate) -> Vec<Rating> {
        let midnight = date.and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp();
        let count = 2_400 + mix(seed(date), 0) % 200;
        let one = |index: u64| {
            let dice = mix(seed(date), index + 1);
            let half_stars = u32::try_from(1 + (dice >> 20) % 10).expect("ten at the most");
            Rating {
                user: 1 + dice % 610,
                movie: 1 + (dice >> 10) % 300,
                rating: f64::from(half_stars) / 2.0,
                timestamp: midnight + i64::try_from(86_400 * index / count).expect("within a day"),
            }
        };
        (0..count).map(one).collect()
    }
}

async fn ratings(
    State(requests): State<Arc<AtomicUsize>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    requests.fetch_add(1, Ordering::Relaxed);
    let who = format!("{}:{}", Movielens::USER, Movielens::PASSWORD);
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(who));
    if headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) != Some(expected.as_str()) {
        let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"Authentication Required\"")];
        return (StatusCode::UNAUTHORIZED, realm, "Unauthorized Access").into_response();
    }
    let date = |name: &str| query.get(name).and_then(|text| text.parse::<NaiveDate>().ok());
    let (Some(start), Some(end)) = (date("start_date"), date("end_date")) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "time data does not match format '%Y-%m-%d'").into_response();
    };
    let number = |name: &str, default| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (offset, limit) = (number("offset", 0), number("limit", 100));
    let all: Vec<Rating> = start.iter_days().take_while(|day| *day < end).flat_map(Movielens::day).collect();
    let page = all.iter().skip(offset).take(limit).map(
        |row| json!({ "userId": row.user, "movieId": row.movie, "rating": row.rating, "timestamp": row.timestamp }),
    );
    let page: Vec<Value> = page.collect();
    let body = json!({ "result": page, "offset": offset, "limit": limit, "total": all.len() });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Launch Library 2: nested launches behind the address of the next page, open to everybody.
pub struct LaunchLibrary {
    pub url: String,
    sky: Arc<Sky>,
}

#[derive(Default)]
struct Sky {
    requests: AtomicUsize,
    /// The pictures that were asked for, one entry for each time.
    pictures: Mutex<Vec<String>>,
    /// The days whose launches have slipped to another day.
    slips: Mutex<BTreeMap<NaiveDate, NaiveDate>>,
}

/// Provider, rocket, pad, and where that is; as the library has them.
const LAUNCHERS: [(u32, &str, u32, &str, &str, &str, &str); 4] = [
    (121, "SpaceX", 164, "Falcon 9 Block 5", "Space Launch Complex 40", "Cape Canaveral, FL, USA", "USA"),
    (115, "Arianespace", 167, "Vega", "Ariane Launch Area 1", "Kourou, French Guiana", "GUF"),
    (
        88,
        "China Aerospace Science and Technology Corporation",
        67,
        "Long March 2D",
        "Launch Area 4",
        "Jiuquan, People's Republic of China",
        "CHN",
    ),
    (
        147,
        "Rocket Lab Ltd",
        26,
        "Electron",
        "Rocket Lab Launch Complex 1A",
        "Onenui Station, Mahia Peninsula, New Zealand",
        "NZL",
    ),
];

impl LaunchLibrary {
    /// No page has more launches; the real library's have 100 at the most.
    pub const PAGE: usize = 10;

    /// Starts it on a free port.
    pub fn start() -> Self {
        let sky = Arc::new(Sky::default());
        let router = Router::new()
            .route("/2.2.0/launch/", get(launches))
            .route("/images/{name}", get(picture))
            .with_state(Arc::clone(&sky));
        Self { url: serve(router), sky }
    }

    /// How many requests were answered.
    pub fn requests(&self) -> usize {
        self.sky.requests.load(Ordering::Relaxed)
    }

    /// The pictures that were asked for so far, in order; they are forgotten then.
    pub fn pictures(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.sky.pictures.lock().expect("no test panicked here"));
        asked.sort();
        asked
    }

    /// The picture of a rocket; one of them is gone.
    pub fn picture(name: &str) -> Option<Vec<u8>> {
        const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";
        (name != "147.png").then(|| [PIXEL, name.as_bytes()].concat())
    }

    /// All launches of a day slip to another day.
    pub fn slip(&self, from: NaiveDate, to: NaiveDate) {
        self.sky.slips.lock().expect("no test panicked here").insert(from, to);
    }

    /// The launches that are planned for a day now: their identifiers and providers.
    pub fn day(&self, date: NaiveDate) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let launches = self.sky.between(date, date.succ_opt().expect("a day after"));
        launches.iter().map(|one| (text(&one["id"]), text(&one["launch_service_provider"]["name"]))).collect()
    }
}

impl Sky {
    /// The launches of some days as they are planned now, in the order of time.
    fn between(&self, from: NaiveDate, to: NaiveDate) -> Vec<Value> {
        let slips = self.slips.lock().expect("no test panicked here").clone();
        // Nothing here slips by more than a month.
        let planned = (from - TimeDelta::days(31)).iter_days().take_while(|day| *day < to + TimeDelta::days(31));
        let mut launches: Vec<Value> = planned
            .flat_map(|day| {
                let flies = *slips.get(&day).unwrap_or(&day);
                let count = if from <= flies && flies < to { 1 + mix(seed(day), 0) % 3 } else { 0 };
                (1..=count).map(move |index| launch(mix(seed(day), index), flies))
            })
            .collect();
        launches.sort_by_key(|launch| launch["net"].as_str().map(str::to_owned));
        launches
    }
}

/// A launch with the members that a list of launches has in the library's normal mode.
fn launch(dice: u64, day: NaiveDate) -> Value {
    let (provider, provider_name, rocket, rocket_name, pad, place, country) = LAUNCHERS[(dice % 4) as usize];
    let id = format!("{:08x}-{:04x}-4a52-94b8-{:012x}", dice >> 32, dice & 0xffff, dice & 0xffff_ffff_ffff);
    let at =
        day.and_hms_opt(0, 0, 0).expect("midnight").and_utc() + TimeDelta::seconds((dice >> 9).cast_signed() % 86_400);
    let net = at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let failed = dice.is_multiple_of(13);
    let mission = (!dice.is_multiple_of(5)).then(|| {
        json!({
            "id": dice % 7_000, "name": format!("Group {}-{}", dice % 6, dice % 40), "launch_designator": null,
            "description": "A batch of satellites for a communication system.", "type": "Communications",
            "orbit": { "id": 8, "name": "Low Earth Orbit", "abbrev": "LEO" },
        })
    });
    let agency = json!({ "id": 44, "url": "https://ll.thespacedevs.com/2.2.0/agencies/44/",
        "name": "National Aeronautics and Space Administration", "type": "Government" });
    let program = dice.is_multiple_of(3).then(|| {
        json!({ "id": 17, "url": "https://ll.thespacedevs.com/2.2.0/program/17/", "name": "International Space Station",
            "agencies": [agency], "start_date": "1998-11-20T06:40:00Z", "end_date": null, "mission_patches": [] })
    });
    json!({
        "id": id,
        "url": format!("https://ll.thespacedevs.com/2.2.0/launch/{id}/"),
        "slug": format!("launch-{}", dice % 100_000),
        "name": format!("{rocket_name} | {}", mission.as_ref().map_or("Unknown Payload", |one| one["name"].as_str().unwrap_or(""))),
        "status": if failed {
            json!({ "id": 4, "name": "Launch Failure", "abbrev": "Failure", "description": "Either the launch vehicle did not reach orbit, or the payload(s) failed to separate." })
        } else {
            json!({ "id": 3, "name": "Launch Successful", "abbrev": "Success", "description": "The launch vehicle successfully inserted its payload(s) into the target orbit(s)." })
        },
        "last_updated": net, "net": net, "window_end": net, "window_start": net,
        "probability": if dice.is_multiple_of(2) { json!(80) } else { Value::Null },
        "holdreason": "", "failreason": if failed { "The second stage did not ignite." } else { "" }, "hashtag": null,
        "launch_service_provider": { "id": provider, "url": format!("https://ll.thespacedevs.com/2.2.0/agencies/{provider}/"),
            "name": provider_name, "type": "Commercial" },
        "rocket": { "id": dice % 4_000, "configuration": { "id": rocket, "url": format!("https://ll.thespacedevs.com/2.2.0/config/launcher/{rocket}/"),
            "name": rocket_name, "family": "", "full_name": rocket_name, "variant": "" } },
        "mission": mission,
        "pad": { "id": dice % 200, "url": "https://ll.thespacedevs.com/2.2.0/pad/80/", "agency_id": null, "name": pad, "info_url": null,
            "latitude": "28.56194122", "longitude": "-80.57735736",
            "location": { "id": 12, "name": place, "country_code": country, "total_launch_count": 862, "total_landing_count": 24 },
            "total_launch_count": 157, "orbital_launch_attempt_count": 156 },
        "webcast_live": false, "image": (!dice.is_multiple_of(7)).then(|| format!("/images/{provider}.png")), "infographic": null,
        "program": program.into_iter().collect::<Vec<_>>(),
        "orbital_launch_attempt_count": 6_137, "agency_launch_attempt_count_year": 29,
    })
}

async fn launches(
    State(sky): State<Arc<Sky>>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    sky.requests.fetch_add(1, Ordering::Relaxed);
    let instant = |name: &str| {
        let text = query.get(name)?;
        DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.with_timezone(&Utc).date_naive())
    };
    let (Some(from), Some(to)) = (instant("net__gte"), instant("net__lt")) else {
        let fault = json!({ "net__gte": ["Enter a valid date/time."] });
        return (StatusCode::BAD_REQUEST, fault.to_string()).into_response();
    };
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let limit = number("limit").unwrap_or(LaunchLibrary::PAGE).min(LaunchLibrary::PAGE);
    let offset = number("offset").unwrap_or(0);
    let mut all = sky.between(from, to);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    for launch in &mut all {
        if let Some(path) = launch["image"].as_str().map(|path| format!("http://{host}{path}")) {
            launch["image"] = Value::from(path);
        }
    }
    let page_at = |offset: usize| {
        let mut parameters = query.clone();
        parameters.insert("limit".to_owned(), limit.to_string());
        parameters.insert("offset".to_owned(), offset.to_string());
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        format!("http://{host}/2.2.0/launch/?{query}")
    };
    let body = json!({
        "count": all.len(),
        "next": (offset + limit < all.len()).then(|| page_at(offset + limit)),
        "previous": (offset > 0).then(|| page_at(offset.saturating_sub(limit))),
        "results": all.iter().skip(offset).take(limit).collect::<Vec<_>>(),
    });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn picture(State(sky): State<Arc<Sky>>, Path(name): Path<String>) -> Response {
    sky.pictures.lock().expect("no test panicked here").push(name.clone());
    match LaunchLibrary::picture(&name) {
        Some(bytes) => ([(header::CONTENT_TYPE, "image/png"), (header::ETAG, "\"1\"")], bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
