//! Requests and answers in the form of the FDSN event service of the USGS.

use axum::http::Uri;
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use serde_json::{Value, json};

use super::feed::Feed;
use crate::error::{Error, Result};
use crate::time::Instant;

/// No answer has more rows.
pub(super) const MOST_ROWS: usize = 20_000;

/// The version of the service when the feed was taken.
const VERSION: &str = "1.5.8";

/// What a request asks for.
pub(super) struct Query {
    format: Option<String>,
    start: Instant,
    end: Instant,
    updated_after: Option<Instant>,
    least_magnitude: Option<f64>,
    order: Order,
    limit: Option<usize>,
    /// From 1.
    offset: usize,
}

#[derive(Clone, Copy)]
enum Order {
    Time,
    TimeAscending,
    Magnitude,
    MagnitudeAscending,
}

impl Query {
    /// Reads the query's parameters; a text of one sentence says what is wrong with them.
    pub fn parse(query: &str, now: Instant) -> Result<Self> {
        // Without a start, the service shows the last thirty days.
        let mut parsed = Self {
            format: None,
            start: now - TimeDelta::days(30),
            end: now,
            updated_after: None,
            least_magnitude: None,
            order: Order::Time,
            limit: None,
            offset: 1,
        };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.as_ref();
            let bad = |valid: &str| Error::usage(format!("Bad {name} value \"{value}\". Valid values are {valid}."));
            let time = || instant(value).ok_or_else(|| bad("ISO-8601 timestamps"));
            match name.as_ref() {
                "format" => match value {
                    "geojson" | "text" => parsed.format = Some(value.to_owned()),
                    _ => return Err(bad("geojson (this copy of the service has no other)")),
                },
                "starttime" | "start" => parsed.start = time()?,
                "endtime" | "end" => parsed.end = time()?,
                "updatedafter" => parsed.updated_after = Some(time()?),
                "minmagnitude" | "minmag" => {
                    parsed.least_magnitude = Some(value.parse().map_err(|_| bad("decimal numbers"))?);
                }
                "orderby" => {
                    parsed.order = match value {
                        "time" => Order::Time,
                        "time-asc" => Order::TimeAscending,
                        "magnitude" => Order::Magnitude,
                        "magnitude-asc" => Order::MagnitudeAscending,
                        _ => return Err(bad("time, time-asc, magnitude, magnitude-asc")),
                    };
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST_ROWS).contains(limit));
                    parsed.limit = Some(limit.ok_or_else(|| bad("integers from 1 to 20000"))?);
                }
                "offset" => {
                    let offset = value.parse().ok().filter(|offset| *offset >= 1);
                    parsed.offset = offset.ok_or_else(|| bad("integers greater than 0"))?;
                }
                _ => return Err(Error::usage(format!("Unknown parameter \"{name}\"."))),
            }
        }
        Ok(parsed)
    }

    /// Whether the answer was asked for as GeoJSON.
    pub fn as_geojson(&self) -> bool {
        self.format.as_deref() == Some("geojson")
    }

    /// All events that match, in the order asked for; both ends of the time belong to it, as at the real service.
    pub fn matching(&self, feed: &Feed, asof: Instant) -> Vec<Value> {
        let within = |event: &Value| {
            let properties = &event["properties"];
            let time = properties["time"].as_i64().unwrap_or_default();
            let updated = properties["updated"].as_i64().unwrap_or_default();
            (self.start.timestamp_millis()..=self.end.timestamp_millis()).contains(&time)
                && self.updated_after.is_none_or(|after| updated > after.timestamp_millis())
                && self.least_magnitude.is_none_or(|least| magnitude(event) >= least)
        };
        let mut events: Vec<Value> = feed.known_at(asof).into_iter().filter(within).collect();
        match self.order {
            Order::TimeAscending => {}
            Order::Time => events.reverse(),
            Order::Magnitude => events.sort_by(|one, two| magnitude(two).total_cmp(&magnitude(one))),
            Order::MagnitudeAscending => events.sort_by(|one, two| magnitude(one).total_cmp(&magnitude(two))),
        }
        events
    }
}

/// The answer to a query: one page of a GeoJSON collection. Without any event it is an empty one.
pub(super) fn features(feed: &Feed, query: &Query, asof: Instant, uri: &Uri) -> Value {
    let page: Vec<Value> =
        query.matching(feed, asof).into_iter().skip(query.offset - 1).take(query.limit.unwrap_or(MOST_ROWS)).collect();
    let mut metadata = json!({
        "generated": asof.timestamp_millis(),
        "url": format!("https://earthquake.usgs.gov{uri}"),
        "title": "USGS Earthquakes",
        "status": 200,
        "api": VERSION,
    });
    if let Some(limit) = query.limit {
        metadata["limit"] = json!(limit);
        metadata["offset"] = json!(query.offset);
    }
    metadata["count"] = json!(page.len());
    let bounds = bounds(&page);
    let mut collection = json!({ "type": "FeatureCollection", "metadata": metadata, "features": page });
    if let Some(bounds) = bounds {
        collection["bbox"] = json!(bounds);
    }
    collection
}

/// The text of a refused request.
pub(super) fn refusal(fault: &str, request: &str, now: Instant) -> String {
    format!(
        "Error 400: Bad Request\n\n{fault}\n\nUsage details are available from https://earthquake.usgs.gov/fdsnws/event/1\n\n\
         Request:\n{request}\n\nRequest Submitted:\n{}\n\nService version:\n{VERSION}\n",
        now.to_rfc3339()
    )
}

/// West, south, shallow, east, north, deep.
fn bounds(page: &[Value]) -> Option<[f64; 6]> {
    let places = page.iter().map(|event| {
        let coordinates = &event["geometry"]["coordinates"];
        [0, 1, 2].map(|axis| coordinates[axis].as_f64().unwrap_or_default())
    });
    places.map(|[x, y, z]| [x, y, z, x, y, z]).reduce(|all, one| {
        let mut wider = all;
        for axis in 0..3 {
            wider[axis] = all[axis].min(one[axis]);
            wider[axis + 3] = all[axis + 3].max(one[axis + 3]);
        }
        wider
    })
}

fn magnitude(event: &Value) -> f64 {
    event["properties"]["mag"].as_f64().unwrap_or(f64::NEG_INFINITY)
}

/// An ISO 8601 time; UTC where it has no offset, midnight where it has no time.
fn instant(text: &str) -> Option<Instant> {
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(instant.to_utc());
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    naive.ok().or_else(date).map(|naive| naive.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asof() -> Instant {
        instant("2018-02-07T06:00:00Z").expect("an instant")
    }

    fn ids(query: &str) -> Vec<String> {
        let feed = Feed::shipped().expect("the feed");
        let query = Query::parse(query, asof()).expect("a query");
        let answer = features(&feed, &query, asof(), &Uri::from_static("/fdsnws/event/1/query"));
        let features = answer["features"].as_array().expect("features");
        assert_eq!(answer["metadata"]["count"], json!(features.len()));
        features.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }

    #[test]
    fn pages_from_offset_one_put_together_are_the_whole_day() {
        let day = "format=geojson&starttime=2018-02-01&endtime=2018-02-02T00:00:00%2B00:00&orderby=time-asc";
        let whole = ids(day);
        assert_eq!(whole.len(), 231);
        let pages: Vec<String> =
            [1, 101, 201].iter().flat_map(|offset| ids(&format!("{day}&limit=100&offset={offset}"))).collect();
        assert_eq!(pages, whole);
        assert!(ids(&format!("{day}&limit=100&offset=301")).is_empty());
    }

    #[test]
    fn both_ends_of_the_time_belong_to_it() {
        let one = ids("starttime=2018-02-07T01:26:13.840&endtime=2018-02-07T01:26:13.840Z");
        assert_eq!(one, ["ci37868143"]);
    }

    #[test]
    fn updates_and_magnitudes_filter() {
        let strong = ids("minmagnitude=6&orderby=magnitude");
        assert!(!strong.is_empty() && strong.len() < 10, "{strong:?}");
        let fresh = ids("updatedafter=2018-02-07T01:00:00Z");
        assert!(!fresh.is_empty() && fresh.len() < 100, "{}", fresh.len());
    }

    #[test]
    fn what_the_service_does_not_know_is_refused_with_a_sentence() {
        for (query, said) in [
            ("starttime=yesterday", "Bad starttime value \"yesterday\""),
            ("limit=20001", "Bad limit value"),
            ("offset=0", "Bad offset value"),
            ("format=kml", "Bad format value"),
            ("colour=red", "Unknown parameter \"colour\""),
        ] {
            let fault = Query::parse(query, asof()).err().expect("a refusal");
            let text = refusal(&fault.chain(), "/fdsnws/event/1/query", asof());
            assert!(text.starts_with("Error 400: Bad Request\n") && text.contains(said), "{text}");
        }
    }
}
