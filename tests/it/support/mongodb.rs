//! A MongoDB server that the tests of this binary share: it asks for a password, and each test has a database of its own.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::{Client, Collection};
use tokio::runtime::Runtime;

use super::counterparts::program;
use super::doors::nobody;

/// The user of every test.
pub const USER: &str = "tester";
/// The password, with a character that a URI has to escape.
pub const PASSWORD: &str = "shut-sesame/43";
const ESCAPED: &str = "shut-sesame%2F43";

struct Server {
    port: u16,
    runtime: Runtime,
    client: Client,
}

/// A database of a test's own.
pub struct Database {
    pub name: String,
}

/// Starts the server; it lives no longer than whoever holds its stdin: this process, however that ends.
fn start(folder: &std::path::Path, port: u16, auth: &[&str]) -> Child {
    let log = fs::File::create(folder.join("log")).expect("a log");
    Command::new("sh")
        .args(["-c", "\"$@\" </dev/null & server=$!; cat >/dev/null; kill $server; wait $server", "sh"])
        .arg(program("mongodb", "secantusd-py"))
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--log-level", "WARNING", "--sync-on-commit"])
        .arg("--storage-path")
        .arg(folder.join("data"))
        .args(auth)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("a shell")
}

async fn client(port: u16, user: &str) -> Client {
    let uri = format!(
        "mongodb://{user}127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=30000&maxIdleTimeMS=1000"
    );
    let client = Client::with_uri_str(uri).await.expect("a client");
    client.database("admin").run_command(doc! { "ping": 1 }).await.expect("the server answers");
    client
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let port = nobody();
        let mut open = start(&folder, port, &[]);
        let user = doc! { "createUser": USER, "pwd": PASSWORD, "roles": [{ "role": "root", "db": "admin" }] };
        runtime.block_on(async {
            client(port, "").await.database("admin").run_command(user).await.expect("a user");
        });
        drop(open.stdin.take());
        open.wait().expect("the open server ends");
        let port = nobody();
        // Its stdin stays open for as long as this process lives.
        std::mem::forget(start(&folder, port, &["--auth"]));
        let client = runtime.block_on(client(port, &format!("{USER}:{ESCAPED}@")));
        Server { port, runtime, client }
    })
}

impl Database {
    /// An empty database.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        server();
        Self { name: format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed)) }
    }

    /// The port of the server.
    pub fn port() -> u16 {
        server().port
    }

    /// The URI of a user with this password at a port, which fails soon where nobody listens.
    pub fn uri(password: &str, port: u16) -> String {
        let options = "directConnection=true&authSource=admin&serverSelectionTimeoutMS=3000";
        format!("mongodb://{USER}:{password}@127.0.0.1:{port}/?{options}")
    }

    /// A connection of this name for `connections.toml`.
    pub fn connection(&self, name: &str) -> String {
        self.connection_at(name, Self::port())
    }

    /// The same by way of another port.
    pub fn connection_at(&self, name: &str, port: u16) -> String {
        format!("[{name}]\ntype = \"mongodb\"\nuri = \"{}\"\ndatabase = \"{}\"\n", Self::uri(ESCAPED, port), self.name)
    }

    pub fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        server().client.database(&self.name).collection(name)
    }

    /// Adds documents to a collection.
    pub fn insert(&self, collection: &str, documents: Vec<Document>) {
        if !documents.is_empty() {
            block(async { self.collection::<Document>(collection).insert_many(documents).await }).expect("an insert");
        }
    }

    /// Adds documents as they are on the wire.
    pub fn insert_raw(&self, collection: &str, documents: Vec<RawDocumentBuf>) {
        block(async { self.collection::<RawDocumentBuf>(collection).insert_many(documents).await }).expect("an insert");
    }

    /// Removes what meets a condition.
    pub fn delete(&self, collection: &str, condition: Document) {
        block(async { self.collection::<Document>(collection).delete_many(condition).await }).expect("a delete");
    }

    /// Changes what meets a condition.
    pub fn update(&self, collection: &str, condition: Document, change: Document) {
        block(async { self.collection::<Document>(collection).update_many(condition, change).await })
            .expect("an update");
    }

    /// The documents of a collection as they are on the wire.
    pub fn raw(&self, collection: &str) -> Vec<RawDocumentBuf> {
        use futures::TryStreamExt;
        block(async { self.collection::<RawDocumentBuf>(collection).find(doc! {}).await?.try_collect().await })
            .expect("documents")
    }

    /// The documents of a collection in the order of `_id`.
    pub fn all(&self, collection: &str) -> Vec<Document> {
        use futures::TryStreamExt;
        block(async {
            let cursor = self.collection::<Document>(collection).find(doc! {}).sort(doc! { "_id": 1 }).await?;
            cursor.try_collect().await
        })
        .expect("documents")
    }
}

/// Waits for the driver.
pub fn block<T>(future: impl Future<Output = T>) -> T {
    server().runtime.block_on(async { tokio::time::timeout(Duration::from_mins(2), future).await.expect("an answer") })
}
