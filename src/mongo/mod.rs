//! MongoDB behind the words of this project: one client a connection, its errors, BSON to JSON and back.
//!
//! A future of the driver that is dropped half-way may leave a connection in disorder: what talks to a server runs as a
//! task of its own, to its end, and whoever waits for it may stop waiting.

pub mod json;
pub mod landed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mongodb::bson::{Bson, Document, RawBson, RawBsonRef, RawDocumentBuf, cstr};
use mongodb::error::{Error as DriverError, ErrorKind};
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection, Database};
use serde_json::Value;

use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::MongoDbConnection;
use crate::secret::{ExposeSecret, Redactor};

/// How long a server may take to be found.
const PATIENCE: Duration = Duration::from_secs(10);

/// The codes of servers that are about to stop, to step down or to catch up, and of cursors that they have forgotten.
///
/// Of <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>.
const PASSING: [i32; 15] = [6, 7, 43, 63, 89, 91, 133, 150, 189, 262, 9001, 10_107, 11_600, 11_602, 13_435];

/// The codes of those that may not do what they ask for.
const REFUSED: [i32; 3] = [13, 18, 8000];

/// A database of a deployment; clones are the same one.
#[derive(Clone)]
pub struct Mongo {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    hosts: String,
    database: Database,
    redactor: Redactor,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mongo").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl Mongo {
    /// The database of a connection; nothing is asked of a server yet, but for the records of `mongodb+srv`.
    ///
    /// # Errors
    /// A connection string that cannot be read.
    pub async fn open(name: &str, settings: &MongoDbConnection, redactor: Redactor) -> Result<Self> {
        let doing = || format!("connecting to MongoDB by the connection `{name}`");
        let uri = settings.uri.expose_secret().to_owned();
        let parsed = tokio::spawn(async move { ClientOptions::parse(&uri).await });
        let parsed = parsed.await.context(Kind::Internal, doing)?;
        let mut options = parsed.map_err(|error| {
            // The parser may quote the string, and with it the password.
            Error::new(Kind::Connection, doing())
                .because(redactor.redact(&error.kind.to_string()))
                .hint("`uri` looks like mongodb://user:password@host:27017")
        })?;
        options.server_selection_timeout = Some(options.server_selection_timeout.unwrap_or(PATIENCE));
        options.app_name = Some(options.app_name.unwrap_or_else(|| "haul".to_owned()));
        let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
        let client = Client::with_options(options)
            .map_err(|error| Error::new(Kind::Connection, doing()).because(redactor.redact(&error.kind.to_string())))?;
        let inner = Inner {
            name: name.to_owned(),
            hosts: hosts.join(", "),
            database: client.database(&settings.database),
            redactor,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The connection's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// A collection, whose documents are left as they are on the wire.
    pub fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.inner.database.collection(name)
    }

    /// Where a collection lies, for messages: `users` of `shop` at `db.example.com:27017`.
    pub fn place(&self, collection: &str) -> String {
        format!("the collection `{collection}` of `{}` at {}", self.inner.database.name(), self.inner.hosts)
    }

    /// The names of the database's collections.
    pub async fn collections(&self) -> Result<Vec<String>> {
        let database = self.inner.database.clone();
        let listed = tokio::spawn(async move { database.list_collection_names().await });
        let doing = || format!("listing the collections of `{}`", self.inner.database.name());
        listed.await.context(Kind::Internal, doing)?.map_err(|error| self.fault(doing(), &error, Kind::Source))
    }

    /// What an error of the driver means; `otherwise` is the kind of one that neither waiting nor other credentials mend.
    pub fn fault(&self, doing: String, error: &DriverError, otherwise: Kind) -> Error {
        let (kind, hint) = match &*error.kind {
            ErrorKind::Authentication { .. } => {
                (Kind::Auth, "are user, password and `authSource` of the connection's `uri` right?")
            }
            ErrorKind::Command(command) if command.code == 18 => {
                (Kind::Auth, "are user, password and `authSource` of the connection's `uri` right?")
            }
            ErrorKind::Command(command) if REFUSED.contains(&command.code) => {
                (Kind::Auth, "the user of the connection lacks a role for this")
            }
            _ if is_passing(error) => {
                (Kind::Unavailable, "is a server listening there, and does a firewall let us through?")
            }
            _ => (otherwise, ""),
        };
        let error = Error::new(kind, doing).because(self.inner.redactor.redact(&words(&error.kind)));
        if hint.is_empty() { error } else { error.hint(hint) }
    }
}

/// What an error says. Of servers that cannot be reached the driver tells all that it knows of them: the reasons are enough.
pub fn words(kind: &ErrorKind) -> String {
    let ErrorKind::ServerSelection { message, .. } = kind else { return kind.to_string() };
    let of_server = |told: &str| {
        let (address, rest) = told.split_once(',')?;
        let (_, fault) = rest.split_once("Error: Kind: ")?;
        Some(format!("{address}: {}", fault.split(", labels:").next().unwrap_or(fault)))
    };
    let faults: Vec<String> = message.split("{ Address: ").skip(1).filter_map(of_server).collect();
    if faults.is_empty() { kind.to_string() } else { format!("no server answers: {}", faults.join("; ")) }
}

/// Whether the same may succeed a little later.
pub fn is_passing(error: &DriverError) -> bool {
    match &*error.kind {
        ErrorKind::Io(_)
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. } => true,
        ErrorKind::Command(command) => PASSING.contains(&command.code),
        _ => false,
    }
}

/// Reads a value of JSON whose types may be told by MongoDB's extended JSON: `{"$oid": …}`, `{"$date": …}`.
///
/// # Errors
/// A form that extended JSON does not know, in its own words.
pub fn extended(value: Value) -> Result<Bson, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Reads a document of extended JSON.
///
/// # Errors
/// Another value than a document, or a form that extended JSON does not know.
pub fn extended_document(value: Value) -> Result<Document, String> {
    match extended(value)? {
        Bson::Document(document) => Ok(document),
        other => Err(format!("it is no document but {:?}", other.element_type())),
    }
}

/// A document as extended JSON for people: dates are written as dates.
pub fn shown(document: &Document) -> String {
    fn relax(value: &mut Value) {
        let millis = value.get("$date").and_then(|date| date.get("$numberLong")).and_then(Value::as_str);
        let date = millis.and_then(|millis| millis.parse().ok()).and_then(chrono::DateTime::from_timestamp_millis);
        if let Some(date) = date {
            let date = date.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
            *value = serde_json::json!({ "$date": date });
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(relax),
            Value::Object(members) => members.values_mut().for_each(relax),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let Ok(mut value) = serde_json::to_value(document) else { return document.to_string() };
    relax(&mut value);
    value.to_string()
}

/// A value as text that gives the very same value back: the bytes of BSON, in base64.
pub fn packed(value: RawBsonRef<'_>) -> String {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("v"), value);
    STANDARD_NO_PAD.encode(document.as_bytes())
}

/// The value that was packed; none where the text is no such value.
pub fn unpacked(text: &str) -> Option<RawBson> {
    let document = RawDocumentBuf::from_bytes(STANDARD_NO_PAD.decode(text).ok()?).ok()?;
    let value = document.get("v").ok()??;
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{DateTime, doc};
    use serde_json::json;

    use super::*;

    #[test]
    fn extended_json_tells_types() {
        let read = |value| extended_document(value).expect("extended JSON");
        let id = ObjectId::parse_str("65f000000000000000000001").expect("an id");
        let found = read(json!({
            "_id": { "$oid": "65f000000000000000000001" },
            "at": { "$gte": { "$date": "2024-05-01T00:00:00Z" }, "$lt": { "$date": { "$numberLong": "1714608000000" } } },
            "n": { "$in": [1, 5_000_000_000_i64, { "$numberDecimal": "1.10" }] },
        }));
        let date = |millis| DateTime::from_millis(millis);
        assert_eq!(found.get_object_id("_id").expect("an id"), id);
        assert_eq!(
            found.get_document("at").expect("a range"),
            &doc! { "$gte": date(1_714_521_600_000), "$lt": date(1_714_608_000_000) }
        );
        let list = found.get_document("n").and_then(|n| n.get_array("$in")).expect("a list");
        assert_eq!(list[1], Bson::Int64(5_000_000_000));
        assert!(matches!(list[2], Bson::Decimal128(_)), "{list:?}");
        assert!(extended_document(json!([1])).is_err());
        assert!(extended(json!({ "$oid": "no id" })).is_err());
    }

    #[test]
    fn a_packed_value_is_the_same_value_again() {
        for value in [RawBson::Double(f64::NAN), RawBson::Int32(1), RawBson::Int64(1), RawBson::MinKey, RawBson::Null] {
            let again = unpacked(&packed(value.as_raw_bson_ref())).expect("a value");
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
        }
        assert!(unpacked("nothing").is_none());
    }
}
