//! The twins of `hooks/*.toml`: how to talk to one API, with its parameters and its own tests.

use super::answer::{CompressionWord, FormatWord, RecordsText, ReportTable, XmlTable};
use super::file::{ProtocolWord, SourceWord};
use super::files::CsvTable;
use super::reader::{At, Required, twin};
use super::request::{AuthValue, MethodWord, PaginateTable, RequestTable, RetryTable};
use super::rule::Rules;
use super::scalar::{Entries, Names, Texts};
use super::value::{ColumnType, Date, Moment, TypedDuration};
use crate::model::parameter::ParameterType;
use crate::model::pipeline::{Naming, Nested, TimeFormat};
use crate::model::source::ReplicationMethod;

twin! {
    /// One file of `hooks/`: how to talk to one API.
    pub struct HookFile {
        /// Which API this is, in one line.
        pub description: Option<At<String>>,
        /// More about it, in Markdown.
        pub docs: Option<At<String>>,
        /// Where the API or this hook is at home.
        pub homepage: Option<At<String>>,
        /// The license of this file, as SPDX writes it.
        pub license: Option<At<String>>,
        /// The version of this file.
        pub version: Option<At<String>>,
        /// What a step may set by `with`, by name; templates here see it as `{{ param.name }}`.
        pub parameters: Option<At<Entries<ParameterTable>>>,
        /// The connection that says where, and who we are; a step may name another.
        pub connection: Option<At<String>>,
        /// What every request has; a step's own parameters are laid over these.
        pub request: Option<At<RequestTable>>,
        /// How the answer is divided into pages.
        pub paginate: Option<At<PaginateTable>>,
        /// Where the rows of a page are: a JSONPath, or the path of an XML element as `"/feed/entry"`.
        pub records: Option<At<RecordsText>>,
        /// How the rows of an answer are written. Default: seen from `records` and from the answer's type, else `"json"`.
        pub format: Option<At<FormatWord>>,
        /// Whether the answer is a compressed file. Default: seen from its first bytes.
        pub compression: Option<At<CompressionWord>>,
        /// The members of a zip file that have rows: a name with `*` and `?`. Default: the only one there is.
        pub members: Option<At<String>>,
        /// The form of CSV.
        pub csv: Option<At<CsvTable>>,
        /// The form of XML.
        pub xml: Option<At<XmlTable>>,
        /// What is done with odd answers: `404 = "empty"`, `"403 containing quota" = "wait until midnight America/Los_Angeles"`.
        pub on: Option<At<Rules>>,
        /// Whether answers are kept, and sent again only where they have changed. Default false.
        pub conditional: Option<At<bool>>,
        /// The report that `request` creates, where its answer has no rows: how it is waited for and downloaded.
        pub report: Option<At<ReportTable>>,
        /// How we say who we are: `"none"`, `"basic"`, `"bearer"`, `{ header = "X-Api-Key" }` or `{ query = "key" }`.
        pub auth: Option<At<AuthValue>>,
        /// How often and how patiently a request is tried again.
        pub retry: Option<At<RetryTable>>,
        /// What kind of source this is, where the keys do not tell: `"http"` or `"process"`.
        pub r#type: Option<At<SourceWord>>,
        /// The program and its arguments (`process`): a list, every text a template, no shell between. It is looked for on the
        /// PATH, or from the project's folder where it has a slash.
        pub command: Option<At<Vec<At<String>>>>,
        /// Further arguments (`process`). A step's take the place of its hook's.
        pub args: Option<At<Vec<At<String>>>>,
        /// Variables that the program gets (`process`). Templates; a step's win over its hook's.
        pub env: Option<At<Entries<Texts>>>,
        /// Variables of haul's own environment that the program gets as they are (`process`).
        pub pass_env: Option<At<Names>>,
        /// The folder that the program works in (`process`), relative to the project. Default: the project's.
        pub dir: Option<At<String>>,
        /// How long the program may run (`process`). Default `"6h"`.
        pub timeout: Option<At<TypedDuration>>,
        /// What the program prints (`process`). Default `"jsonl"`: every line is a row.
        pub protocol: Option<At<ProtocolWord>>,
        /// The settings of a Singer tap; strings are templates. Laid over the connection's fields; a step's win over its hook's.
        pub config: Option<At<Entries<serde_json::Value>>>,
        /// The stream of a Singer tap whose records are the rows. Default: the step's name.
        pub stream: Option<At<String>>,
        /// How a Singer tap replicates the stream. Default: its own way.
        pub replication_method: Option<At<ReplicationMethod>>,
        /// The member by which a Singer tap sees what is new.
        pub replication_key: Option<At<String>>,
        /// A file with the catalog of a Singer tap, relative to the project, in place of the one that it discovers.
        pub catalog: Option<At<String>>,
        /// Whether a Singer tap is asked for its catalog by `--discover`. Default true.
        pub discover: Option<At<bool>>,
        /// The argument before the catalog's file. Default `"--catalog"`; old taps want `"--properties"`.
        pub catalog_argument: Option<At<String>>,
        /// Declared types by the source's names.
        pub columns: Option<At<Entries<ColumnType>>>,
        /// What columns mean, by the source's names.
        pub column_docs: Option<At<Entries<String>>>,
        /// How nested values land.
        pub nested: Option<At<Nested>>,
        /// How the source's names become column names.
        pub naming: Option<At<Naming>>,
        /// The member of a row that has its own time, with dots between levels.
        pub time_column: Option<At<String>>,
        /// How that time is written.
        pub time_format: Option<At<TimeFormat>>,
        /// The parts of an API, by name; each is laid over what stands above. A step says which: `resource = "ratings"`.
        pub resources: Option<At<Entries<ResourceTable>>>,
        /// What the hook does with recorded answers; `haul hooks test` tries it without a network.
        pub test: Option<At<Vec<At<HookTestTable>>>>,
    }
}

twin! {
    /// One part of an API: what it has besides what the whole hook says.
    pub struct ResourceTable {
        /// What it has, in one line.
        pub description: Option<At<String>>,
        /// The connection, where it is another one.
        pub connection: Option<At<String>>,
        /// What every request of it has.
        pub request: Option<At<RequestTable>>,
        /// How the answer is divided into pages.
        pub paginate: Option<At<PaginateTable>>,
        /// Where the rows of a page are: a JSONPath, or the path of an XML element as `"/feed/entry"`.
        pub records: Option<At<RecordsText>>,
        /// How the rows of an answer are written. Default: seen from `records` and from the answer's type, else `"json"`.
        pub format: Option<At<FormatWord>>,
        /// Whether the answer is a compressed file. Default: seen from its first bytes.
        pub compression: Option<At<CompressionWord>>,
        /// The members of a zip file that have rows: a name with `*` and `?`. Default: the only one there is.
        pub members: Option<At<String>>,
        /// The form of CSV.
        pub csv: Option<At<CsvTable>>,
        /// The form of XML.
        pub xml: Option<At<XmlTable>>,
        /// What is done with odd answers: `404 = "empty"`, `"403 containing quota" = "wait until midnight America/Los_Angeles"`.
        pub on: Option<At<Rules>>,
        /// Whether answers are kept, and sent again only where they have changed. Default false.
        pub conditional: Option<At<bool>>,
        /// The report that `request` creates, where its answer has no rows: how it is waited for and downloaded.
        pub report: Option<At<ReportTable>>,
        /// How we say who we are.
        pub auth: Option<At<AuthValue>>,
        /// How often and how patiently a request is tried again.
        pub retry: Option<At<RetryTable>>,
        /// What kind of source this is, where the keys do not tell: `"http"` or `"process"`.
        pub r#type: Option<At<SourceWord>>,
        /// The program and its arguments (`process`): a list, every text a template, no shell between. It is looked for on the
        /// PATH, or from the project's folder where it has a slash.
        pub command: Option<At<Vec<At<String>>>>,
        /// Further arguments (`process`). A step's take the place of its hook's.
        pub args: Option<At<Vec<At<String>>>>,
        /// Variables that the program gets (`process`). Templates; a step's win over its hook's.
        pub env: Option<At<Entries<Texts>>>,
        /// Variables of haul's own environment that the program gets as they are (`process`).
        pub pass_env: Option<At<Names>>,
        /// The folder that the program works in (`process`), relative to the project. Default: the project's.
        pub dir: Option<At<String>>,
        /// How long the program may run (`process`). Default `"6h"`.
        pub timeout: Option<At<TypedDuration>>,
        /// What the program prints (`process`). Default `"jsonl"`: every line is a row.
        pub protocol: Option<At<ProtocolWord>>,
        /// The settings of a Singer tap; strings are templates. Laid over the connection's fields; a step's win over its hook's.
        pub config: Option<At<Entries<serde_json::Value>>>,
        /// The stream of a Singer tap whose records are the rows. Default: the step's name.
        pub stream: Option<At<String>>,
        /// How a Singer tap replicates the stream. Default: its own way.
        pub replication_method: Option<At<ReplicationMethod>>,
        /// The member by which a Singer tap sees what is new.
        pub replication_key: Option<At<String>>,
        /// A file with the catalog of a Singer tap, relative to the project, in place of the one that it discovers.
        pub catalog: Option<At<String>>,
        /// Whether a Singer tap is asked for its catalog by `--discover`. Default true.
        pub discover: Option<At<bool>>,
        /// The argument before the catalog's file. Default `"--catalog"`; old taps want `"--properties"`.
        pub catalog_argument: Option<At<String>>,
        /// Declared types by the source's names.
        pub columns: Option<At<Entries<ColumnType>>>,
        /// How nested values land.
        pub nested: Option<At<Nested>>,
        /// How the source's names become column names.
        pub naming: Option<At<Naming>>,
        /// The member of a row that has its own time, with dots between levels.
        pub time_column: Option<At<String>>,
        /// How that time is written.
        pub time_format: Option<At<TimeFormat>>,
    }
}

twin! {
    /// A parameter of a hook.
    pub struct ParameterTable {
        /// What its values are.
        pub r#type: Required<ParameterType>,
        /// The value where a step says nothing. Without one every step has to say something.
        pub default: Option<At<serde_json::Value>>,
        /// Whether every step has to give a value. Default: where there is no `default`.
        pub required: Option<At<bool>>,
        /// The values that are allowed, where they are few.
        pub choices: Option<At<Vec<At<serde_json::Value>>>>,
        /// What it is for.
        pub doc: Option<At<String>>,
    }
}

twin! {
    /// One test of a hook: what a step would say, and what then has to come.
    pub struct HookTestTable {
        /// The test's name.
        pub name: Required<String>,
        /// Which part of the API.
        pub resource: Option<At<String>>,
        /// Values for the hook's parameters.
        pub with: Option<At<Entries<serde_json::Value>>>,
        /// What a step would say of the request.
        pub request: Option<At<RequestTable>>,
        /// The logical date: the unit is the day before it. Default 2000-01-02.
        pub date: Option<At<Date>>,
        /// The instant at which the clock stands still. Default: the logical date's midnight, UTC.
        pub now: Option<At<Moment>>,
        /// The answers, where they are few and short; by default those of `hooks/<name>.cassette.jsonl`.
        pub answers: Option<At<Vec<At<AnswerTable>>>>,
        /// What has to come.
        pub expect: Required<HookExpectTable>,
    }
}

twin! {
    /// An answer that an API gave.
    pub struct AnswerTable {
        /// The method of the request. Default `GET`.
        pub method: Option<At<MethodWord>>,
        /// The path of the request, behind the connection's address.
        pub path: Option<At<String>>,
        /// The parameters of the request's query, all of them.
        pub params: Option<At<Entries<Texts>>>,
        /// The status of the answer. Default 200.
        pub status: Option<At<u64>>,
        /// Headers of the answer.
        pub headers: Option<At<Entries<String>>>,
        /// The answer's body as a table, or as a text.
        pub body: Option<At<serde_json::Value>>,
    }
}

twin! {
    /// What a hook's test expects.
    pub struct HookExpectTable {
        /// How many rows come.
        pub rows: Option<At<u64>>,
        /// In how many pages.
        pub pages: Option<At<u64>>,
        /// The first rows, in their order; members that are not named may have any value.
        pub first: Option<At<Vec<At<Entries<serde_json::Value>>>>>,
        /// A text of the error that has to come instead.
        pub fails: Option<At<String>>,
    }
}
