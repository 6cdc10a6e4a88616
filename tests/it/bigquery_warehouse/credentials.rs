//! Every way to say who we are at Google, against a token endpoint on this machine.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::doors::{Asked, Door, Reply};
use crate::support::project::{Project, told};

/// A door that is a token endpoint, IAM and BigQuery at once; each thing that it was told about identity is kept.
struct Google {
    door: Door,
    said: Arc<Mutex<Vec<String>>>,
}

impl Google {
    fn start() -> Self {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&said);
        let door = Door::start(move |asked| answer(asked, &mut kept.lock().expect("no test panicked here")));
        Self { door, said }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().expect("no test panicked here").clone()
    }
}

fn answer(asked: &Asked, said: &mut Vec<String>) -> Reply {
    let form = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(asked.body.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let bearer = asked.header("authorization").trim_start_matches("Bearer ").to_owned();
    let token =
        |token: &str| Reply::json(&json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" }));
    match asked.path.as_str() {
        "/token" => match form("grant_type").as_str() {
            "refresh_token" if form("refresh_token") == "good-refresh" => {
                said.push("a person's token".to_owned());
                token("person-token")
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
                said.push("a service account's token".to_owned());
                token("account-token")
            }
            "urn:ietf:params:oauth:grant-type:token-exchange" => {
                said.push(format!(
                    "{} for {} with scope {}",
                    form("subject_token").trim(),
                    form("audience"),
                    form("scope")
                ));
                token("federated-token")
            }
            _ => Reply::new(400, json!({ "error": "invalid_grant" }).to_string()),
        },
        "/subject" => {
            assert_eq!(asked.header("x-source"), "machine");
            Reply::json(&json!({ "value": "subject-from-address" }))
        }
        path if path.ends_with(":generateAccessToken") => {
            let account = path.rsplit('/').next().unwrap_or_default().trim_end_matches(":generateAccessToken");
            let body: Value = serde_json::from_str(&asked.body).expect("JSON");
            if account.starts_with("nobody") {
                return Reply::new(403, json!({ "error": { "code": 403, "message": "Permission 'iam.serviceAccounts.getAccessToken' denied" } }).to_string());
            }
            said.push(format!(
                "{bearer} becomes {account} for {} by way of {}",
                body["scope"][0].as_str().unwrap_or("?"),
                body["delegates"]
            ));
            Reply::json(&json!({ "accessToken": format!("token-of-{account}"), "expireTime": "2099-01-01T00:00:00Z" }))
        }
        path if path.ends_with("/datasets") => {
            said.push(format!("datasets with {bearer}"));
            Reply::json(&json!({ "kind": "bigquery#datasetList" }))
        }
        path => Reply::new(404, format!("{path}?")),
    }
}

fn account_key(google: &Google) -> Value {
    json!({
        "type": "service_account", "project_id": "p", "private_key_id": "1", "client_id": "1",
        "private_key": include_str!("../bigquery/test-key.pem"), "client_email": "robot@p.iam.gserviceaccount.com",
        "token_uri": format!("{}/token", google.door.url),
    })
}

/// What `haul connections test` says with these credentials.
fn probe(google: &Google, credentials: &Value, more: &str) -> String {
    let project = Project::empty();
    project.write("key.json", &credentials.to_string());
    project.write("token.txt", "subject-from-file");
    project.write(
        "connections.toml",
        &format!("[bq]\ntype = \"bigquery\"\nproject = \"p\"\nendpoint = \"{}\"\nservice_account = {{ file = \"key.json\" }}\n{more}\n", google.door.url),
    );
    told(&project.output(&["connections", "test", "bq"]))
}

const BIGQUERY: &str = "https://www.googleapis.com/auth/bigquery";

#[test]
fn a_service_account_a_person_and_whom_they_impersonate() {
    let google = Google::start();
    let said = probe(&google, &account_key(&google), "");
    assert!(said.contains("as robot@p.iam.gserviceaccount.com"), "{said}");
    assert_eq!(google.said(), ["a service account's token", "datasets with account-token"]);

    let google = Google::start();
    let said = probe(&google, &account_key(&google), "impersonate = \"loader@p.iam.gserviceaccount.com\"");
    assert!(said.contains("as loader@p.iam.gserviceaccount.com"), "{said}");
    assert_eq!(
        google.said(),
        [
            "a service account's token".to_owned(),
            format!("account-token becomes loader@p.iam.gserviceaccount.com for {BIGQUERY} by way of []"),
            "datasets with token-of-loader@p.iam.gserviceaccount.com".to_owned(),
        ]
    );

    // gcloud's own impersonation, on the way to another account.
    let google = Google::start();
    let url = format!("{}/v1/projects/-/serviceAccounts/between@p:generateAccessToken", google.door.url);
    let impersonated = json!({ "type": "impersonated_service_account", "service_account_impersonation_url": url, "source_credentials": account_key(&google) });
    probe(&google, &impersonated, "impersonate = \"loader@p\"");
    assert_eq!(
        google.said()[1],
        format!("account-token becomes loader@p for {BIGQUERY} by way of [\"projects/-/serviceAccounts/between@p\"]")
    );
    let google = Google::start();
    let said = probe(&google, &account_key(&google), "impersonate = \"nobody@p\"");
    assert!(
        said.contains("IAM gives out no token for nobody@p") && said.contains("Service Account Token Creator"),
        "{said}"
    );
}

#[test]
fn workload_identity_takes_its_subject_from_a_file_or_an_address() {
    let google = Google::start();
    let project = Project::empty();
    project.write("subject", "subject-from-file");
    let file = project.path().join("subject");
    let federated = |source: Value| {
        json!({
            "type": "external_account", "audience": "//iam.googleapis.com/pool", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/token", google.door.url), "credential_source": source,
        })
    };
    let said = probe(&google, &federated(json!({ "file": file })), "");
    assert!(said.contains("by workload identity federation"), "{said}");
    let url = format!("{}/subject", google.door.url);
    let format = json!({ "type": "json", "subject_token_field_name": "value" });
    probe(&google, &federated(json!({ "url": url, "headers": { "X-Source": "machine" }, "format": format })), "");
    assert_eq!(
        google.said(),
        [
            format!("subject-from-file for //iam.googleapis.com/pool with scope {BIGQUERY}"),
            "datasets with federated-token".to_owned(),
            format!("subject-from-address for //iam.googleapis.com/pool with scope {BIGQUERY}"),
            "datasets with federated-token".to_owned(),
        ]
    );
    let said = probe(&google, &federated(json!({ "executable": { "command": "/bin/true" } })), "");
    assert!(said.contains("is neither a file nor an address"), "{said}");
    // The service account that the pool may become.
    let mut becomes = federated(json!({ "file": file }));
    becomes["service_account_impersonation_url"] =
        json!(format!("{}/v1/projects/-/serviceAccounts/pool@p:generateAccessToken", google.door.url));
    probe(&google, &becomes, "");
    assert!(
        google.said().contains(&format!("federated-token becomes pool@p for {BIGQUERY} by way of null")),
        "{:#?}",
        google.said()
    );
}

#[test]
fn a_wrong_key_of_the_connection_is_told_with_what_would_be_right() {
    for (keys, words) in [
        ("stage_bucket = \"lake\"", ["`stage_bucket` is no bucket", "gs://my-bucket/haul"]),
        ("stage_above = \"1 GB\"", ["`stage_above` means nothing without a `stage_bucket`", "stage_bucket = "]),
        ("stage_bucket = \"gs://lake\"\nstage_above = \"much\"", ["is no number of bytes", "500 MB"]),
        ("compress = \"yes\"", ["compress", "true"]),
        ("job_timeout = \"soon\"", ["job_timeout", "duration"]),
    ] {
        let project = Project::empty();
        project.write("connections.toml", &format!("[bq]\ntype = \"bigquery\"\nproject = \"p\"\n{keys}\n"));
        let said = told(&project.output(&["connections", "list"])) + &told(&project.output(&["check"]));
        for word in words {
            assert!(said.contains(word), "`{word}` is missing for {keys}:\n{said}");
        }
    }
}
