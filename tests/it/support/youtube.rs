//! A loopback server that speaks the two YouTube APIs of the shipped example: uploads in pages of fifty, a report for a video and a day.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::loopback::serve;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

/// The running server; it ends with the test's process.
pub struct YouTube {
    pub url: String,
    asked: Arc<Mutex<Asked>>,
}

/// What was asked.
#[derive(Default)]
struct Asked {
    /// Reports by video and day, and how often.
    reports: BTreeMap<(String, String), u32>,
    tokens: u32,
    /// A token is good for so many requests.
    uses: u32,
}

impl YouTube {
    /// How many videos the channel has.
    pub const VIDEOS: usize = 120;
    /// The video that was deleted.
    pub const DELETED: &'static str = "video-7";
    /// How many requests a token is good for.
    const LIFE: u32 = 100;

    /// Starts it on a free port.
    pub fn start() -> Self {
        let asked = Arc::<Mutex<Asked>>::default();
        let state = Arc::clone(&asked);
        let router = Router::new()
            .route("/token", post(token))
            .route("/youtube/v3/playlistItems", get(uploads))
            .route("/v2/reports", get(report))
            .with_state(state);
        Self { url: serve(router), asked }
    }

    /// How often each report was asked for and given, by video and day.
    pub fn reports(&self) -> BTreeMap<(String, String), u32> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).reports.clone()
    }

    /// How many tokens were handed out.
    pub fn tokens(&self) -> u32 {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).tokens
    }

    /// What a video was watched on a day: views, minutes, likes.
    pub fn watched(video: &str, day: &str) -> [u64; 3] {
        let sum = |text: &str| text.bytes().fold(7_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 10_007);
        let views = (sum(video) * sum(day)) % 5_000;
        [views, views * 2, views % 13]
    }
}

async fn token(State(asked): State<Arc<Mutex<Asked>>>) -> impl IntoResponse {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    asked.tokens += 1;
    asked.uses = 0;
    let body = json!({ "access_token": format!("ya29.{}", asked.tokens), "expires_in": 3599, "token_type": "Bearer" });
    axum::Json(body)
}

/// Whether the token is the last one, and not used up.
fn knows(asked: &mut Asked, headers: &HeaderMap) -> bool {
    asked.uses += 1;
    let wanted = format!("Bearer ya29.{}", asked.tokens);
    asked.uses <= YouTube::LIFE
        && headers.get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes() == wanted.as_bytes())
}

fn refused(status: StatusCode, reason: &str) -> Response {
    let body = json!({ "error": { "code": status.as_u16(), "message": reason } });
    (status, axum::Json(body)).into_response()
}

async fn uploads(
    State(asked): State<Arc<Mutex<Asked>>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if !knows(&mut asked.lock().unwrap_or_else(PoisonError::into_inner), &headers) {
        return refused(StatusCode::UNAUTHORIZED, "Request had invalid authentication credentials.");
    }
    let from: usize = query.get("pageToken").and_then(|token| token.strip_prefix("CAF")?.parse().ok()).unwrap_or(0);
    let until = (from + 50).min(YouTube::VIDEOS);
    let items: Vec<Value> = (from..until)
        .map(|n| json!({ "kind": "youtube#playlistItem", "contentDetails": { "videoId": format!("video-{n}"), "videoPublishedAt": "2024-01-01T00:00:00Z" } }))
        .collect();
    let mut body = json!({ "kind": "youtube#playlistItemListResponse", "items": items, "pageInfo": { "totalResults": YouTube::VIDEOS } });
    if until < YouTube::VIDEOS {
        body["nextPageToken"] = format!("CAF{until}").into();
    }
    axum::Json(body).into_response()
}

async fn report(
    State(asked): State<Arc<Mutex<Asked>>>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    if !knows(&mut asked, &headers) {
        return refused(StatusCode::UNAUTHORIZED, "Request had invalid authentication credentials.");
    }
    let param = |name: &str| query.get(name).cloned().unwrap_or_default();
    let video = param("filters").strip_prefix("video==").unwrap_or_default().to_owned();
    if video == YouTube::DELETED {
        return refused(StatusCode::BAD_REQUEST, "The query is not supported.");
    }
    let day = param("startDate");
    assert_eq!((param("endDate"), param("ids")), (day.clone(), "channel==MINE".to_owned()));
    *asked.reports.entry((video.clone(), day.clone())).or_default() += 1;
    let headers: Vec<Value> =
        param("metrics").split(',').map(|name| json!({ "name": name, "columnType": "METRIC" })).collect();
    axum::Json(json!({ "kind": "youtubeAnalytics#resultTable", "columnHeaders": headers, "rows": [YouTube::watched(&video, &day)] }))
        .into_response()
}
