//! XML: elements become JSON, row by row; what stands around the rows is kept for the values that lead to the next page.

use std::io::{BufReader, Read};

use bytes::Bytes;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

use super::{Batch, LONGEST_ROW, unreadable};
use crate::error::{Context, Error, Kind, Result};

/// Elements that are nested deeper are no data.
const DEEPEST: usize = 200;

/// What stands around the rows is small.
const LARGEST_FRAME: u64 = 16 << 20;

/// An element that is being read.
struct Node {
    name: String,
    members: Map<String, Value>,
    text: String,
    is_row: bool,
}

impl Node {
    /// The value of the whole element: an object of its attributes and elements, its text alone where it has no more, or null.
    fn value(mut self) -> Value {
        let text = self.text.trim();
        match (self.members.is_empty(), text.is_empty()) {
            (true, true) => Value::Null,
            (true, false) => Value::from(text),
            (false, true) => Value::Object(self.members),
            (false, false) => {
                self.members.insert("#text".to_owned(), Value::from(text));
                Value::Object(self.members)
            }
        }
    }
}

/// Reads the elements that are rows.
pub(super) fn rows(
    records: Option<&str>,
    lists: &[String],
    reader: &mut dyn Read,
    batch: &mut Batch<'_>,
) -> Result<()> {
    let Some(path) = records.filter(|records| records.starts_with('/')) else {
        return Err(Error::new(Kind::Source, "the answer is XML, and nothing says which of its elements are rows")
            .hint("records = \"/feed/entry\", the names of elements from the root on"));
    };
    let mut xml = Reader::from_reader(BufReader::with_capacity(64 << 10, reader));
    xml.config_mut().expand_empty_elements = true;
    let mut walk =
        Walk { path: path[1..].split('/').collect(), lists, stack: Vec::new(), root: Map::new(), arrived: false };
    let mut buffer = Vec::new();
    let (mut frame, mut since) = (0, 0);
    loop {
        buffer.clear();
        let before = xml.buffer_position();
        let event = xml.read_event_into(&mut buffer).map_err(|error| match error {
            quick_xml::Error::Io(error) => unreadable(std::io::Error::new(error.kind(), error.to_string())),
            other => broken(xml.error_position(), &other),
        })?;
        let length = xml.buffer_position() - before;
        let in_row = walk.stack.iter().any(|node| node.is_row);
        if in_row {
            since += length;
        } else {
            (frame, since) = (frame + length, 0);
        }
        if since > LONGEST_ROW || frame > LARGEST_FRAME {
            let what = if since > LONGEST_ROW {
                "a row is longer than 64 MiB"
            } else {
                "more than 16 MiB stand outside of the rows"
            };
            return Err(Error::new(Kind::Source, what).hint("`records` must lead to the elements that are rows"));
        }
        let place = xml.buffer_position();
        match event {
            Event::Start(start) => walk.open(&start, place)?,
            Event::Text(text) => walk.text(&text.xml10_content().map_err(|error| broken(place, &error))?),
            Event::CData(text) => walk.text(&text.xml10_content().map_err(|error| broken(place, &error))?),
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().map_err(|error| broken(place, &error))? {
                    Some(character) => character.to_string(),
                    None => {
                        let name = reference.decode().map_err(|error| broken(place, &error))?;
                        // Entities of a document type are not resolved: they are how documents explode.
                        let known = quick_xml::escape::resolve_predefined_entity(&name);
                        known.ok_or_else(|| broken(place, &format!("there is no entity `&{name};`")))?.to_owned()
                    }
                };
                walk.text(&resolved);
            }
            Event::End(_) => walk.close(batch)?,
            Event::Eof => break,
            _ => {}
        }
    }
    walk.end(path, batch)
}

fn broken(place: u64, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Source, format!("reading XML at byte {place}")).because(error.to_string())
}

struct Walk<'a> {
    path: Vec<&'a str>,
    lists: &'a [String],
    stack: Vec<Node>,
    root: Map<String, Value>,
    /// Whether the element that has the rows was there.
    arrived: bool,
}

impl Walk<'_> {
    fn open(&mut self, start: &BytesStart<'_>, place: u64) -> Result<()> {
        if self.stack.len() == DEEPEST {
            return Err(broken(place, &format!("elements are nested more than {DEEPEST} deep")));
        }
        let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
        let mut members = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| broken(place, &error))?;
            let value = attribute
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .map_err(|error| broken(place, &error))?;
            let key = format!("@{}", String::from_utf8_lossy(attribute.key.as_ref()));
            members.insert(key, Value::from(value.into_owned()));
        }
        self.stack.push(Node { name, members, text: String::new(), is_row: false });
        let depth = self.stack.len();
        let fits = |depth: usize| {
            self.path.len() >= depth
                && self.stack.iter().zip(&self.path).take(depth).all(|(node, name)| named(&node.name, name))
        };
        self.arrived |= self.path.len() == 1 || depth + 1 == self.path.len() && fits(depth);
        let is_row = depth == self.path.len() && fits(depth);
        if let Some(node) = self.stack.last_mut() {
            node.is_row = is_row;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some(node) = self.stack.last_mut() {
            node.text.push_str(text);
        }
    }

    fn close(&mut self, batch: &mut Batch<'_>) -> Result<()> {
        let Some(node) = self.stack.pop() else { return Ok(()) };
        let (name, is_row) = (node.name.clone(), node.is_row);
        let value = node.value();
        if is_row {
            return batch.row(|body| {
                serde_json::to_writer(body, &value).context(Kind::Internal, || "writing an element as JSON".to_owned())
            });
        }
        let members = self.stack.last_mut().map_or(&mut self.root, |parent| &mut parent.members);
        match members.get_mut(&name) {
            Some(Value::Array(list)) => list.push(value),
            // An element that was there already is a list from now on.
            Some(other) => *other = Value::Array(vec![other.take(), value]),
            None if self.lists.iter().any(|list| named(&name, list)) => {
                members.insert(name, Value::Array(vec![value]));
            }
            None => {
                members.insert(name, value);
            }
        }
        Ok(())
    }

    fn end(self, path: &str, batch: &mut Batch<'_>) -> Result<()> {
        if let Some(node) = self.stack.last() {
            return Err(Error::new(Kind::Source, format!("the XML ends inside of the element `{}`", node.name)));
        }
        if !self.arrived {
            let has: Vec<&str> = self.root.keys().map(String::as_str).collect();
            let found = if has.is_empty() {
                "there is no element at all".to_owned()
            } else {
                format!("its root is `{}`", has.join("`, `"))
            };
            return Err(Error::new(Kind::Source, format!("the answer has nothing at `{path}`")).because(found));
        }
        batch.about = Some(Bytes::from(Value::Object(self.root).to_string()));
        Ok(())
    }
}

/// Whether an element has a name; a name without a prefix fits any prefix.
fn named(element: &str, name: &str) -> bool {
    name == "*" || element == name || !name.contains(':') && element.rsplit(':').next() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, lists: &[&str], text: &str) -> Result<(Vec<String>, String)> {
        let (mut found, mut about) = (Vec::new(), String::new());
        let mut keep = |part: super::super::Part| {
            found.extend(part.rows.iter().map(|row| String::from_utf8_lossy(&part.body[row.clone()]).into_owned()));
            about = part.last.flatten().map(|about| String::from_utf8_lossy(&about).into_owned()).unwrap_or_default();
            Ok(())
        };
        let lists: Vec<String> = lists.iter().map(|name| (*name).to_owned()).collect();
        let mut batch = Batch { body: Vec::new(), rows: Vec::new(), about: None, send: &mut keep };
        rows(Some(path), &lists, &mut text.as_bytes(), &mut batch)?;
        batch.end()?;
        Ok((found, about))
    }

    #[test]
    fn elements_attributes_and_texts_become_members() {
        let text = r#"<?xml version="1.0"?><f:feed total="2"><next>/p?a=1&amp;b=2</next>
            <f:entry id="1"><name>A &lt; B &#x41;</name><tag>x</tag><tag>y</tag><price cur="EUR">1.50</price><none/></f:entry>
            <f:entry id="2"><![CDATA[a <b> c]]><tag>z</tag></f:entry></f:feed>"#;
        let (rows, about) = read("/feed/entry", &[], text).expect("rows");
        assert_eq!(
            rows,
            [
                r##"{"@id":"1","name":"A < B A","tag":["x","y"],"price":{"@cur":"EUR","#text":"1.50"},"none":null}"##,
                r##"{"@id":"2","tag":"z","#text":"a <b> c"}"##
            ]
        );
        assert_eq!(about, r#"{"f:feed":{"@total":"2","next":"/p?a=1&b=2"}}"#);
        let (rows, _) = read("/*/f:entry", &["tag"], text).expect("rows");
        assert!(rows[1].contains(r#""tag":["z"]"#), "{}", rows[1]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let told = |path: &str, text: &str| read(path, &[], text).expect_err("a fault").chain();
        assert!(told("/feed/entry", "<error>no</error>").contains("nothing at `/feed/entry`: its root is `error`"));
        assert!(told("/feed/entry", "<feed><entry>").contains("ends inside of the element `entry`"));
        assert!(told("/feed/entry", "<feed><entry></feed>").contains("reading XML at byte"));
        assert!(told("/a", "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>").contains("there is no entity `&x;`"));
        assert!(read("/feed/entry", &[], "<feed/>").expect("no rows").0.is_empty());
    }
}
