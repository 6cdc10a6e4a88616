//! What a step or a hook says of answers: how they are written, what is done with odd ones, and reports to wait for.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeValue;

use super::file::ExtractTable;
use super::files::{CsvTable, csv_format};
use super::reader::{At, Read, Reader, Required, twin};
use super::request::{CursorAt, RequestParts, RequestTable};
use super::rule::Rules;
use super::scalar::{Entries, Names, words};
use super::value::{JsonPathText, TypedDuration, schema};
use crate::model::answer::{AnswerForm, Compression, Encoding, Format, PollRule, ReportTemplate, Rule};
use crate::model::files::CsvFormat;
use crate::model::hook::{CursorPlace, Method, RequestTemplate};
use crate::model::name::Text;

/// How the rows of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatWord {
    /// One JSON document.
    Json,
    /// A JSON value on each line.
    Jsonl,
    /// Values between delimiters, a row on each line.
    Csv,
    /// An XML document, of an answer.
    Xml,
    /// Apache Parquet, of files.
    Parquet,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompressionWord {
    /// Not at all, whatever it looks like.
    None,
    /// By gzip.
    Gzip,
    /// As members of a zip file.
    Zip,
}

/// How characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncodingWord {
    /// UTF-8, with or without a byte order mark.
    #[serde(rename = "utf-8")]
    Utf8,
    /// Windows-1252, of which Latin-1 is a part.
    #[serde(rename = "windows-1252")]
    Windows1252,
    /// Latin-1.
    #[serde(rename = "latin1")]
    Latin1,
}

words!(FormatWord, CompressionWord, EncodingWord);

/// Where the rows of a page are: a JSONPath, or the path of an XML element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsText(pub String);

impl Read for RecordsText {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(path) = value.get_ref().as_str().filter(|text| text.starts_with('/')) else {
            return JsonPathText::read(value, reader).map(|path| Self(path.0));
        };
        let fits =
            path.len() > 1 && path[1..].split('/').all(|name| !name.is_empty() && !name.contains([' ', '[', '@']));
        if !fits {
            let message = format!("`{path}` is not the path of an XML element");
            reader.error("bad-path", value.span(), message).help =
                Some("names of elements from the root on, as in \"/feed/entry\"; `*` is any element".to_owned());
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

schema!(RecordsText, { "type": "string", "pattern": "^[$/]", "examples": ["$.result[*]", "/feed/entry"] });

twin! {
    /// The form of XML.
    pub struct XmlTable {
        /// Names of elements that are lists, however often they occur in a row.
        pub lists: Option<At<Names>>,
    }
}

twin! {
    /// How it is asked whether a report is there. Its texts are templates, and see what was kept as `report.<name>`.
    pub struct PollTable {
        /// Appended to the connection's address, or a whole URL.
        pub path: Required<String>,
        /// `GET` (the default) or `POST`.
        pub method: Option<At<super::request::MethodWord>>,
        /// The query's parameters.
        pub params: Option<At<Entries<super::scalar::Texts>>>,
        /// Headers.
        pub headers: Option<At<Entries<super::scalar::Texts>>>,
        /// The JSON body.
        pub body: Option<At<serde_json::Value>>,
        /// JSONPath of the report's status. Without it, `202 Accepted` means that the report is not there yet.
        pub status: Option<At<JsonPathText>>,
        /// The statuses of a report that is there.
        pub done: Option<At<Names>>,
        /// The statuses of a report that will never be there.
        pub failed: Option<At<Names>>,
        /// JSONPath of what the server says of a failure.
        pub reason: Option<At<JsonPathText>>,
        /// What is kept of the answer that says that the report is there: a JSONPath or `{ header = "X" }` each.
        pub values: Option<At<Entries<CursorAt>>>,
        /// The pause between two questions, where no `Retry-After` names one. Default `"5s"`.
        pub every: Option<At<TypedDuration>>,
        /// How long a report is waited for. Default `"1h"`.
        pub timeout: Option<At<TypedDuration>>,
    }
}

twin! {
    /// A report: the step's `request` creates it, `poll` waits for it, `download` brings its rows.
    pub struct ReportTable {
        /// What is kept of the answer that creates the report, seen as `report.<name>`: a JSONPath or `{ header = "X" }` each.
        pub values: Option<At<Entries<CursorAt>>>,
        /// How it is asked whether the report is there.
        pub poll: Required<PollTable>,
        /// The request for its rows. Default: the poll's own request, sent once more.
        pub download: Option<At<RequestTable>>,
    }
}

/// What one file says of answers; a step's words are laid over its hook's.
#[derive(Debug, Clone, Default)]
pub struct AnswerParts {
    /// How rows are written.
    pub format: Option<Format>,
    /// How a file is compressed.
    pub compression: Option<Compression>,
    /// Which members of a zip file have rows.
    pub members: Option<String>,
    /// The form of CSV.
    pub csv: Option<(CsvFormat, Encoding)>,
    /// Elements that are lists.
    pub lists: Option<Vec<String>>,
    /// What is done with odd answers.
    pub rules: Vec<Rule>,
    /// Whether answers are kept.
    pub conditional: Option<bool>,
    /// The report.
    pub report: Option<ReportTemplate>,
}

/// The keys that speak of answers, of a step or of a hook.
pub struct AnswerKeys<'a> {
    /// `format`.
    pub format: Option<&'a At<FormatWord>>,
    /// `compression`.
    pub compression: Option<&'a At<CompressionWord>>,
    /// `members`.
    pub members: Option<&'a At<String>>,
    /// `csv`.
    pub csv: Option<&'a At<CsvTable>>,
    /// `xml`.
    pub xml: Option<&'a At<XmlTable>>,
    /// `on`.
    pub on: Option<&'a At<Rules>>,
    /// `conditional`.
    pub conditional: Option<&'a At<bool>>,
    /// `report`.
    pub report: Option<&'a At<ReportTable>>,
}

impl AnswerParts {
    /// Reads the keys, and reports what does not fit together.
    pub fn new(keys: &AnswerKeys<'_>, reader: &mut Reader) -> Self {
        let format = keys.format.and_then(|at| match at.value {
            FormatWord::Json => Some(Format::Json),
            FormatWord::Jsonl => Some(Format::Jsonl),
            FormatWord::Csv => Some(Format::Csv),
            FormatWord::Xml => Some(Format::Xml),
            FormatWord::Parquet => None,
        });
        let compression = keys.compression.map(|at| match at.value {
            CompressionWord::None => Compression::None,
            CompressionWord::Gzip => Compression::Gzip,
            CompressionWord::Zip => Compression::Zip,
        });
        let foreign = |span, key: &str, of: &str, reader: &mut Reader| {
            let message = format!("`{key}` means nothing for answers that are not {of}");
            reader.error("foreign-key", span, message).help = Some(format!("leave `{key}` out"));
        };
        if let (Some(csv), Some(Format::Json | Format::Jsonl | Format::Xml)) = (keys.csv, format) {
            foreign(csv.span.clone(), "csv", "CSV", reader);
        }
        if let (Some(xml), Some(Format::Json | Format::Jsonl | Format::Csv)) = (keys.xml, format) {
            foreign(xml.span.clone(), "xml", "XML", reader);
        }
        if let (Some(members), Some(Compression::None | Compression::Gzip)) = (keys.members, compression) {
            foreign(members.span.clone(), "members", "zip files", reader);
        }
        Self {
            format,
            compression,
            members: keys.members.map(|at| at.value.clone()),
            csv: keys.csv.map(|at| (csv_format(&at.value, reader), encoding(&at.value))),
            lists: keys.xml.and_then(|at| at.value.lists.as_ref()).map(|at| at.value.0.clone()),
            rules: keys.on.map(|at| at.value.0.clone()).unwrap_or_default(),
            conditional: keys.conditional.map(|at| at.value),
            report: keys.report.and_then(|at| report(at, reader)),
        }
    }

    /// Lays these parts over those of a hook.
    #[must_use]
    pub fn over(self, hook: &Self) -> Self {
        let same = |left: &Rule, right: &Rule| (left.statuses, &left.containing) == (right.statuses, &right.containing);
        let mut rules = self.rules;
        rules.extend(
            hook.rules.iter().filter(|rule| !rules.iter().any(|own| same(own, rule))).cloned().collect::<Vec<_>>(),
        );
        Self {
            format: self.format.or(hook.format),
            compression: self.compression.or(hook.compression),
            members: self.members.or_else(|| hook.members.clone()),
            csv: self.csv.or_else(|| hook.csv.clone()),
            lists: self.lists.or_else(|| hook.lists.clone()),
            rules,
            conditional: self.conditional.or(hook.conditional),
            report: self.report.or_else(|| hook.report.clone()),
        }
    }

    /// How answers are written.
    pub fn form(&self) -> AnswerForm {
        let (csv, encoding) = self.csv.clone().unwrap_or_default();
        AnswerForm {
            format: self.format,
            compression: self.compression,
            members: self.members.clone(),
            csv,
            encoding,
            lists: self.lists.clone().unwrap_or_default(),
        }
    }

    /// The rules in the order in which they are looked at: those that say more come first.
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = self.rules.clone();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.weight()));
        rules
    }

    /// The templates of a report, with what was kept of it as the only names that are new.
    pub fn texts(&self) -> Vec<Text> {
        let Some(report) = &self.report else { return Vec::new() };
        let requests = std::iter::once(&report.poll).chain(&report.download);
        requests.flat_map(|request| RequestParts::of_template(request).texts()).collect()
    }
}

fn encoding(table: &CsvTable) -> Encoding {
    match table.encoding.as_ref().map(|at| at.value) {
        None | Some(EncodingWord::Utf8) => Encoding::Utf8,
        Some(EncodingWord::Windows1252 | EncodingWord::Latin1) => Encoding::Windows1252,
    }
}

/// Reports the keys of answers in a step that gets none; `all` where not even rows are written in any way.
pub fn refuse(step: &ExtractTable, all: bool, instead: &str, reader: &mut Reader) {
    let keys = [
        ("compression", step.compression.as_ref().map(|at| &at.span)),
        ("members", step.members.as_ref().map(|at| &at.span)),
        ("xml", step.xml.as_ref().map(|at| &at.span)),
        ("on", step.on.as_ref().map(|at| &at.span)),
        ("conditional", step.conditional.as_ref().map(|at| &at.span)),
        ("report", step.report.as_ref().map(|at| &at.span)),
        ("format", step.format.as_ref().map(|at| &at.span).filter(|_| all)),
        ("csv", step.csv.as_ref().map(|at| &at.span).filter(|_| all)),
    ];
    for (key, span) in keys {
        let Some(span) = span else { continue };
        let message = format!("`{key}` speaks of an API's answers, and {instead}");
        reader.error("two-sources", span.clone(), message).help = Some("leave one of them out".to_owned());
    }
}

fn places(entries: Option<&At<Entries<CursorAt>>>) -> Vec<(String, CursorPlace)> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    let place = |at: &CursorAt| match at {
        CursorAt::Body(path) => CursorPlace::Body(path.clone()),
        CursorAt::Header(name) => CursorPlace::Header(name.clone()),
    };
    entries.iter().map(|(name, at)| (name.value.clone(), place(&at.value))).collect()
}

fn report(at: &At<ReportTable>, reader: &mut Reader) -> Option<ReportTemplate> {
    let poll = at.value.poll.0.as_ref()?;
    let table = RequestTable {
        method: poll.value.method.clone(),
        path: poll.value.path.0.clone(),
        params: poll.value.params.clone(),
        headers: poll.value.headers.clone(),
        body: poll.value.body.clone(),
        ..RequestTable::default()
    };
    let names = |at: &Option<At<Names>>| at.as_ref().map(|at| at.value.0.clone()).unwrap_or_default();
    let rule = PollRule {
        status: poll.value.status.as_ref().map(|at| at.value.0.clone()),
        done: names(&poll.value.done),
        failed: names(&poll.value.failed),
        reason: poll.value.reason.as_ref().map(|at| at.value.0.clone()),
        every: poll.value.every.as_ref().map_or(Duration::from_secs(5), |at| at.value.0),
        timeout: poll.value.timeout.as_ref().map_or(Duration::from_hours(1), |at| at.value.0),
    };
    match (&rule.status, rule.done.is_empty()) {
        (Some(_), true) => {
            let message = "`report.poll` reads a status, but does not say which status means that the report is there";
            reader.error("missing-key", poll.span.clone(), message).help = Some("done = [\"SUCCESS\"]".to_owned());
        }
        (None, false) => {
            let span = poll.value.done.as_ref().map_or(poll.span.clone(), |at| at.span.clone());
            reader.error("missing-key", span, "`done` names statuses, but nothing says where the status is").help =
                Some(
                    "status = \"$.status\"; without one, 202 Accepted means that the report is not there yet"
                        .to_owned(),
                );
        }
        _ => {}
    }
    let request = |parts: RequestParts, span: &super::reader::Span, reader: &Reader| RequestTemplate {
        method: parts.method.unwrap_or(Method::Get),
        path: parts.path.unwrap_or_else(|| Text::new("", reader.origin(span))),
        params: parts.params,
        headers: parts.headers,
        body: parts.body,
    };
    let asked = RequestParts::new(&table, reader);
    let poll_request = request(asked, &poll.span, reader);
    let download = at.value.download.as_ref().map(|download| {
        if download.value.path.is_none() {
            let message = "`report.download` has no `path`";
            reader.error("missing-key", download.span.clone(), message).help =
                Some("path = \"{{ report.url }}\", a whole address or a path of the connection".to_owned());
        }
        let parts = RequestParts::new(&download.value, reader);
        request(parts, &download.span, reader)
    });
    let found = places(poll.value.values.as_ref());
    Some(ReportTemplate { values: places(at.value.values.as_ref()), poll: poll_request, rule, found, download })
}
