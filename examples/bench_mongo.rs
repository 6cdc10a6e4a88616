//! The other side of the MongoDB benchmark: a server that keeps its documents in memory, and a client that does nothing with them.
//!
//! `bench_mongo serve COUNT` answers `find` and `getMore` from memory on a free port, and prints its URI: what is measured
//! against it is the client. `bench_mongo drain URI DATABASE COLLECTION` reads all raw batches and prints the seconds.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot go on has failed, and prints")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, DateTime, RawArrayBuf, RawDocument, RawDocumentBuf, cstr, doc};

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", count] => serve(count.parse().expect("a count")),
        ["drain", uri, database, collection] => {
            rustls::crypto::ring::default_provider().install_default().expect("one provider");
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(drain(uri, database, collection));
        }
        other => panic!("serve COUNT, or drain URI DATABASE COLLECTION, not {other:?}"),
    }
}

async fn drain(uri: &str, database: &str, collection: &str) {
    let client = mongodb::Client::with_uri_str(uri).await.expect("a client");
    let begun = Instant::now();
    let users = client.database(database).collection::<RawDocumentBuf>(collection);
    let mut batches = users.find(doc! {}).sort(doc! { "_id": 1 }).batch_size(2000).batch().await.expect("a cursor");
    let mut documents = 0;
    while let Some(batch) = batches.next().await {
        documents += batch.expect("a batch").doc_slices().expect("documents").into_iter().count();
    }
    println!("{:.3} {documents}", begun.elapsed().as_secs_f64());
}

/// A user as an application keeps one.
fn document(number: u32) -> RawDocumentBuf {
    let mut id = [0; 12];
    id[..4].copy_from_slice(&(1_700_000_000 + number).to_be_bytes());
    id[8..].copy_from_slice(&number.to_be_bytes());
    let document = doc! {
        "_id": ObjectId::from_bytes(id),
        "name": format!("user {number}"),
        "email": format!("user{number}@example.com"),
        "age": i32::try_from(number % 90).expect("an age"),
        "balance": f64::from(number) * 1.25,
        "active": number.is_multiple_of(3),
        "visits": i64::from(number) * 1_000_003,
        "created_at": DateTime::from_millis(1_700_000_000_000 + i64::from(number) * 1000),
        "address": { "street": format!("{} Main Street", number % 1000), "city": "Seoul", "zip": format!("{:05}", number % 100_000) },
        "tags": ["alpha", "beta", "gamma"],
        "note": Bson::Null,
    };
    RawDocumentBuf::try_from(document).expect("BSON")
}

fn serve(count: u32) {
    let documents: Arc<Vec<RawDocumentBuf>> = Arc::new((0..count).map(document).collect());
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    println!("mongodb://127.0.0.1:{port}/?directConnection=true");
    for stream in listener.incoming().filter_map(Result::ok) {
        let documents = Arc::clone(&documents);
        std::thread::spawn(move || answer(stream, &documents));
    }
}

/// Answers the messages of one connection until it ends.
fn answer(mut stream: TcpStream, documents: &[RawDocumentBuf]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut cursors: HashMap<i64, usize> = HashMap::new();
    loop {
        let mut header = [0; 16];
        stream.read_exact(&mut header).ok()?;
        let number = |at: usize| i32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, request, code) = (number(0), number(4), number(12));
        let mut body = vec![0; usize::try_from(length).ok()? - 16];
        stream.read_exact(&mut body).ok()?;
        let command = match code {
            // Flags, one section of kind 0.
            OP_MSG => RawDocument::from_bytes(&body[5..5 + size(&body[5..])?]).ok()?,
            // Flags, the name of a collection, two numbers.
            OP_QUERY => {
                let from = 4 + body[4..].iter().position(|byte| *byte == 0)? + 1 + 8;
                RawDocument::from_bytes(&body[from..from + size(&body[from..])?]).ok()?
            }
            _ => return None,
        };
        let reply = reply(command, documents, &mut cursors);
        let front: Vec<u8> = match code {
            OP_MSG => vec![0; 5],
            // Flags, cursor, first document, count of documents.
            _ => [8_i32.to_le_bytes(), [0; 4], [0; 4], [0; 4], 1_i32.to_le_bytes()].concat(),
        };
        let code = if code == OP_MSG { OP_MSG } else { OP_REPLY };
        let length = i32::try_from(16 + front.len() + reply.as_bytes().len()).ok()?;
        let mut message = Vec::with_capacity(usize::try_from(length).ok()?);
        for number in [length, 0, request, code] {
            message.extend_from_slice(&number.to_le_bytes());
        }
        message.extend_from_slice(&front);
        message.extend_from_slice(reply.as_bytes());
        stream.write_all(&message).ok()?;
    }
}

fn size(bytes: &[u8]) -> Option<usize> {
    usize::try_from(i32::from_le_bytes(bytes.get(..4)?.try_into().ok()?)).ok()
}

fn reply(command: &RawDocument, documents: &[RawDocumentBuf], cursors: &mut HashMap<i64, usize>) -> RawDocumentBuf {
    let Some(Ok((name, value))) = command.iter().next() else { return ok(RawDocumentBuf::new()) };
    let wanted = command.get("batchSize").ok().flatten();
    let wanted = wanted.and_then(|size| size.as_i32().map(i64::from).or_else(|| size.as_i64()));
    let wanted = wanted.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
    match name.as_str() {
        "find" => batch("firstBatch", 0, wanted.unwrap_or(101), documents, cursors),
        "getMore" => {
            let from = value.as_i64().and_then(|id| cursors.remove(&id)).unwrap_or(documents.len());
            batch("nextBatch", from, wanted.unwrap_or(usize::MAX), documents, cursors)
        }
        "hello" | "ismaster" | "isMaster" => {
            let hello = doc! {
                "ismaster": true, "isWritablePrimary": true, "helloOk": true, "maxBsonObjectSize": 16_777_216,
                "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000, "localTime": DateTime::from_millis(0),
                "minWireVersion": 0, "maxWireVersion": 21, "readOnly": false, "ok": 1.0,
            };
            RawDocumentBuf::try_from(hello).expect("BSON")
        }
        _ => ok(RawDocumentBuf::new()),
    }
}

fn ok(mut document: RawDocumentBuf) -> RawDocumentBuf {
    document.append(cstr!("ok"), 1.0);
    document
}

/// A batch as a server makes it: of at most so many documents, and at most 16 MiB.
fn batch(
    name: &str,
    from: usize,
    most: usize,
    documents: &[RawDocumentBuf],
    cursors: &mut HashMap<i64, usize>,
) -> RawDocumentBuf {
    const LARGEST: usize = 16 << 20;
    let (mut array, mut bytes, mut to) = (RawArrayBuf::new(), 0, from);
    while to < documents.len() && to - from < most && bytes < LARGEST {
        bytes += documents[to].as_bytes().len();
        array.push(documents[to].clone());
        to += 1;
    }
    let id = if to < documents.len() { i64::try_from(to).expect("a place") } else { 0 };
    if id != 0 {
        cursors.insert(id, to);
    }
    let mut cursor = RawDocumentBuf::new();
    cursor.append(if name == "firstBatch" { cstr!("firstBatch") } else { cstr!("nextBatch") }, array);
    cursor.append(cstr!("id"), id);
    cursor.append(cstr!("ns"), "bench.users");
    let mut reply = RawDocumentBuf::new();
    reply.append(cstr!("cursor"), cursor);
    ok(reply)
}
