//! Messages in words: a title, plain text for people, and HTML for mail.

use chrono::SecondsFormat;

use crate::model::incident::{Content, Notice, Report};
use crate::model::notify::Topic;
use crate::time::{Instant, Tz, display_duration};

/// More units than these are counted.
const UNITS: usize = 5;

/// A reason is cut behind so many characters.
const REASON: usize = 500;

/// Whose messages these are.
#[derive(Debug, Clone)]
pub struct About {
    /// The project.
    pub project: String,
    /// Where people reach the daemon.
    pub url: Option<String>,
}

/// A message in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it is about, on one line.
    pub title: String,
    /// All of it, as plain text.
    pub text: String,
    /// All of it, as a document of HTML.
    pub html: String,
}

/// A message in words.
pub fn told(content: &Content, about: &About) -> Told {
    match content {
        Content::Notices { notices } => told_notices(notices, about),
        Content::Report { report } => told_report(report, about),
        Content::Test => {
            let title = format!("{}: messages arrive", about.project);
            let text = "This is a test, sent by `haul notify test`. Nothing is wrong.".to_owned();
            let html = document(&title, &format!("<p>{}</p>", escaped(&text)));
            Told { title, text, html }
        }
    }
}

/// How a notice begins: `failed: raw.ratings`.
pub(super) fn headline(notice: &Notice) -> String {
    let subject = &notice.subject;
    match (notice.topic, notice.was) {
        (Topic::Failure, _) => format!("{subject} failed"),
        (Topic::Held, _) => format!("{subject} is held"),
        (Topic::Deadline, _) => format!("{subject} missed its deadline"),
        (Topic::Late, _) => format!("{subject} is late at its source"),
        (Topic::Drift, _) => format!("{subject} changed more than expected"),
        (Topic::Recovery, Some(Topic::Held)) => format!("{subject} is decided"),
        (Topic::Recovery, Some(Topic::Deadline)) => format!("{subject} is there now"),
        (Topic::Recovery, _) => format!("{subject} is well again"),
        (Topic::Report, _) => subject.clone(),
    }
}

/// The lines below a headline.
pub(super) fn lines(notice: &Notice, about: &About) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(pipeline) = notice.pipeline.as_ref().filter(|pipeline| **pipeline != notice.subject) {
        lines.push(("pipeline", pipeline.clone()));
    }
    if !notice.units.is_empty() && notice.units != ["all"] {
        lines.push(("units", units(&notice.units)));
    }
    lines.push(("since", at(notice.since)));
    let label = if notice.topic == Topic::Recovery { "it was" } else { "why" };
    lines.push((label, shortened(notice.reason.lines().next().unwrap_or_default())));
    if let Some(command) = &notice.command {
        let more = match notice.topic {
            Topic::Held => "  (--reject throws the new rows away)",
            _ => "",
        };
        lines.push(("do", format!("{command}{more}")));
    }
    if let Some((url, pipeline)) = about.url.as_ref().zip(notice.pipeline.as_ref()) {
        lines.push(("see", format!("{url}/pipelines/{pipeline}")));
    }
    lines
}

/// Units in words: the first ones, and how many more there are.
pub(super) fn units(units: &[String]) -> String {
    let mut text = units.iter().take(UNITS).cloned().collect::<Vec<_>>().join(", ");
    if units.len() > UNITS {
        text = format!("{text} and {} more", units.len() - UNITS);
    }
    text
}

fn told_notices(notices: &[Notice], about: &About) -> Told {
    let wrong = notices.iter().filter(|notice| notice.topic != Topic::Recovery).count();
    let title = match (notices, wrong) {
        ([only], _) => format!("{}: {}", about.project, headline(only)),
        (all, 0) => format!("{}: {} things are well again", about.project, all.len()),
        (all, some) => {
            let well = all.len() - some;
            let first = all.iter().find(|notice| notice.topic != Topic::Recovery).map(headline).unwrap_or_default();
            let more = if some > 1 { format!(", and {} more", some - 1) } else { String::new() };
            let well = if well > 0 { format!("; {well} well again") } else { String::new() };
            format!("{}: {first}{more}{well}", about.project)
        }
    };
    let (mut text, mut html) = (String::new(), String::new());
    for notice in notices {
        let head = headline(notice);
        text.push_str(&format!("{head}\n"));
        html.push_str(&format!("<h3>{}</h3>\n<table>\n", escaped(&head)));
        for (label, line) in lines(notice, about) {
            text.push_str(&format!("  {label:<9} {line}\n"));
            let cell = match label {
                "do" => format!("<code>{}</code>", escaped(&line)),
                "see" => format!("<a href=\"{0}\">{0}</a>", escaped(&line)),
                _ => escaped(&line),
            };
            html.push_str(&format!("<tr><td>{label}</td><td>{cell}</td></tr>\n"));
        }
        text.push('\n');
        html.push_str("</table>\n");
    }
    Told { html: document(&title, &html), title, text: text.trim_end().to_owned() }
}

/// A report in words.
pub fn told_report(report: &Report, about: &About) -> Told {
    let zone = report.timezone.parse().unwrap_or(Tz::UTC);
    let when = |at: Instant| at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string();
    let runs: u64 = report.pipelines.iter().map(|line| line.runs).sum();
    let state = match report.open.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        some => format!("{some} things are wrong"),
    };
    let title = format!("{}: {} run{}, {state}", about.project, runs, if runs == 1 { "" } else { "s" });
    let mut text = format!("{} to {} {}\n", when(report.since), when(report.until), report.timezone);
    let mut html = format!("<p>{}</p>\n", escaped(text.trim_end()));
    let mut section = |head: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{head}\n{}", lines.iter().map(|line| format!("  {line}\n")).collect::<String>()));
            let items: String = lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
            html.push_str(&format!("<h3>{}</h3>\n<ul>\n{items}</ul>\n", escaped(head)));
        }
    };
    section("wrong now", report.open.iter().map(wrong_line).collect());
    let ran: Vec<String> = report.pipelines.iter().map(ran_line).collect();
    section("what ran", if ran.is_empty() { vec!["nothing".to_owned()] } else { ran });
    let slow = report.slowest.iter().filter(|slow| slow.took_ms >= 1000);
    let took = |ms: u64| display_duration(std::time::Duration::from_secs(ms / 1000));
    section("what took longest", slow.map(|slow| format!("{}  {}", took(slow.took_ms), slow.run)).collect());
    let mut money = Vec::new();
    for (word, sum) in [("billed", &report.cost), ("saved", &report.saved)] {
        if !sum.is_empty() {
            money.push(format!("{word} {sum}"));
        }
    }
    section("costs", money);
    Told { html: document(&title, &html), title, text: text.trim_end().to_owned() }
}

pub(super) fn wrong_line(incident: &crate::model::incident::Incident) -> String {
    let units = if incident.units.is_empty() || incident.units == ["all"] {
        String::new()
    } else {
        format!(" ({})", units(&incident.units))
    };
    let reason = shortened(incident.reason.lines().next().unwrap_or_default());
    format!("{}  {}{units} since {}: {reason}", incident.topic.name(), incident.subject, at(incident.opened_at))
}

pub(super) fn ran_line(line: &crate::model::incident::PipelineReport) -> String {
    let mut text = format!(
        "{}: {} of {} runs succeeded, {} loaded, {} unchanged",
        line.pipeline, line.succeeded, line.runs, line.loaded, line.unchanged
    );
    for (word, count) in [("held", line.held), ("late", line.late), ("failed", line.failed)] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    text.push_str(&format!("; {} rows", line.rows));
    if line.drift > 0 {
        text.push_str(&format!(", {} of them by drift", line.drift));
    }
    text
}

/// An instant as people and programs read it alike.
pub(super) fn at(instant: Instant) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn shortened(reason: &str) -> String {
    if reason.chars().count() <= REASON {
        return reason.to_owned();
    }
    reason.chars().take(REASON).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn document(title: &str, body: &str) -> String {
    const STYLE: &str =
        "body{font:14px sans-serif}td{padding:2px 12px 2px 0;vertical-align:top}td:first-child{color:#666}";
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><h2>{title}</h2>\n{body}</body></html>\n"
    )
}
