//! Kinto (the next page's address in a header, user and password), Datasette (the next page's address in the body, a bearer
//! token) and Synapse (a cursor in the body, a token by a login).

use std::process::Command;

use serde_json::{Value, json};

use super::{Server, basic, morning, project, refused};
use crate::support::counterparts::program;

fn sorted(rows: &Value, by: &str) -> Vec<Value> {
    let mut rows = rows.as_array().expect("rows").clone();
    rows.sort_by_key(|row| row[by].to_string());
    rows
}

const KINTO: &str = r"
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.includes = kinto.plugins.accounts
multiauth.policies = account
multiauth.policy.account.use = kinto.plugins.accounts.authentication.AccountsAuthenticationPolicy
kinto.account_create_principals = system.Everyone
kinto.bucket_create_principals = system.Authenticated

[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = PORT

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(message)s
";

#[test]
fn kinto_pages_by_an_address_in_a_header_and_asks_for_a_password() {
    let server = Server::start("/v1/", |folder, port| {
        std::fs::write(folder.join("kinto.ini"), KINTO.replace("PORT", &port.to_string())).expect("a file");
        let mut command = Command::new(program("apis-kinto", "kinto"));
        command.args(["start", "--ini", "kinto.ini"]);
        command
    });
    let ann = basic("ann", "pw-of-ann-1");
    server.call("PUT", "/v1/accounts/ann", "", Some(&json!({ "data": { "password": "pw-of-ann-1" } })));
    server.call("PUT", "/v1/buckets/shop", &ann, Some(&json!({})));
    server.call("PUT", "/v1/buckets/shop/collections/orders", &ann, Some(&json!({})));
    let records = "/v1/buckets/shop/collections/orders/records";
    let put = |id: u32, amount: u32| {
        let data = json!({ "data": { "amount": amount, "lines": [{ "sku": format!("s{id}"), "n": id % 3 }] } });
        server.call("PUT", &format!("{records}/order-{id}"), &ann, Some(&data));
    };
    (0..57).for_each(|id| put(id, id * 100));
    let pipeline = r#"
[[extract]]
name = "orders"
connection = "api"
request = { path = "/buckets/shop/collections/orders/records", params = { _limit = 10, _sort = "id" } }
paginate = { by = "next_url", at = { header = "Next-Page" } }
records = "$.data[*]"
keys = ["id"]
"#;
    let project =
        project(&server, "/v1", "auth = { type = \"basic\", user = \"ann\", password = \"pw-of-ann-1\" }", pipeline);
    let compare = |expected: usize| {
        let there = server.call("GET", records, &ann, None);
        let here = project.query("select id, last_modified, amount, lines from raw.orders");
        assert_eq!(here.as_array().map(Vec::len), Some(expected));
        assert_eq!(sorted(&here, "id"), sorted(&there["data"], "id"));
    };
    let first = morning(&project, "2024-05-02");
    assert!(first.contains("57 rows (6 pages"), "{first}");
    compare(57);
    put(3, 1);
    put(44, 2);
    put(90, 3);
    server.call("DELETE", &format!("{records}/order-20"), &ann, None);
    server.call("DELETE", &format!("{records}/order-21"), &ann, None);
    let second = morning(&project, "2024-05-03");
    assert!(second.contains("+1 -2 ~2"), "{second}");
    compare(56);
    refused(
        &server,
        &project,
        "/v1",
        "auth = { type = \"basic\", user = \"ann\", password = \"pw-of-bob-2\" }",
        "pw-of-bob-2",
    );
    compare(56);
}

const DATASETTE: &str = "allow:\n  id: root\npermissions:\n  insert-row:\n    id: root\n  update-row:\n    id: root\n  delete-row:\n    id: root\n  create-table:\n    id: root\n";

#[test]
fn datasette_pages_by_an_address_in_the_body_and_asks_for_a_token() {
    let datasette = program("apis-datasette", "datasette");
    let secret = "the-secret-of-a-test";
    let server = Server::start("/-/versions.json", |folder, port| {
        std::fs::write(folder.join("datasette.yaml"), DATASETTE).expect("a file");
        let mut command = Command::new(&datasette);
        command.args(["shop.db", "--create", "-p", &port.to_string(), "-c", "datasette.yaml", "--secret", secret]);
        command
    });
    let output = Command::new(&datasette).args(["create-token", "root", "--secret", secret]).output().expect("a token");
    let token = String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned();
    let root = format!("Bearer {token}");
    let row = |id: u32, amount: f64| json!({ "id": id, "customer": format!("c{}", id % 5), "amount": amount });
    let rows: Vec<Value> = (1..=120).map(|id| row(id, f64::from(id) * 1.25)).collect();
    let table = json!({ "table": "orders", "rows": rows[..60], "pk": "id" });
    server.call("POST", "/shop/-/create", &root, Some(&table));
    server.call("POST", "/shop/orders/-/insert", &root, Some(&json!({ "rows": rows[60..] })));
    let pipeline = r#"
[[extract]]
name = "orders"
connection = "api"
request = { path = "/shop/orders.json", params = { _size = 25, _extra = "next_url" } }
paginate = { by = "next_url", at = "$.next_url" }
records = "$.rows[*]"
keys = ["id"]
"#;
    let project = project(&server, "", &format!("auth = {{ type = \"bearer\", token = \"{token}\" }}"), pipeline);
    // Its database is a file: what another program reads there is the truth.
    let compare = |expected: usize| {
        let script = "import json, sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.row_factory = sqlite3.Row\nprint(json.dumps([dict(r) for r in c.execute('select * from orders order by id')]))";
        let file = server.folder.path().join("shop.db");
        let python =
            Command::new(program("apis-datasette", "python")).args(["-c", script]).arg(file).output().expect("python");
        let there: Value = serde_json::from_slice(&python.stdout).expect("JSON");
        let here = project.query("select id, customer, cast(amount as double) as amount from raw.orders order by id");
        assert_eq!(here.as_array().map(Vec::len), Some(expected));
        assert_eq!(here, there);
    };
    let first = morning(&project, "2024-05-02");
    assert!(first.contains("120 rows (5 pages"), "{first}");
    compare(120);
    server.call("POST", "/shop/orders/7/-/update", &root, Some(&json!({ "update": { "amount": 0.5 } })));
    server.call("POST", "/shop/orders/8/-/delete", &root, Some(&json!({})));
    server.call("POST", "/shop/orders/-/insert", &root, Some(&json!({ "rows": [row(500, 2.5), row(501, 3.75)] })));
    let second = morning(&project, "2024-05-03");
    assert!(second.contains("+2 -1 ~1"), "{second}");
    compare(121);
    refused(&server, &project, "", "auth = { type = \"bearer\", token = \"dstok_of-nobody\" }", "dstok_of-nobody");
    compare(121);
}

const SYNAPSE: &str = r#"
server_name: "test.local"
listeners:
  - { bind_addresses: [127.0.0.1], port: PORT, type: http, tls: false, resources: [{ names: [client], compress: false }] }
database: { name: sqlite3, args: { database: FOLDER/homeserver.db } }
media_store_path: FOLDER/media
pid_file: FOLDER/pid
registration_shared_secret: "shared-by-the-test"
report_stats: false
macaroon_secret_key: "m"
form_secret: "f"
signing_key_path: FOLDER/signing.key
trusted_key_servers: []
suppress_key_server_warning: true
bcrypt_rounds: 4
"#;

#[test]
fn synapse_pages_by_a_cursor_in_the_body_and_asks_for_the_token_of_a_login() {
    let python = program("apis-synapse", "python");
    let server = Server::start("/health", |folder, port| {
        let config = SYNAPSE.replace("PORT", &port.to_string()).replace("FOLDER", &folder.display().to_string());
        std::fs::write(folder.join("synapse.yaml"), config).expect("a file");
        let key = "import sys\nfrom signedjson.key import generate_signing_key, write_signing_keys\nwrite_signing_keys(open(sys.argv[1], 'w'), [generate_signing_key('a_test')])";
        let made = Command::new(&python).args(["-c", key]).arg(folder.join("signing.key")).status().expect("python");
        assert!(made.success());
        let mut command = Command::new(&python);
        command.args(["-m", "synapse.app.homeserver", "-c", "synapse.yaml"]);
        command
    });
    let registered = Command::new(program("apis-synapse", "register_new_matrix_user"))
        .args(["-u", "admin", "-p", "pw-of-the-admin", "-a", "-k", "shared-by-the-test", &server.url])
        .output()
        .expect("a registration");
    assert!(registered.status.success(), "{registered:?}");
    let login = json!({ "type": "m.login.password", "user": "admin", "password": "pw-of-the-admin" });
    let login = server.call("POST", "/_matrix/client/v3/login", "", Some(&login));
    let token = login["access_token"].as_str().expect("a token");
    let admin = format!("Bearer {token}");
    let put = |name: &str, shown: &str| {
        let user = json!({ "displayname": shown });
        server.call("PUT", &format!("/_synapse/admin/v2/users/@{name}:test.local"), &admin, Some(&user));
    };
    (0..23).for_each(|n| put(&format!("user{n:02}"), &format!("User {n}")));
    let pipeline = r#"
[[extract]]
name = "users"
connection = "api"
request = { path = "/_synapse/admin/v2/users", params = { limit = 5, order_by = "name" } }
paginate = { by = "cursor", param = "from", at = "$.next_token", total = "$.total" }
records = "$.users[*]"
keys = ["name"]
"#;
    let project = project(&server, "", &format!("auth = {{ type = \"bearer\", token = \"{token}\" }}"), pipeline);
    let compare = |expected: usize| {
        let script = "import json, sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.row_factory = sqlite3.Row\nprint(json.dumps([dict(r) for r in c.execute('select u.name, p.displayname from users u join profiles p on p.full_user_id = u.name where not u.deactivated order by u.name')]))";
        let file = server.folder.path().join("homeserver.db");
        let read = Command::new(&python).args(["-c", script]).arg(file).output().expect("python");
        let there: Value = serde_json::from_slice(&read.stdout).unwrap_or_else(|_| panic!("{read:?}"));
        let here = project.query("select name, displayname from raw.users where not deactivated order by name");
        assert_eq!(here.as_array().map(Vec::len), Some(expected));
        assert_eq!(here, there);
    };
    let first = morning(&project, "2024-05-02");
    assert!(first.contains("24 rows (5 pages"), "{first}");
    compare(24);
    put("user07", "Another name");
    put("user99", "New here");
    server.call("POST", "/_synapse/admin/v1/deactivate/@user03:test.local", &admin, Some(&json!({ "erase": true })));
    morning(&project, "2024-05-03");
    compare(24);
    refused(
        &server,
        &project,
        "",
        "auth = { type = \"bearer\", token = \"syt_of-nobody_at_all\" }",
        "syt_of-nobody_at_all",
    );
    compare(24);
}
