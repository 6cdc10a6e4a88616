//! The twins of connections to database servers, and to those that send mail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection_file::{SecretValue, TlsWord};
use super::reader::{At, Required, twin};
use super::scalar::{Count, words};
use super::value::TypedDuration;

twin! {
    /// A MySQL or MariaDB server.
    pub struct ServerTable {
        /// Always `"mysql"`.
        pub r#type: Required<String>,
        /// The host's name or address. Default `"localhost"`.
        pub host: Option<At<SecretValue>>,
        /// The port. Default: the system's own.
        pub port: Option<At<Count>>,
        /// The user.
        pub user: Required<SecretValue>,
        /// The password.
        pub password: Option<At<SecretValue>>,
        /// The database.
        pub database: Required<SecretValue>,
        /// Whether and how the connection is encrypted. Default `"prefer"`.
        pub tls: Option<At<TlsWord>>,
    }
}

twin! {
    /// A PostgreSQL server: a source, or a warehouse.
    pub struct PostgresTable {
        /// Always `"postgres"`.
        pub r#type: Required<String>,
        /// The host's name or address. Default `"localhost"`.
        pub host: Option<At<SecretValue>>,
        /// The port. Default 5432.
        pub port: Option<At<Count>>,
        /// The user.
        pub user: Required<SecretValue>,
        /// The password.
        pub password: Option<At<SecretValue>>,
        /// The database.
        pub database: Required<SecretValue>,
        /// Whether and how the connection is encrypted. Default `"prefer"`.
        pub tls: Option<At<TlsWord>>,
        /// How long one statement may run. Default: what the server says.
        pub statement_timeout: Option<At<TypedDuration>>,
        /// How long a statement may wait for a lock. Default: what the server says.
        pub lock_timeout: Option<At<TypedDuration>>,
    }
}

/// Whether and how mail is encrypted on its way to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailTlsWord {
    /// After a plain greeting, and never without.
    StartTls,
    /// From the first byte on.
    Tls,
    /// Not at all.
    None,
}

words!(MailTlsWord);

twin! {
    /// A server that sends mail, by SMTP.
    pub struct SmtpTable {
        /// Always `"smtp"`.
        pub r#type: Required<String>,
        /// The host's name or address.
        pub host: Required<SecretValue>,
        /// The port. Default 587; 465 with `tls = "tls"`, 25 with `tls = "none"`.
        pub port: Option<At<Count>>,
        /// The user, where the server wants to know one.
        pub user: Option<At<SecretValue>>,
        /// The password.
        pub password: Option<At<SecretValue>>,
        /// Whom the mail is from: `"haul <haul@example.com>"`.
        pub from: Required<SecretValue>,
        /// Whether and how it is encrypted. Default `"starttls"`, and `"tls"` on port 465.
        pub tls: Option<At<MailTlsWord>>,
        /// Certificates in PEM of authorities that are believed besides those of the system.
        pub ca: Option<At<SecretValue>>,
        /// How long the server may take. Default `"30s"`.
        pub timeout: Option<At<TypedDuration>>,
    }
}
