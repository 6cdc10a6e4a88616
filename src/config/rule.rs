//! Rules for answers: `404 = "empty"`, `"403 containing quota" = "wait until midnight America/Los_Angeles"`.

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::known_names;
use super::reader::{At, Read, Reader, Span};
use super::scalar::Entries;
use super::value::schema;
use crate::model::answer::{LONGEST_WAIT, Rule, Then};
use crate::time::{Tz, parse_duration};

/// The rules of one table, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// What can be done with an answer, as it is written.
const ACTIONS: &[&str] = &["empty", "skip", "stop", "fail", "retry", "renew", "wait"];

/// What helps where the words behind `wait` are none.
const WAITS: &str = "\"wait 10m\", \"wait until midnight America/Los_Angeles\" or \"wait until 09:30 Europe/Berlin\"";

impl Read for Rules {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let entries: Entries<String> = Entries::read(value, reader)?;
        let mut rules: Vec<Rule> = Vec::new();
        for (key, text) in &entries.0 {
            let condition = condition(key, reader);
            let then = then(text, reader);
            let (Some((statuses, containing)), Some(then)) = (condition, then) else { continue };
            if then == Then::Renew && statuses.1 < 300 && containing.is_none() {
                let message = "every good answer would renew the token";
                reader.error("bad-rule", text.span.clone(), message).help =
                    Some("say what the answer contains: \"200 containing expired\" = \"renew\"".to_owned());
                continue;
            }
            let written = format!("{} = \"{}\"", key.value, text.value);
            rules.push(Rule { statuses, containing, then, written });
        }
        Some(Self(rules))
    }
}

schema!(Rules, {
    "type": "object",
    "propertyNames": { "pattern": "^([1-5][0-9][0-9]|[1-5]xx)( containing .+)?$" },
    "additionalProperties": { "type": "string", "examples": [
        "empty", "skip", "stop", "fail", "retry", "renew", "wait 10m", "wait until midnight America/Los_Angeles",
    ] },
});

/// Reads `404`, `5xx`, `403 containing quota` and `403 containing "quota"`.
fn condition(key: &At<String>, reader: &mut Reader) -> Option<((u16, u16), Option<String>)> {
    let text = key.value.trim();
    let (status, words) = match text.split_once(' ') {
        Some((status, rest)) => (status, Some(rest.trim())),
        None => (text, None),
    };
    let statuses = match status.strip_suffix("xx") {
        Some(class) => {
            class.parse().ok().filter(|class| (1..=5).contains(class)).map(|class: u16| (class * 100, class * 100 + 99))
        }
        None => status.parse().ok().filter(|status| (100..=599).contains(status)).map(|status| (status, status)),
    };
    let containing = words.map(|words| {
        let quoted = words.strip_prefix("containing").map(str::trim);
        let bare = quoted.map(|words| match words.as_bytes() {
            [first @ (b'"' | b'\''), .., last] if first == last => &words[1..words.len() - 1],
            _ => words,
        });
        bare.filter(|words| !words.is_empty()).map(str::to_lowercase)
    });
    let (Some(statuses), None | Some(Some(_))) = (statuses, &containing) else {
        let message = format!("`{}` does not say which answers are meant", key.value);
        reader.error("bad-rule", key.span.clone(), message).help =
            Some("a status, and what the body contains: 404, \"5xx\", \"403 containing quota\"".to_owned());
        return None;
    };
    Some((statuses, containing.flatten()))
}

fn then(text: &At<String>, reader: &mut Reader) -> Option<Then> {
    let words: Vec<&str> = text.value.split_whitespace().collect();
    Some(match words.as_slice() {
        ["empty"] => Then::Empty,
        ["skip"] => Then::Skip,
        ["stop"] => Then::Stop,
        ["fail"] => Then::Fail,
        ["retry"] => Then::Retry,
        ["renew"] => Then::Renew,
        ["wait", "until", time, zone] => {
            let (hour, minute) = time_of_day(time, text, reader)?;
            Then::WaitUntil { hour, minute, zone: zone_of(zone, &text.span, reader)? }
        }
        ["wait", "until", ..] => {
            let message = "a wait until a time of the day names the time and its zone";
            reader.error("bad-rule", text.span.clone(), message).help = Some(WAITS.to_owned());
            return None;
        }
        ["wait", duration @ ..] => {
            let parsed = parse_duration(&duration.join(" ")).ok().filter(|parsed| !parsed.is_zero());
            let Some(parsed) = parsed.filter(|parsed| *parsed <= LONGEST_WAIT) else {
                let message = if parsed.is_some() { "no wait is longer than a day" } else { "this is no time to wait" };
                reader.error("bad-rule", text.span.clone(), message).help = Some(WAITS.to_owned());
                return None;
            };
            Then::Wait(parsed)
        }
        [word, ..] => {
            let message = format!("`{}` is nothing that can be done with an answer", text.value);
            reader.error("bad-rule", text.span.clone(), message).help = known_names(word, ACTIONS.iter().copied());
            return None;
        }
        [] => return None,
    })
}

fn time_of_day(time: &str, text: &At<String>, reader: &mut Reader) -> Option<(u32, u32)> {
    let parsed = match time.split_once(':') {
        Some((hour, minute)) => hour.parse().ok().zip(minute.parse().ok()),
        None => match time {
            "midnight" => Some((0, 0)),
            "noon" => Some((12, 0)),
            _ => None,
        },
    };
    let parsed = parsed.filter(|(hour, minute)| *hour < 24 && *minute < 60);
    if parsed.is_none() {
        reader.error("bad-rule", text.span.clone(), format!("`{time}` is no time of the day")).help =
            Some(WAITS.to_owned());
    }
    parsed
}

fn zone_of(zone: &str, span: &Span, reader: &mut Reader) -> Option<Tz> {
    let parsed = zone.parse().ok();
    if parsed.is_none() {
        let near = known_names(zone, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
        let near = near.filter(|near| near.starts_with("did you mean"));
        reader.error("unknown-timezone", span.clone(), format!("there is no time zone `{zone}`")).help =
            near.or_else(|| Some("zones have IANA names, such as \"America/Los_Angeles\" or \"UTC\"".to_owned()));
    }
    parsed
}
