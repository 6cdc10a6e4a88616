//! What `haul check` says to wrong keys of `[serve.traces]`.

use super::*;
use crate::support::doors::Ran;

/// What is told of this table.
fn told(table: &str) -> String {
    let (_api, project) = project(&format!("traces = {{ {table} }}"));
    Ran::of(&mut project.haul(&["check"])).told()
}

#[test]
fn a_table_of_traces_that_is_right_has_no_fault() {
    let good = "endpoint = \"https://otlp.example.com/otlp/\", service = \"shop\", \
                headers = { x-scope-orgid = \"shop\", authorization = { env = \"OTLP_TOKEN\" } }";
    let told = told(good);
    assert!(told.contains("no faults, 0 warnings"), "{told}");
}

#[test]
fn every_wrong_key_of_traces_is_told_with_what_would_be_right() {
    for (table, words) in [
        ("service = \"shop\"", ["error[missing-key]", "`serve.traces` has no `endpoint`"]),
        ("endpoint = \"localhost:4318\"", ["error[bad-address]", "endpoint = \"http://127.0.0.1:4318\""]),
        ("endpoint = \"http://a/v1/traces\"", ["error[bad-address]", "`/v1/traces` is added to the address"]),
        ("endpoint = \"http://a?x=1\"", ["error[bad-address]", "ends with its path"]),
        ("endpoint = \"http://u:p@a\"", ["error[bad-address]", "does not say who we are"]),
        ("endpoint = \"http://a\", service = \" \"", ["error[empty]", "`serve.traces.service` is empty"]),
        ("endpoint = \"http://a\", headers = { \"a b\" = \"c\" }", ["error[bad-header]", "is no name of a header"]),
        ("endpoint = \"http://a\", headers = { x = \"ü\" }", ["error[bad-header]", "cannot stand in a header"]),
        ("endpoint = \"http://a\", header = {}", ["error[unknown-key]", "did you mean `headers`?"]),
    ] {
        let told = told(table);
        assert!(words.iter().all(|word| told.contains(word)), "{table}: {told}");
        assert_eq!(told.matches("error[").count(), 1, "{table}: {told}");
    }
}

#[test]
fn what_lets_us_in_is_refused_in_the_file_and_not_shown() {
    let told = told("endpoint = \"http://a\", headers = { authorization = \"Bearer geheim-7\" }");
    assert!(told.contains("error[written-secret]") && told.contains("{ env = \"OTLP_TOKEN\" }"), "{told}");
    assert!(!told.contains("geheim-7"), "{told}");
}
