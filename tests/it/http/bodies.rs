//! Bodies of requests: forms, queries in GraphQL, texts; each with the window in it.

use serde_json::{Value, json};

use super::{check, project, run, run_badly};
use crate::support::station::{Reply, Station};

#[test]
fn a_form_is_sent_as_one_with_the_day_in_it() {
    let station = Station::start(|asked| {
        let fits = asked.method == "POST"
            && asked.header("content-type") == "application/x-www-form-urlencoded"
            && asked.body == "day=2024-05-01&kind=a+%26+b&kind=c";
        if fits { Reply::json(json!([{ "id": 1 }])) } else { Reply::new(400, asked.body.clone()) }
    });
    let step = "request = { path = \"/search\", form = { day = \"{{ ds }}\", kind = [\"a & b\", \"c\"] } }";
    let project = project(&station, "", step);
    run(&project, "2024-05-02");
    assert_eq!(project.query("select id from raw.items"), json!([{ "id": 1 }]));
    let rendered = project.stdout(&["render", "items", "items", "--date", "2024-05-02"]);
    assert!(rendered.contains("day=2024-05-01"), "{rendered}");
}

#[test]
fn a_text_and_an_xml_body_are_sent_as_they_stand() {
    let station = Station::start(|asked| match (asked.header("content-type"), asked.body.as_str()) {
        ("application/xml", "<q day=\"2024-05-01\"/>") => Reply::json(json!([{ "id": "xml" }])),
        ("text/plain; charset=utf-8", "day 2024-05-01") => Reply::json(json!([{ "id": "text" }])),
        ("application/sparql-query", "day 2024-05-01") => Reply::json(json!([{ "id": "own" }])),
        _ => Reply::new(400, asked.body.clone()),
    });
    let text = "text = \"day {{ ds }}\"";
    for (body, id) in [
        ("xml = '<q day=\"{{ ds }}\"/>'", "xml"),
        (text, "text"),
        (&format!("{text}, headers = {{ Content-Type = \"application/sparql-query\" }}"), "own"),
    ] {
        let project = project(&station, "", &format!("request = {{ path = \"/q\", {body} }}"));
        run(&project, "2024-05-02");
        assert_eq!(project.query("select id from raw.items"), json!([{ "id": id }]));
    }
}

const RELAY: &str = "records = \"$.data.orders.edges[*].node\"
paginate = { by = \"cursor\", in = \"body\", param = \"variables.after\", at = \"$.data.orders.pageInfo.endCursor\", has_more = \"$.data.orders.pageInfo.hasNextPage\" }
request.path = \"/graphql\"
request.graphql.query = '''
query Orders($day: Date!, $first: Int!, $after: String) {
  orders(day: $day, first: $first, after: $after) { edges { node { id } } pageInfo { endCursor hasNextPage } }
}'''
request.graphql.variables = { day = \"{{ ds }}\", first = \"{{ 1 + 1 }}\" }
request.graphql.operation = \"Orders\"";

#[test]
fn relay_connections_are_followed_to_their_end() {
    let station = Station::start(|asked| {
        let body: Value = serde_json::from_str(&asked.body).expect("JSON");
        let variables = &body["variables"];
        assert!(body["query"].as_str().is_some_and(|query| query.contains("pageInfo { endCursor hasNextPage }")));
        assert_eq!((&body["operationName"], &variables["day"]), (&json!("Orders"), &json!("2024-05-01")));
        let first = variables["first"].as_u64().expect("a number");
        let after: u64 = variables["after"].as_str().unwrap_or("0").parse().expect("a cursor");
        let ids: Vec<u64> = (after + 1..=5).take(usize::try_from(first).expect("small")).collect();
        let last = *ids.last().expect("no page behind the last one");
        let edges: Vec<Value> = ids.iter().map(|id| json!({ "node": { "id": id } })).collect();
        // The last page has a cursor too, as Relay wants it.
        let info = json!({ "endCursor": last.to_string(), "hasNextPage": last < 5 });
        Reply::json(json!({ "data": { "orders": { "edges": edges, "pageInfo": info } }, "errors": [] }))
    });
    let project = project(&station, "", RELAY);
    run(&project, "2024-05-02");
    assert_eq!(project.query("select list(id order by id) as ids from raw.items"), json!([{ "ids": [1, 2, 3, 4, 5] }]));
    assert_eq!(station.count("/graphql"), 3);
}

#[test]
fn errors_in_a_good_answer_to_a_query_are_a_failure_that_tells_them() {
    let station = Station::start(|_| {
        let error = |text: &str| json!({ "message": text, "extensions": { "code": "BAD_USER_INPUT" } });
        let errors = json!([error("no field `ordres`"), error("b"), error("c"), error("d")]);
        Reply::json(json!({ "data": { "orders": { "edges": [], "pageInfo": {} } }, "errors": errors }))
    });
    let project = project(&station, "", RELAY);
    let told = run_badly(&project, "2024-05-02");
    assert!(told.contains("the query failed: no field `ordres` (BAD_USER_INPUT); b (BAD_USER_INPUT)"), "{told}");
    assert!(told.contains("and 1 more"), "{told}");
    assert_eq!(station.count("/graphql"), 1, "the same query fails again");
}

#[test]
fn a_body_that_cannot_be_is_explained() {
    for (request, expected) in [
        ("{ path = \"/{{ ds }}\", body = { a = 1 }, form = { b = 2 } }", "a request has one body, and `body` is it"),
        ("{ path = \"/{{ ds }}\", method = \"GET\", text = \"x\" }", "a GET request has no body"),
        ("{ path = \"/{{ ds }}\", method = \"PUT\" }", "`PUT` changes what is there, and an extract only reads"),
        ("{ path = \"/{{ ds }}\", graphql = { variables = {} } }", "has no `query`"),
        (
            "{ path = \"/{{ ds }}\", graphql = { query = \"{a}\", variables = [1] } }",
            "the variables of a query are a table",
        ),
    ] {
        let told = check(&format!("request = {request}"));
        assert!(told.contains(expected), "`{expected}` is not in {told}");
    }
}
