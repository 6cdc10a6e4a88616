//! Pictures that rows point to: stored once under a name by their content, politely, and again where that did not work.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;

use super::{project, rows, run, store};
use crate::support::project::{Project, told};
use crate::support::shelf::{Shelf, Thing};

/// A real PNG of one pixel.
pub const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xdac\xfc\xcf\xc0P\x0f\0\x04\x85\x01\x80\x84\xa9\x8c!\0\0\0\0IEND\xaeB`\x82";

/// The beginning of a JPEG is enough for its ending.
pub fn jpeg(seed: u8) -> Vec<u8> {
    [b"\xFF\xD8\xFF\xE0\0\x10JFIF\0".as_slice(), &[seed; 40], b"\xFF\xD9"].concat()
}

/// The name that content gets.
pub fn name_of(bytes: &[u8], ending: &str) -> String {
    use sha2::{Digest, Sha256};
    format!("{}.{ending}", hex::encode(Sha256::digest(bytes)))
}

pub const TABLE: &str = "select id, coalesce(image_file, 'none') from raw.rockets order by id";

pub fn pipeline(more: &str) -> String {
    format!(
        "[[extract]]\nname = \"rockets\"\nfiles = \"rockets.jsonl\"\n\
         download = {{ url = \"$.image.url\", to = \"pictures\", column = \"image_file\", retry = {{ max_attempts = 3, min_backoff = \"1ms\" }}{more} }}\n"
    )
}

/// Rows that point to these addresses; an empty one is none.
fn rockets(project: &Project, urls: &[String]) {
    let row = |(id, url): (usize, &String)| match url.as_str() {
        "" => format!("{{\"id\":{id},\"image\":null}}\n"),
        url => format!("{{\"id\":{id},\"image\":{{\"url\":\"{url}\"}}}}\n"),
    };
    store(project, "rockets.jsonl", urls.iter().enumerate().map(row).collect::<String>().as_bytes());
}

fn stored(project: &Project) -> BTreeSet<String> {
    let entries = fs::read_dir(project.path().join("pictures")).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_picture_is_stored_once_under_a_name_by_its_content() {
    let shelf = Shelf::start();
    let project = project("", &pipeline(""));
    let jpg = jpeg(1);
    shelf.put("/falcon.bin", Thing::File(PNG.to_vec(), "application/octet-stream"));
    shelf.put("/copy.png", Thing::Plain(PNG.to_vec(), "image/png"));
    shelf.put("/moved", Thing::Redirect("/atlas".to_owned()));
    shelf.put("/atlas", Thing::File(jpg.clone(), "image/png"));
    let at = |path: &str| format!("{}{path}", shelf.url);
    rockets(
        &project,
        &[at("/falcon.bin"), at("/copy.png"), String::new(), at("/moved"), at("/gone.png"), at("/falcon.bin")],
    );
    let told = run(&project, "2024-05-04", 0);
    let (png, jpg) = (name_of(PNG, "png"), name_of(&jpg, "jpg"));
    let expected = [
        format!("0|{png}"),
        format!("1|{png}"),
        "2|none".to_owned(),
        format!("3|{jpg}"),
        "4|none".to_owned(),
        format!("5|{png}"),
    ];
    assert_eq!(rows(&project, TABLE), expected);
    assert_eq!(stored(&project), BTreeSet::from([png.clone(), jpg.clone()]));
    assert_eq!(fs::read(project.path().join("pictures").join(&png)).expect("a picture"), PNG);
    assert!(!told.contains("could not be fetched"), "a picture that is gone is none: {told}");
    assert_eq!(shelf.got(), ["/atlas", "/copy.png", "/falcon.bin", "/gone.png", "/moved"], "each address once");

    // In a later run: what tells a version is asked for by it, the rest not at all; what is missing is fetched again.
    run(&project, "2024-05-05", 0);
    let asked = shelf.asked();
    let by_path =
        |path: &str| asked.iter().filter(|asked| asked.path == path).map(|asked| asked.status).collect::<Vec<_>>();
    assert_eq!((by_path("/falcon.bin"), by_path("/copy.png"), by_path("/atlas")), (vec![304], vec![], vec![304]));
    fs::remove_file(project.path().join("pictures").join(&jpg)).expect("a picture");
    shelf.put("/falcon.bin", Thing::File(jpeg(2), "image/jpeg"));
    run(&project, "2024-05-06", 0);
    assert_eq!(stored(&project), BTreeSet::from([png.clone(), jpg.clone(), name_of(&jpeg(2), "jpg")]));
    assert_eq!(rows(&project, TABLE)[0], format!("0|{}", name_of(&jpeg(2), "jpg")));
    // Pictures that are gone at their server stay here.
    for path in ["/falcon.bin", "/copy.png", "/atlas"] {
        shelf.put(path, Thing::Status(410));
    }
    let before = rows(&project, TABLE);
    run(&project, "2024-05-07", 0);
    assert_eq!(rows(&project, TABLE), before);
}

#[test]
fn a_column_that_the_rows_have_already_is_refused() {
    let shelf = Shelf::start();
    let project = project("", &pipeline("").replace("column = \"image_file\"", "column = \"Image\""));
    shelf.put("/a.png", Thing::File(PNG.to_vec(), "image/png"));
    rockets(&project, &[format!("{}/a.png", shelf.url)]);
    let told = run(&project, "2024-05-04", 1);
    assert!(told.contains("have `image` already, and `download` adds a column `Image`"), "{told}");
    assert!(told.contains("another name: download.column"), "{told}");
}

#[test]
fn a_picture_that_cannot_be_had_is_null_told_and_tried_again() {
    let shelf = Shelf::start();
    let project = project("", &pipeline(", max_bytes = 100"));
    let jpg = jpeg(1);
    shelf.put("/cut.jpg", Thing::Cut(jpg.clone(), 20, 1));
    shelf.put("/busy.jpg", Thing::Status(503));
    shelf.put("/large.jpg", Thing::File(vec![1; 101], "image/jpeg"));
    shelf.put("/loop", Thing::Redirect("/loop".to_owned()));
    shelf.put("/away", Thing::Redirect("file:///etc/passwd".to_owned()));
    let paths = ["/cut.jpg", "/busy.jpg", "/large.jpg", "/loop", "/away"];
    let mut urls: Vec<String> = paths.iter().map(|path| format!("{}{path}?signature=hush-hush", shelf.url)).collect();
    urls.push("file:///etc/passwd".to_owned());
    rockets(&project, &urls);
    let told = run(&project, "2024-05-04", 0);
    assert!(told.contains("5 files could not be fetched"), "{told}");
    assert!(!told.contains("hush-hush"), "{told}");
    let name = name_of(&jpg, "jpg");
    let mut expected = vec![format!("0|{name}")];
    expected.extend((1..6).map(|id| format!("{id}|none")));
    assert_eq!(rows(&project, TABLE), expected);
    assert_eq!(shelf.got().iter().filter(|path| *path == "/busy.jpg").count(), 3, "as often as the step says");
    // The rows are as they were, and the pictures are tried again all the same.
    shelf.put("/busy.jpg", Thing::File(jpeg(2), "image/jpeg"));
    run(&project, "2024-05-05", 0);
    assert_eq!(rows(&project, TABLE)[1], format!("1|{}", name_of(&jpeg(2), "jpg")));

    project.write("pipelines/days.toml", &pipeline(", on_error = \"fail\", max_bytes = 100"));
    let told = run(&project, "2024-05-06", 1);
    assert!(told.contains("large.jpg") || told.contains("/loop") || told.contains("/away"), "{told}");
    assert_eq!(rows(&project, TABLE).len(), 6, "the old rows stay");
}

#[test]
fn the_apis_credentials_go_to_the_apis_host_alone() {
    const SECRET: &str = "open-sesame-44";
    let (api, other) = (Shelf::start(), Shelf::start());
    let list = format!(
        r#"[{{"id":0,"image":{{"url":"/own.png"}}}},{{"id":1,"image":{{"url":"{}/foreign.png"}}}},{{"id":2,"image":{{"url":"{}/there"}}}}]"#,
        other.url, api.url
    );
    api.put("/rockets", Thing::Plain(list.into_bytes(), "application/json"));
    api.put("/own.png", Thing::File(PNG.to_vec(), "image/png"));
    api.put("/there", Thing::Redirect(format!("{}/redirected.png", other.url)));
    other.put("/foreign.png", Thing::File(PNG.to_vec(), "image/png"));
    other.put("/redirected.png", Thing::File(PNG.to_vec(), "image/png"));
    let connection = format!(
        "[api]\ntype = \"http\"\nurl = \"{}\"\nheaders = {{ X-Key = \"{SECRET}\" }}\ntoken = \"{SECRET}\"\n",
        api.url
    );
    let step = "[[extract]]\nname = \"rockets\"\nconnection = \"api\"\nrequest = { path = \"/rockets\" }\n\
                download = { url = \"$.image.url\", to = \"pictures\", column = \"image_file\" }\n";
    let project = project(&connection, step);
    let told = run(&project, "2024-05-04", 0);
    let png = name_of(PNG, "png");
    assert_eq!(rows(&project, TABLE), [0, 1, 2].map(|id| format!("{id}|{png}")));
    let token = format!("Bearer {SECRET}");
    assert!(api.asked().iter().all(|asked| asked.authorization.as_deref() == Some(&token)), "{told}");
    let elsewhere = other.asked();
    assert!(elsewhere.len() == 2 && elsewhere.iter().all(|asked| asked.authorization.is_none()), "{elsewhere:?}");
    assert!(!told.contains(SECRET), "{told}");
}

#[test]
fn an_address_may_be_made_of_the_rows_members() {
    let shelf = Shelf::start();
    shelf.put("/by-id/1.png", Thing::Plain(PNG.to_vec(), "image/png"));
    let url = format!("{{% if row.id %}}{}/by-id/{{{{ row.id }}}}.png{{% endif %}}", shelf.url);
    let project = project("", &pipeline("").replace("$.image.url", &url));
    rockets(&project, &[String::new(), String::new(), String::new()]);
    run(&project, "2024-05-04", 0);
    assert_eq!(rows(&project, TABLE), ["0|none".to_owned(), format!("1|{}", name_of(PNG, "png")), "2|none".to_owned()]);
    assert_eq!(shelf.got(), ["/by-id/1.png", "/by-id/2.png"]);
}

#[test]
fn a_killed_pull_fetches_no_picture_twice() {
    let shelf = Shelf::start();
    let connection = format!("[api]\ntype = \"http\"\nurl = \"{}\"\nmax_concurrent = 1\n", shelf.url);
    let step = "[[extract]]\nname = \"rockets\"\nconnection = \"api\"\nrequest = { path = \"/0\" }\nrecords = \"$.rows[*]\"\n\
                paginate = { by = \"next_url\", at = \"$.next\" }\n\
                download = { url = \"$.image.url\", to = \"pictures\", column = \"image_file\", max_concurrent = 1 }\n";
    let project = project(&connection, step);
    for page in 0..3_usize {
        let row = |number: usize| format!("{{\"id\":{number},\"image\":{{\"url\":\"/p{number}.jpg\"}}}}");
        let next = if page < 2 { format!("\"/{}\"", page + 1) } else { "null".to_owned() };
        let body = format!("{{\"next\":{next},\"rows\":[{},{}]}}", row(page * 2), row(page * 2 + 1));
        shelf.put(&format!("/{page}"), Thing::Plain(body.into_bytes(), "application/json"));
        for number in [page * 2, page * 2 + 1] {
            let seed = u8::try_from(number).expect("a small number");
            shelf.put(&format!("/p{number}.jpg"), Thing::Plain(jpeg(seed), "image/jpeg"));
        }
    }
    let killed = project.output(&["run", "days", "--kill-at", "page:2"]);
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    let before = shelf.got();
    assert!(before.contains(&"/p3.jpg".to_owned()), "{before:?}");
    run(&project, "2024-05-04", 0);
    let after = shelf.got();
    let twice: Vec<&String> = after.iter().filter(|path| path.ends_with(".jpg") && before.contains(path)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(stored(&project).len(), 6);
    assert_eq!(rows(&project, "select count(*), count(image_file) from raw.rockets"), ["6|6"]);
}

#[test]
fn a_google_bucket_gets_its_pictures_as_its_xml_api_takes_them() {
    // The emulator takes uploads by the JSON API only; this server holds what an object is put by.
    let (bucket, shelf) = (Shelf::start(), Shelf::start());
    shelf.put("/a.png", Thing::Plain(PNG.to_vec(), "image/png"));
    let connection = format!(
        "[album]\ntype = \"files\"\nurl = \"gs://landing/album\"\nendpoint = \"{}\"\nanonymous = true\n",
        bucket.url
    );
    let project = project(&connection, &pipeline("").replace("\"pictures\"", "\"album\""));
    rockets(&project, &[format!("{}/a.png", shelf.url)]);
    run(&project, "2024-05-04", 0);
    let name = name_of(PNG, "png");
    assert_eq!(rows(&project, TABLE), [format!("0|{name}")]);
    let asked = bucket.asked();
    let put: Vec<&str> = asked.iter().filter(|asked| asked.method == "PUT").map(|asked| asked.path.as_str()).collect();
    let plain: Vec<String> = put.iter().map(|path| path.replace("%2F", "/").replace("%2E", ".")).collect();
    assert_eq!(plain, [format!("/landing/album/{name}")], "{asked:?}");
    // A bucket that refuses is our fault, and fails the pull instead of leaving the column empty.
    bucket.put(put[0], Thing::Status(403));
    let told = run(&project, "2024-05-05", 1);
    assert!(told.contains("storing downloaded files") && told.contains("403"), "{told}");
}
