//! The twins of connections to database servers.

use super::connection_file::{SecretValue, TlsWord};
use super::reader::{At, Required, twin};
use super::scalar::Count;
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
