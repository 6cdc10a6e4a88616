//! What goes wrong is told with what would be right, and without a secret.

use mongodb::bson::doc;

use super::Bench;
use crate::support::doors::{Ran, nobody};
use crate::support::mongodb::{Database, PASSWORD};
use crate::support::project::Project;

const WHOLE: &str =
    "[[extract]]\nname = \"things\"\nconnection = \"mongo\"\nretry = { max_attempts = 1 }\ncollection = \"things\"\n";
const MORNING: &str = "2024-05-04";

fn connection(uri: &str) -> String {
    format!("[mongo]\ntype = \"mongodb\"\nuri = \"{uri}\"\ndatabase = \"d\"\n")
}

#[test]
fn a_wrong_password_a_wrong_port_and_a_wrong_address_are_told_apart() {
    let bench = Bench::new(WHOLE);
    let port = Database::port();
    for (uri, code, words) in [
        (Database::uri("a-wrong-password", port), 1, ["auth", "are user, password and `authSource`"]),
        (Database::uri(PASSWORD_ESCAPED, nobody()), 1, ["unavailable", "is a server listening there"]),
        ("mongodb://tester:shut-sesame%2F43@[nowhere".to_owned(), 1, ["connection", "`uri` looks like mongodb://"]),
    ] {
        bench.connect(&connection(&uri));
        let told = bench.mornings.run(MORNING, code);
        for word in words {
            assert!(told.to_lowercase().contains(&word.to_lowercase()), "{word} is not in {told}");
        }
        for secret in [PASSWORD, PASSWORD_ESCAPED, "a-wrong-password"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

const PASSWORD_ESCAPED: &str = "shut-sesame%2F43";

#[test]
fn a_collection_that_is_not_there_is_told_with_those_that_are() {
    let bench = Bench::new(WHOLE);
    bench.database.insert("thing", vec![doc! { "a": 1 }]);
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("it does not exist") && told.contains("did you mean `thing`?"), "{told}");
    bench.write(&WHOLE.replace("\"things\"\n", "\"elsewhere\"\n"));
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("the database has thing"), "{told}");
}

#[test]
fn a_query_that_the_server_refuses_and_a_connection_of_another_type_are_told() {
    let bench = Bench::new(&format!("{WHOLE}filter = {{ a = {{ \"$nonsense\" = 1 }} }}\n"));
    bench.database.insert("things", vec![doc! { "a": 1 }]);
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("$nonsense") && told.contains("the collection `things`"), "{told}");
    bench.write(&format!("{WHOLE}filter = {{ a = {{ \"$oid\" = \"no id\" }} }}\n"));
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("pipelines/days.toml:") && told.contains("extended JSON"), "{told}");
    bench.write(&WHOLE.replace("\"mongo\"", "\"warehouse\""));
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains("has type duckdb, a collection needs one of type mongodb"), "{told}");
}

#[test]
fn a_connection_is_tested_with_the_real_server() {
    let project = Project::empty();
    let test = |uri: &str| {
        project.write("connections.toml", &connection(uri));
        Ran::of(&mut project.haul(&["connections", "test", "mongo"]))
    };
    let port = Database::port();
    let ran = test(&Database::uri(PASSWORD_ESCAPED, port)).well();
    assert!(ran.out.contains("MongoDB answered the ping") && !ran.told().contains(PASSWORD), "{}", ran.out);
    let ran = test(&Database::uri("a-wrong-password", port)).refused(1, &["are user, password and `authSource`"]);
    assert!(!ran.told().contains("a-wrong-password"), "{}", ran.told());
    let port = nobody();
    let refused = format!("no server answers: 127.0.0.1:{port}: I/O error: Connection refused");
    let ran = test(&Database::uri(PASSWORD_ESCAPED, port)).refused(1, &["is a server listening there?", &refused]);
    assert!(!ran.told().contains("Topology"), "{}", ran.told());
}
