//! The week of earthquakes, and how each of them was known at an instant.
//!
//! The feed has every event as it was last revised, and when. What was published before that revision is lost, so it is made
//! up, always in the same way: a first, automatic solution a few minutes after the event whose magnitude is slightly off; and
//! for some events none at all until the revision, as where a network reports late.

use std::io::Read;

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Context, Error, Kind, Result};
use crate::time::Instant;

/// USGS, `all_week.geojson` of 2018-02-07; in the public domain.
const SHIPPED: &[u8] = include_bytes!("../../demo/earthquakes-2018-02-07.json.zst");

/// One of so many events is not known at all before its revision.
const LATE_ONE_IN: u64 = 10;

/// The events of the week.
pub struct Feed {
    events: Vec<Event>,
}

/// One event in its last revision.
struct Event {
    feature: Value,
    time: Instant,
    revised: Instant,
    /// Decides what is made up about it.
    dice: u64,
}

impl Feed {
    /// The week that is shipped with the program.
    pub fn shipped() -> Result<Self> {
        let doing = || "unpacking the demo's earthquakes".to_owned();
        let mut text = String::new();
        zstd::Decoder::new(SHIPPED)
            .and_then(|mut decoder| decoder.read_to_string(&mut text))
            .context(Kind::Internal, doing)?;
        let mut collection: Value = serde_json::from_str(&text).context(Kind::Internal, doing)?;
        let Value::Array(features) = collection["features"].take() else {
            return Err(Error::internal("the demo's earthquakes are no list"));
        };
        let events = features.into_iter().map(Event::new).collect::<Result<_>>()?;
        Ok(Self { events })
    }

    /// The events that were known at `asof`, each as it was known then, oldest first.
    pub fn known_at(&self, asof: Instant) -> Vec<Value> {
        let mut known: Vec<(Instant, &str, Value)> = self
            .events
            .iter()
            .filter_map(|event| Some((event.time, event.feature["id"].as_str()?, event.known_at(asof)?)))
            .collect();
        known.sort_by_key(|(time, id, _)| (*time, *id));
        known.into_iter().map(|(_, _, feature)| feature).collect()
    }
}

impl Event {
    fn new(mut feature: Value) -> Result<Self> {
        let id = feature["id"].as_str().unwrap_or_default().to_owned();
        let instant = |value: &Value| {
            value
                .as_i64()
                .and_then(DateTime::from_timestamp_millis)
                .ok_or_else(|| Error::internal(format!("the demo's event {id} has no time")))
        };
        let time = instant(&feature["properties"]["time"])?;
        let revised = instant(&feature["properties"]["updated"])?;
        // The weekly feed points to itself, the service to its own query method.
        feature["properties"]["detail"] =
            json!(format!("https://earthquake.usgs.gov/fdsnws/event/1/query?eventid={id}&format=geojson"));
        Ok(Self { feature, time, revised, dice: xxh3_64(id.as_bytes()) })
    }

    /// The event as it was known, if it was.
    fn known_at(&self, asof: Instant) -> Option<Value> {
        if asof >= self.revised {
            return Some(self.feature.clone());
        }
        let published = self.first_published();
        (asof >= published).then(|| self.preliminary(published))
    }

    /// When the event was first heard of: 2 to 20 minutes after it happened, or only when it was revised.
    fn first_published(&self) -> Instant {
        if self.dice.is_multiple_of(LATE_ONE_IN) {
            return self.revised;
        }
        let minutes = 2 + (self.dice >> 8) % 19;
        let published = self.time + TimeDelta::minutes(i64::try_from(minutes).unwrap_or(2));
        published.min(self.revised)
    }

    /// The first, automatic solution.
    fn preliminary(&self, published: Instant) -> Value {
        let mut feature = self.feature.clone();
        let properties = &mut feature["properties"];
        properties["status"] = json!("automatic");
        properties["updated"] = json!(published.timestamp_millis());
        for opinion in ["felt", "cdi", "mmi", "alert"] {
            properties[opinion] = Value::Null;
        }
        if let Some(magnitude) = properties["mag"].as_f64() {
            // Between 0.3 too small and 0.3 too large, with one decimal, as automatic magnitudes come.
            let tenths = f64::from(u8::try_from((self.dice >> 16) % 7).unwrap_or(3)) - 3.0;
            let magnitude = (magnitude * 10.0 + tenths).round() / 10.0;
            let place = properties["place"].as_str().unwrap_or_default().to_owned();
            properties["title"] = json!(format!("M {magnitude:.1} - {place}"));
            properties["mag"] = json!(magnitude);
        }
        feature
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn by_id(features: Vec<Value>) -> BTreeMap<String, Value> {
        features.into_iter().map(|feature| (feature["id"].as_str().expect("an id").to_owned(), feature)).collect()
    }

    fn at(text: &str) -> Instant {
        DateTime::parse_from_rfc3339(text).expect("an instant").to_utc()
    }

    #[test]
    fn at_the_end_of_the_week_all_events_are_as_they_were_published() {
        let known = Feed::shipped().expect("the feed").known_at(at("2018-02-07T06:00:00Z"));
        assert_eq!(known.len(), 1707);
        let reviewed = known.iter().filter(|event| event["properties"]["status"] == "reviewed").count();
        assert_eq!(reviewed, 1214);
    }

    #[test]
    fn nothing_is_known_before_it_happens_and_knowledge_only_grows() {
        let feed = Feed::shipped().expect("the feed");
        let mut before = BTreeMap::new();
        let (mut added, mut changed) = (0, 0);
        for day in 1..=7 {
            let asof = at(&format!("2018-02-0{day}T06:00:00Z"));
            let known = by_id(feed.known_at(asof));
            for (id, event) in &known {
                assert!(event["properties"]["time"].as_i64() <= Some(asof.timestamp_millis()), "{id}");
                assert!(event["properties"]["updated"].as_i64() <= Some(asof.timestamp_millis()), "{id}");
                match before.get(id) {
                    None => {
                        let age = asof.timestamp_millis() - event["properties"]["time"].as_i64().expect("a time");
                        added += u32::from(age > 36 * 3_600_000);
                    }
                    Some(old) => changed += u32::from(old != event),
                }
            }
            assert!(before.keys().all(|id| known.contains_key(id)), "no event is forgotten");
            before = known;
        }
        assert!(added > 10, "{added} events turn up late");
        assert!(changed > 300, "{changed} events are revised");
    }

    #[test]
    fn the_same_instant_always_shows_the_same_world() {
        let asof = at("2018-02-04T06:00:00Z");
        let one = Feed::shipped().expect("the feed").known_at(asof);
        let two = Feed::shipped().expect("the feed").known_at(asof);
        assert_eq!(one, two);
        assert!(one.iter().any(|event| event["properties"]["status"] == "automatic"));
    }
}
