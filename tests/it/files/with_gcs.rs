//! Pictures land in a bucket of a Google Cloud Storage server.

use super::pictures::{PNG, TABLE, name_of, pipeline};
use super::{project, rows, run, store};
use crate::support::buckets::Gcs;
use crate::support::shelf::{Shelf, Thing};

#[test]
fn pictures_land_in_a_bucket() {
    let (server, shelf) = (Gcs::start(), Shelf::start());
    shelf.put("/a.png", Thing::Plain(PNG.to_vec(), "image/png"));
    let project = project(&server.connection("album", "album"), &pipeline("").replace("\"pictures\"", "\"album\""));
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
