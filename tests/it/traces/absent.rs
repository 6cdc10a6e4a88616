//! A program that was built without traces says so, and does all else.

use super::*;
use crate::support::doors::{Ran, nobody};

#[test]
fn a_program_without_traces_says_so_and_runs_all_the_same() {
    let endpoint = format!("http://127.0.0.1:{}", nobody());
    let (_api, project) = project(&format!("traces = {{ endpoint = \"{endpoint}\" }}"));
    let checked = Ran::of(&mut project.haul(&["check"])).well();
    assert!(checked.told().contains("warning[no-traces]: this haul was built without traces"), "{}", checked.told());
    assert!(checked.told().contains("--features otel"), "{}", checked.told());
    let ran = Ran::of(project.haul(&["run", "p", "--date", DATE]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)).well();
    assert!(!ran.told().contains("traces are lost"), "{}", ran.told());
}
