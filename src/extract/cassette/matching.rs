//! Which recorded request is the one that is asked, and what differs where none is.

use serde_json::Value;

use crate::model::exchange::{Asked, Content};
use crate::secret::MASK;

/// Whether a recorded request is the one that is asked. Where a secret stood, anything may stand now.
pub(super) fn is_same(recorded: &Asked, asked: &Asked) -> bool {
    differences(recorded, asked).is_empty()
}

/// What differs between two requests, each in a few words.
pub(super) fn differences(recorded: &Asked, asked: &Asked) -> Vec<String> {
    let mut found = Vec::new();
    if recorded.method != asked.method {
        found.push(format!("the method is {}, recorded is {}", asked.method, recorded.method));
    }
    if !fits(&recorded.url, &asked.url) {
        found.push(format!("the address is {}, recorded is {}", asked.url, recorded.url));
    }
    params(recorded, asked, &mut found);
    if !same_body(recorded.body.as_ref(), asked.body.as_ref()) {
        found.push(match (&recorded.body, &asked.body) {
            (None, Some(_)) => "it has a body, recorded is none".to_owned(),
            (Some(_), None) => "it has no body, recorded is one".to_owned(),
            (one, other) => format!("the body is {}, recorded is {}", short(other.as_ref()), short(one.as_ref())),
        });
    }
    found
}

fn params(recorded: &Asked, asked: &Asked, found: &mut Vec<String>) {
    let all = recorded.params.iter().chain(&asked.params);
    let masked: Vec<&str> = all.filter(|(_, value)| value.contains(MASK)).map(|(name, _)| name.as_str()).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in asked.params.iter().chain(&recorded.params) {
        if !names.contains(&name.as_str()) && !masked.contains(&name.as_str()) {
            names.push(name);
        }
    }
    for name in names {
        let values = |of: &Asked| {
            let mut values: Vec<String> =
                of.params.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect();
            values.sort_unstable();
            values
        };
        let (before, now) = (values(recorded), values(asked));
        if before == now {
            continue;
        }
        found.push(match (before.as_slice(), now.as_slice()) {
            ([], now) => format!("`{name}` is {}, recorded is none", now.join(", ")),
            (before, []) => format!("`{name}` is missing, recorded is {}", before.join(", ")),
            (before, now) => format!("`{name}` is {}, recorded is {}", now.join(", "), before.join(", ")),
        });
    }
}

fn same_body(recorded: Option<&Content>, asked: Option<&Content>) -> bool {
    match (recorded, asked) {
        (Some(Content::Json(recorded)), Some(Content::Json(asked))) => {
            let read = |raw: &str| serde_json::from_str::<Value>(raw).unwrap_or_default();
            same_value(&read(recorded.get()), &read(asked.get()))
        }
        (Some(Content::Text(recorded)), Some(Content::Text(asked))) => fits(recorded, asked),
        (recorded, asked) => recorded == asked,
    }
}

fn same_value(recorded: &Value, asked: &Value) -> bool {
    match (recorded, asked) {
        (Value::String(recorded), Value::String(asked)) => fits(recorded, asked),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same_value(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same_value(one, other)))
        }
        (one, other) => one == other,
    }
}

/// Whether a text is the recorded one, in which anything may stand where a secret stood.
fn fits(recorded: &str, asked: &str) -> bool {
    let Some((before, after)) = recorded.split_once(MASK) else { return recorded == asked };
    let Some(rest) = asked.strip_prefix(before) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.into_iter().any(|at| fits(after, &rest[at..]))
}

fn short(content: Option<&Content>) -> String {
    const LONGEST: usize = 80;
    let text = match content {
        None => return "none".to_owned(),
        Some(Content::Json(raw)) => raw.get(),
        Some(Content::Text(text) | Content::Base64(text)) => text,
    };
    let cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(params: &[(&str, &str)]) -> Asked {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked { method: "GET".to_owned(), url: "http://a/b".to_owned(), params, ..Asked::default() }
    }

    #[test]
    fn the_order_of_parameters_does_not_matter_but_their_values_do() {
        let one = asked(&[("a", "1"), ("b", "2"), ("b", "3")]);
        assert!(is_same(&one, &asked(&[("b", "3"), ("a", "1"), ("b", "2")])));
        let told = differences(&one, &asked(&[("a", "9"), ("b", "2"), ("c", "4")]));
        assert_eq!(told, ["`a` is 9, recorded is 1", "`b` is 2, recorded is 2, 3", "`c` is 4, recorded is none"]);
    }

    #[test]
    fn where_a_secret_stood_anything_may_stand() {
        assert!(is_same(&asked(&[("key", MASK), ("a", "1")]), &asked(&[("a", "1"), ("key", "dummy")])));
        assert!(is_same(&asked(&[("a", "1")]), &asked(&[("a", "1"), ("key", MASK)])));
        assert!(fits("user •••!", "user x!") && !fits("user •••!", "user x") && !fits("a", "b"));
    }
}
