//! The members of a staged row, found without reading their values.
//!
//! The stage has minified every row and found it to be valid JSON: only the places of names and values are looked for.

use std::collections::HashMap;
use std::ops::Range;

/// Finds the values of known members in rows that mostly have the same members in the same order.
pub(in crate::warehouse) struct Members {
    /// The columns by the raw text of their names, without quotes.
    places: HashMap<Vec<u8>, usize>,
    /// The raw name of each member of the last row, and its column.
    order: Vec<(Vec<u8>, Option<usize>)>,
    /// Where the value of each column lies in the row.
    pub found: Vec<Option<Range<usize>>>,
}

impl Members {
    /// Looks for these members.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut places = HashMap::new();
        for (place, name) in names.into_iter().enumerate() {
            places.insert(name.as_bytes().to_vec(), place);
        }
        let found = vec![None; places.len()];
        Self { places, order: Vec::new(), found }
    }

    /// Finds the values of a row; false where it is no object as the stage writes it.
    pub fn read(&mut self, row: &[u8]) -> bool {
        self.found.fill(None);
        let mut at = 1;
        let mut member = 0;
        if row.first() != Some(&b'{') {
            return false;
        }
        while row.get(at) == Some(&b'"') {
            let Some(end) = string_end(row, at) else { return false };
            let place = self.place(member, &row[at + 1..end - 1]);
            let begin = end + 1;
            let Some(after) = value_end(row, begin) else { return false };
            if let Some(place) = place {
                self.found[place] = Some(begin..after);
            }
            member += 1;
            match row.get(after) {
                Some(b',') => at = after + 1,
                Some(b'}') => return true,
                _ => return false,
            }
        }
        row == b"{}"
    }

    /// The column of the member with this number and this raw name.
    fn place(&mut self, member: usize, raw: &[u8]) -> Option<usize> {
        if let Some((known, place)) = self.order.get(member)
            && known == raw
        {
            return *place;
        }
        let place = if raw.contains(&b'\\') {
            let name: Option<String> = serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok();
            name.and_then(|name| self.places.get(name.as_bytes()).copied())
        } else {
            self.places.get(raw).copied()
        };
        let entry = (raw.to_vec(), place);
        match self.order.get_mut(member) {
            Some(known) => *known = entry,
            None => self.order.push(entry),
        }
        place
    }
}

/// The place behind the closing quote of the string that begins here.
pub(in crate::warehouse) fn string_end(row: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        let found = row.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        at += found;
        if row[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The place behind the value that begins here.
pub(in crate::warehouse) fn value_end(row: &[u8], from: usize) -> Option<usize> {
    match row.get(from)? {
        b'"' => string_end(row, from),
        b'{' | b'[' => {
            let (mut at, mut depth) = (from, 0_usize);
            loop {
                match row.get(at)? {
                    b'"' => {
                        at = string_end(row, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let length = row[from..].iter().position(|byte| matches!(byte, b',' | b'}' | b']'))?;
            Some(from + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_member_is_found_whatever_its_name_and_value(
            rows in proptest::collection::vec((".*", ".*", proptest::num::i64::ANY), 1..4),
        ) {
            let mut members = Members::new(["text", "a\"b\\c", "list", "number"]);
            for (text, other, number) in rows {
                let row = serde_json::json!({ "other": other, "text": text, "a\"b\\c": number, "list": [{ "x": text }, "]"] });
                let raw = row.to_string();
                proptest::prop_assert!(members.read(raw.as_bytes()));
                for (place, name) in ["text", "a\"b\\c", "list"].into_iter().enumerate() {
                    let range = members.found[place].clone().expect("a value");
                    let value: serde_json::Value = serde_json::from_str(&raw[range]).expect("JSON");
                    proptest::prop_assert_eq!(&value, &row[name]);
                }
                proptest::prop_assert!(members.found[3].is_none());
            }
        }
    }
}
