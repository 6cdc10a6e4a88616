//! An S3 server that verifies signatures: wrong keys are told without being shown, and pictures land in its bucket.

use super::pictures::{PNG, TABLE, name_of, pipeline};
use super::{project, rows, run, store};
use crate::support::buckets::S3;
use crate::support::project::told;
use crate::support::shelf::{Shelf, Thing};

#[test]
fn a_wrong_key_is_refused_and_never_shown() {
    let server = S3::shared();
    let wrong = "this-is-not-the-secret-key";
    let connections = server.connection("right", "keys", &server.secret) + &server.connection("wrong", "keys", wrong);
    let step = "[[extract]]\nname = \"rows\"\nconnection = \"wrong\"\nfiles = \"*.csv\"\n";
    let project = project(&connections, step);
    server.put("keys/a b+c=d.csv", b"id\n1\n".to_vec());
    let test = project.output(&["connections", "test", "right"]);
    assert!(test.status.success() && told(&test).contains("it lists files"), "{}", told(&test));
    let mut all = told(&project.output(&["connections", "test", "wrong"]));
    all += &run(&project, "2024-05-04", 1);
    all += &told(&project.output(&["connections", "show", "wrong"]));
    all += &told(&project.output(&["connections", "show", "right"]));
    assert!(all.contains("secret_key"), "{all}");
    assert!(!all.contains(wrong) && !all.contains(&server.secret), "{all}");
    project.write("pipelines/days.toml", &step.replace("wrong", "right").replace("\n[", "file_column = \"f\"\n["));
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, "select count(*) from raw.rows"), ["1"]);
    // The keys may come from the environment, as AWS's own programs take them.
    let bare = server.connection("bare", "keys", "x");
    let bare: String = bare.lines().filter(|line| !line.contains("_key")).map(|line| format!("{line}\n")).collect();
    project.write("connections.toml", &bare);
    let mut command = project.haul(&["connections", "test", "bare"]);
    command.env("AWS_ACCESS_KEY_ID", &server.key).env("AWS_SECRET_ACCESS_KEY", &server.secret);
    let output = command.output().expect("haul starts");
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn pictures_land_in_a_bucket() {
    let (server, shelf) = (S3::shared(), Shelf::start());
    shelf.put("/a.png", Thing::Plain(PNG.to_vec(), "image/png"));
    let project = project(
        &server.connection("album", "album", &server.secret),
        &pipeline("").replace("\"pictures\"", "\"album\""),
    );
    store(
        &project,
        "rockets.jsonl",
        format!("{{\"id\":0,\"image\":{{\"url\":\"{}/a.png\"}}}}\n", shelf.url).as_bytes(),
    );
    run(&project, "2024-05-04", 0);
    let name = name_of(PNG, "png");
    assert_eq!(rows(&project, TABLE), [format!("0|{name}")]);
    assert_eq!(server.get(&format!("album/{name}")), PNG);
    run(&project, "2024-05-05", 0);
    assert_eq!(shelf.got(), ["/a.png"], "once");
}
