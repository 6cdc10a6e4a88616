//! Numbers inside of nested values: what travels as text in the stage is a number in `jsonb`.
//!
//! The stage puts a number into quotes where a 64-bit float would change it. PostgreSQL keeps every digit of a number
//! in `jsonb`, so that it is written as the number that it was; what the rows were seen to be tells it from a text.

use super::members::{string_end, value_end};
use crate::model::shape::Seen;

/// Whether values that were seen to be these may have numbers in quotes.
pub(in crate::warehouse) fn has_quoted(seen: &Seen) -> bool {
    let quoted = seen.text.is_none() && seen.number.is_some_and(|number| number.inexact.is_some());
    quoted
        || seen.object.as_ref().is_some_and(|(_, shape)| shape.fields.iter().any(|field| has_quoted(&field.seen)))
        || seen.list.as_ref().is_some_and(|(_, element)| has_quoted(element))
}

/// Writes a value, its quoted numbers as numbers.
pub(in crate::warehouse) fn restore(raw: &[u8], seen: Option<&Seen>, out: &mut Vec<u8>) {
    let Some(seen) = seen.filter(|seen| has_quoted(seen)) else {
        out.extend_from_slice(raw);
        return;
    };
    match raw.first() {
        Some(b'"') if seen.text.is_none() && seen.number.is_some() => out.extend_from_slice(&raw[1..raw.len() - 1]),
        Some(b'{') => {
            each(raw, out, |member, out| {
                let Some(end) = string_end(member, 0) else { return out.extend_from_slice(member) };
                out.extend_from_slice(&member[..=end]);
                let name: Option<String> = serde_json::from_slice(&member[..end]).ok();
                restore(&member[end + 1..], name.and_then(|name| field(seen, &name)), out);
            });
        }
        Some(b'[') => each(raw, out, |value, out| restore(value, seen.element(), out)),
        _ => out.extend_from_slice(raw),
    }
}

fn field<'s>(seen: &'s Seen, name: &str) -> Option<&'s Seen> {
    let (_, shape) = seen.object.as_ref()?;
    shape.fields.iter().find(|field| field.name == name).map(|field| &field.seen)
}

/// Rewrites the members of an object or the values of a list, which has no spaces between them.
fn each(raw: &[u8], out: &mut Vec<u8>, rewrite: impl Fn(&[u8], &mut Vec<u8>)) {
    out.push(raw[0]);
    let mut at = 1;
    while at + 1 < raw.len() {
        let value = match (raw[0], string_end(raw, at)) {
            (b'{', Some(end)) => end + 1,
            _ => at,
        };
        let Some(end) = value_end(raw, value) else { break };
        rewrite(&raw[at..end], out);
        if raw.get(end) == Some(&b',') {
            out.push(b',');
        }
        at = end + 1;
    }
    out.push(raw[raw.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shape::{Field, Number, Place, Shape, Words};

    #[test]
    fn only_what_was_a_number_loses_its_quotes() {
        let place = Place { page: 1, row: 1 };
        let number = Seen { number: Some(Number { inexact: Some(place), ..Number::default() }), ..Seen::default() };
        let text = Seen { text: Some(Words::default()), ..Seen::default() };
        let list = Seen { list: Some((place, Box::new(number.clone()))), ..Seen::default() };
        let fields = [("n", number), ("t", text), ("l", list)];
        let fields = fields.map(|(name, seen)| Field { name: name.to_owned(), first: place, seen });
        let seen = Seen { object: Some((place, Shape { fields: fields.to_vec() })), ..Seen::default() };
        let mut out = Vec::new();
        restore(br#"{"n":"0.10","t":"0.1","l":["1.5",2,null],"x":{"n":"1"},"e":{},"f":[]}"#, Some(&seen), &mut out);
        let wanted = r#"{"n":0.10,"t":"0.1","l":[1.5,2,null],"x":{"n":"1"},"e":{},"f":[]}"#;
        assert_eq!(String::from_utf8_lossy(&out), wanted);
    }
}
