//! The encrypted store: what is set and shown, its keys, what a changed file does, and many who write at once.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::guarded;
use crate::support::doors::Ran;
use crate::support::project::Project;
use crate::support::steward::Serving;

const SECRET: &str = "correct+horse/battery staple";
/// 32 bytes.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn sealed(project: &Project) -> String {
    fs::read_to_string(project.path().join(".haul/connections.enc")).expect("the store")
}

fn set(project: &Project, name: &str) {
    let uri = format!("https://ann:{}@{name}.test", SECRET.replace('/', "%2F").replace(' ', "%20"));
    Ran::of(&mut project.haul(&["connections", "set", name, &uri])).well();
}

fn mode(project: &Project, name: &str) -> u32 {
    fs::metadata(project.path().join(name)).expect("a file").permissions().mode() & 0o777
}

#[test]
fn a_connection_is_set_in_every_form_and_works() {
    let door = guarded("ann", SECRET);
    let host = door.url.trim_start_matches("http://");
    let uri = format!("http://ann:correct%2Bhorse%2Fbattery%20staple@{host}");
    let json = json!({ "type": "http", "url": door.url, "user": "ann", "password": SECRET }).to_string();
    let url = format!("url={}", door.url);
    let forms: [(&[&str], &str); 6] = [
        (&[&uri], ""),
        (&[&json], ""),
        (&["-"], &uri),
        (&[], &json),
        (&["type=http", &url, "user=ann", "password=-"], SECRET),
        (&["type=http", &url, "user=ann", "password=env:THE_SECRET"], ""),
    ];
    for (value, stdin) in forms {
        let project = Project::empty();
        let arguments = [&["connections", "set", "api"], value].concat();
        let ran = Ran::with_stdin(&mut project.haul(&arguments), &format!("{stdin}\n")).well();
        assert!(ran.told().contains("haul connections test api") && !ran.told().contains(SECRET), "{}", ran.told());
        let ran = Ran::of(project.haul(&["connections", "test", "api"]).env("THE_SECRET", SECRET));
        assert_eq!(ran.code, Some(0), "{value:?}: {}", ran.told());
        let text = sealed(&project);
        assert!(!text.contains("correct") && !text.contains(host), "{text}");
    }
}

#[test]
fn what_is_shown_has_its_secrets_masked() {
    let project = Project::empty();
    let text = json!({
        "type": "http", "url": "https://api.test", "auth": { "type": "refresh_token", "client_id": "haul",
        "client_secret": "the client's own secret", "refresh_token": { "env": "R" }, "token_url": "https://api.test/t" },
        "headers": { "Accept": "text/csv", "X-Session": "the session's secret" },
    });
    let ran = Ran::of(&mut project.haul(&["connections", "set", "api", &text.to_string(), "--output", "json"])).well();
    assert_eq!(ran.json(), json!({ "name": "api", "stored": true, "winners": [] }));
    let shown = project.json(&["connections", "show", "api"]);
    let fields = json!({
        "auth": "oauth2", "client_id": "haul", "client_secret": "•••", "grant": "refresh_token",
        "headers": "Accept = text/csv, X-Session = •••", "refresh_token": "{ env = \"R\" }",
        "token_url": "https://api.test/t", "url": "https://api.test",
    });
    assert_eq!(shown, json!({ "name": "api", "kind": "http", "origin": "the encrypted store", "fields": fields }));
    let told = project.stdout(&["connections", "show", "api"]);
    assert!(told.contains("client_secret = •••") && !told.contains("own secret"), "{told}");
    let removed = project.json(&["connections", "remove", "api"]);
    assert_eq!(removed, json!({ "name": "api", "removed": true, "still_in": [] }));
    Ran::of(&mut project.haul(&["connections", "remove", "api"])).refused(2, &["there is no `api`"]);
}

/// airflow#61670: the test of a stored connection needed its secret anew, and the masked one took its place.
#[test]
fn a_stored_connection_is_tested_by_the_daemon_without_its_secret_and_a_mask_never_takes_its_place() {
    let door = guarded("ann", SECRET);
    let project = Project::empty();
    project.write("haul.toml", "[serve]\nlisten = \"127.0.0.1:0\"\n");
    let url = format!("url={}", door.url);
    let set = |password: &str| {
        let fields = ["connections", "set", "api", "type=http", &url, "user=ann", &format!("password={password}")];
        Ran::of(&mut project.haul(&fields))
    };
    set(SECRET).well();
    let serving = Serving::start(&project);
    let tested = || serving.post("/api/v1/connections/api/test", &json!({}));
    assert_eq!(tested()["works"], true, "{}", tested());
    // Somebody saves what is shown.
    let shown = project.json(&["connections", "show", "api"])["fields"]["password"].clone();
    let before = sealed(&project);
    set(shown.as_str().expect("a text")).refused(2, &["a secret of it is masked", "what was kept before stays"]);
    let host = door.url.trim_start_matches("http://");
    let masked = format!("http://ann:%E2%80%A2%E2%80%A2%E2%80%A2@{host}");
    Ran::of(&mut project.haul(&["connections", "set", "api", &masked])).refused(2, &["is masked"]);
    assert_eq!(sealed(&project), before);
    assert_eq!(tested()["works"], true);
    // airflow#53753: no answer and no log has it.
    let answers = [tested(), serving.get("/api/v1/connections")].map(|answer| answer.to_string()).concat();
    let told = format!("{answers}{}", serving.said());
    assert!(!told.contains(SECRET) && !told.contains("correct%2Bhorse"), "{told}");
}

#[test]
fn what_cannot_be_a_connection_is_refused_without_its_text() {
    let project = Project::empty();
    for (value, words) in [
        (&["htps://ann:s3cr3t-word@a.test"][..], &["`htps://` is no scheme", "did you mean `https`?"][..]),
        (&["type=http", "url=http://a.test", "pasword=s3cr3t-word"], &["unknown field `pasword`", "`password`?"]),
        (&["type=http", "url=http://a.test", "s3cr3t-word"], &["not `key=value`", "type=http url="]),
        (&["url=http://ann:s3cr3t-word@a.test"], &["`type` is missing"]),
        (&["type=http", "url=http://a.test", "token=s3cr3t-word", "user=a"], &["several ways to authenticate"]),
        (&["{\"type\": \"http\", \"token\": \"s3cr3t-word\""], &["the JSON is wrong"]),
        (&["type=postgres", "user=u", "password=s3cr3t-word", "port=0", "database=d"], &["`port` has to be"]),
    ] {
        let ran = Ran::of(&mut project.haul(&[&["connections", "set", "api"], value].concat()));
        assert!(!ran.told().contains("s3cr3t-word"), "{}", ran.told());
        ran.refused(2, words);
    }
    let ran = Ran::of(&mut project.haul(&["connections", "set", "a/b", "http://a.test"]));
    ran.refused(2, &["`a/b` is no name for a connection"]);
    let ran = Ran::with_stdin(&mut project.haul(&["connections", "set", "api", "-"]), "");
    ran.refused(2, &["from stdin", "it is empty"]);
    assert!(!project.path().join(".haul/connections.enc").exists());
}

#[test]
fn the_first_set_makes_a_key_that_only_its_owner_can_read() {
    let project = Project::empty();
    set(&project, "api");
    assert_eq!((mode(&project, ".haul"), mode(&project, ".haul/key")), (0o700, 0o600));
    assert_eq!(mode(&project, ".haul/connections.enc"), 0o600);
    let key = project.path().join(".haul/key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("a mode");
    let ran = Ran::of(&mut project.haul(&["connections", "show", "api"]));
    ran.refused(2, &["its mode is 640", "chmod 600"]);
    // What is in the store is known without its key; what is behind the names is not.
    let listed = project.json(&["connections", "list"]);
    assert!(listed[0]["fault"].as_str().is_some_and(|fault| fault.contains("mode is 640")), "{listed}");
    fs::remove_file(&key).expect("a key");
    Ran::of(&mut project.haul(&["connections", "show", "api"]))
        .refused(2, &["its key is not there", "bring the key back"]);
    Ran::of(&mut project.haul(&["connections", "set", "more", "http://a.test"])).refused(2, &["its key is not there"]);
    assert!(!key.exists(), "no second key was made for a store that has one");
}

#[test]
fn keys_come_from_a_variable_or_a_file_and_a_wrong_one_is_told_apart() {
    let project = Project::empty();
    let file = |name: &str, text: &str, mode: u32| {
        project.write(name, text);
        let path = project.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        path.to_string_lossy().into_owned()
    };
    let right = file("right.key", &format!("{KEY}\n"), 0o600);
    let open = file("open.key", KEY, 0o644);
    let wrong = file("wrong.key", OTHER_KEY, 0o600);
    let broken = file("broken.key", "not a key", 0o600);
    let missing = project.path().join("missing.key").to_string_lossy().into_owned();
    let ran = Ran::of(project.haul(&["connections", "set", "api", "http://a.test"]).env("HAUL_KEY", KEY)).well();
    assert!(!ran.told().contains(KEY) && !project.path().join(".haul/key").exists());
    let show = |name: &str, text: &str| Ran::of(project.haul(&["connections", "show", "api"]).env(name, text));
    show("HAUL_KEY", KEY).well();
    show("HAUL_KEY", &KEY.replace('=', "")).well();
    show("HAUL_KEY_FILE", &right).well();
    for (name, text, words) in [
        ("HAUL_KEY", OTHER_KEY, &["it was sealed with the key", "HAUL_KEY gives the key"][..]),
        ("HAUL_KEY", "short", &["HAUL_KEY", "not 32 bytes in base64", "openssl rand"]),
        ("HAUL_KEY_FILE", &wrong, &["it was sealed with the key", "wrong.key"]),
        ("HAUL_KEY_FILE", &open, &["its mode is 644", "chmod 600"]),
        ("HAUL_KEY_FILE", &broken, &["broken.key", "not 32 bytes"]),
        ("HAUL_KEY_FILE", &missing, &["missing.key", "No such file"]),
        ("HAUL_PASSPHRASE", "a long passphrase", &["it was sealed with the key", "HAUL_PASSPHRASE gives"]),
        ("NOTHING", "", &["its key is not there"]),
    ] {
        let ran = show(name, text).refused(2, words);
        assert!(!ran.told().contains(OTHER_KEY) && !ran.told().contains("a long passphrase"), "{}", ran.told());
    }
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_no_other_does() {
    let project = Project::empty();
    let with = |phrase: &str, arguments: &[&str]| Ran::of(project.haul(arguments).env("HAUL_PASSPHRASE", phrase));
    with("tr0ub4dor & three", &["connections", "set", "api", "http://a.test"]).well();
    with("tr0ub4dor & three", &["connections", "show", "api"]).well();
    let ran = with("tr0ub4dor & four", &["connections", "show", "api"]);
    ran.refused(2, &["it was sealed with a passphrase", "HAUL_PASSPHRASE gives the key"]);
    // Whoever can change the file must not be able to make haul take all memory.
    let path = project.path().join(".haul/connections.enc");
    let mut store: Value = serde_json::from_str(&sealed(&project)).expect("JSON");
    store["passphrase"]["memory_kib"] = json!(u32::MAX);
    fs::write(path, store.to_string()).expect("a store");
    with("tr0ub4dor & three", &["connections", "show", "api"]).refused(2, &["an absurd amount of work"]);
}

#[test]
fn a_changed_store_is_refused_wherever_it_was_changed() {
    let project = Project::empty();
    set(&project, "one");
    set(&project, "two");
    let path = project.path().join(".haul/connections.enc");
    let before: Value = serde_json::from_str(&sealed(&project)).expect("JSON");
    let fields: Vec<String> = before["connections"]["one"].as_object().expect("fields").keys().cloned().collect();
    assert_eq!(fields, ["@fields", "password", "type", "url", "user"]);
    let refused = |what: &str, change: &dyn Fn(&mut Value)| {
        let mut store = before.clone();
        change(&mut store);
        assert_ne!(store, before, "{what} changes something");
        fs::write(&path, store.to_string()).expect("a store");
        let ran = Ran::of(&mut project.haul(&["connections", "show", "one"]));
        assert_eq!(ran.code, Some(2), "{what}: {}", ran.told());
        assert!(ran.told().contains("changed after it was sealed"), "{what}: {}", ran.told());
        assert!(ran.told().contains("haul connections set one") && !ran.told().contains(SECRET), "{}", ran.told());
        Ran::of(&mut project.haul(&["connections", "test", "one"])).refused(2, &["changed after it was sealed"]);
    };
    for field in &fields {
        let envelope = before["connections"]["one"][field].as_str().expect("an envelope").to_owned();
        for at in [0, 4, envelope.len() / 2, envelope.len() - 3] {
            refused(&format!("byte {at} of {field}"), &|store| {
                let mut bytes = envelope.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                store["connections"]["one"][field] = json!(String::from_utf8(bytes).expect("ASCII"));
            });
        }
        refused(&format!("{field} of the other connection"), &|store| {
            store["connections"]["one"][field] = store["connections"]["two"][field].clone();
        });
        refused(&format!("{field} deleted"), &|store| {
            drop(store["connections"]["one"].as_object_mut().expect("fields").remove(field));
        });
    }
    refused("two fields swapped", &|store| {
        let one = store["connections"]["one"].as_object_mut().expect("fields");
        let (url, user) = (one["url"].clone(), one["user"].clone());
        (one["url"], one["user"]) = (user, url);
    });
    refused("a field added", &|store| {
        store["connections"]["one"]["token"] = store["connections"]["one"]["password"].clone();
    });
    refused("the whole connection of another name", &|store| {
        store["connections"]["one"] = store["connections"]["two"].clone();
    });
    fs::write(&path, before.to_string()).expect("a store");
    Ran::of(&mut project.haul(&["connections", "show", "one"])).well();
}

#[test]
fn a_store_that_is_no_store_is_never_taken_for_an_empty_one() {
    let project = Project::empty();
    set(&project, "one");
    let path = project.path().join(".haul/connections.enc");
    let whole = sealed(&project);
    for (text, words) in [
        (whole[..whole.len() / 2].to_owned(), &["encrypted store", "damaged"][..]),
        (String::new(), &["encrypted store", "damaged"]),
        (whole.replace("\"version\": 1", "\"version\": 7"), &["it has format 7"]),
    ] {
        fs::write(&path, &text).expect("a store");
        for arguments in [&["list"][..], &["show", "one"], &["test"], &["set", "two", "http://a.test"]] {
            Ran::of(&mut project.haul(&[&["connections"], arguments].concat())).refused(2, words);
        }
        assert_eq!(fs::read_to_string(&path).expect("a store"), text, "nothing was written over it");
    }
}

#[test]
fn many_who_set_at_once_lose_nothing() {
    let project = Project::empty();
    let names: Vec<String> = (0..12).map(|number| format!("api_{number}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command =
                project.haul(&["connections", "set", name, &format!("http://u:secret-{name}@{name}.test")]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("haul starts")
        })
        .collect();
    for child in children {
        Ran::from(child.wait_with_output().expect("haul ends")).well();
    }
    let listed = project.json(&["connections", "list"]);
    let lines = listed.as_array().expect("a list");
    assert_eq!(lines.len(), names.len(), "{listed}");
    for line in lines {
        assert_eq!((&line["fault"], &line["kind"]), (&Value::Null, &json!("http")), "{line}");
    }
    let left = fs::read_dir(project.path().join(".haul")).expect("a folder").count();
    assert_eq!(left, 3, "the store, its key and its lock, and no temporary file");
}
