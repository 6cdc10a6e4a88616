//! Tests' results as JUnit XML, which CI systems read.

use std::path::Path;
use std::time::Duration;

use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use quick_xml::writer::Writer;

use crate::error::{Context, Error, Kind, Result};
use crate::replay::{Fault, Report};

/// Writes one `testsuite` with a `testcase` for each test; the part of a name before `::` is its class.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn write(reports: &[(Report, Duration)], path: &Path) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let xml = document(reports).map_err(|error| Error::internal(doing()).because(error.to_string()))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).context(Kind::Storage, doing)?;
    }
    std::fs::write(path, xml).context(Kind::Storage, doing)
}

fn document(reports: &[(Report, Duration)]) -> std::io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let failed = reports.iter().filter(|(report, _)| !report.passed).count();
    let whole: Duration = reports.iter().map(|(_, took)| *took).sum();
    let mut suite = BytesStart::new("testsuite");
    let (tests, failures) = (reports.len().to_string(), failed.to_string());
    for (name, value) in [("name", "haul"), ("tests", &tests), ("failures", &failures), ("time", &seconds(whole))] {
        suite.push_attribute((name, value));
    }
    writer.write_event(Event::Start(suite))?;
    for (report, took) in reports {
        let (class, name) = report.name.split_once("::").unwrap_or(("tests", &report.name));
        let mut case = BytesStart::new("testcase");
        for (key, value) in [("classname", class), ("name", name), ("time", &seconds(*took))] {
            case.push_attribute((key, value));
        }
        if report.passed {
            writer.write_event(Event::Empty(case))?;
            continue;
        }
        writer.write_event(Event::Start(case))?;
        for fault in &report.faults {
            let mut failure = BytesStart::new("failure");
            failure.push_attribute(("message", fault.what.lines().next().unwrap_or_default()));
            writer.write_event(Event::Start(failure))?;
            writer.write_event(Event::Text(BytesText::new(&text(fault))))?;
            writer.write_event(Event::End(BytesEnd::new("failure")))?;
        }
        writer.write_event(Event::End(BytesEnd::new("testcase")))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
    Ok(writer.into_inner())
}

fn seconds(took: Duration) -> String {
    format!("{:.3}", took.as_secs_f64())
}

/// A fault with the rows that differ, one a line, its cells divided by bars.
fn text(fault: &Fault) -> String {
    let mut lines = vec![fault.what.clone()];
    if let Some(difference) = &fault.difference {
        lines.push(difference.columns.join(" | "));
        lines.extend(difference.rows.iter().map(|row| row.join(" | ")));
    }
    lines.join("\n")
}
