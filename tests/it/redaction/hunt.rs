//! The hunt: secrets that were planted, the forms in which they might turn up, and every place where a project keeps something.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::doors::Ran;
use crate::support::project::Project;

/// The secrets by where they were planted.
#[derive(Default)]
pub struct Hunt {
    forms: Vec<(String, String)>,
    searched: usize,
}

impl Hunt {
    /// Plants a secret, and returns it.
    pub fn plant(&mut self, place: &str, secret: &str) -> String {
        let mut add = |form: &str, text: String| {
            // A part that ends like the whole of another is found with that.
            let known = self.forms.iter().any(|(_, known)| *known == text);
            if !known && text.len() >= 10 {
                self.forms.push((format!("{place}, {form}"), text));
            }
        };
        add("as it is", secret.to_owned());
        for line in secret.lines().filter(|line| !line.starts_with("-----")) {
            add("a line of it", line.to_owned());
        }
        add("in a form", url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
        add("in an address", percent_encoded(secret));
        add("in base64", STANDARD.encode(secret).trim_end_matches('=').to_owned());
        add("in base64 for addresses", URL_SAFE_NO_PAD.encode(secret));
        add("in JSON", serde_json::to_string(secret).expect("JSON").trim_matches('"').to_owned());
        secret.to_owned()
    }

    /// Looks through a text or the bytes of a file.
    #[track_caller]
    pub fn search(&mut self, place: &str, bytes: &[u8]) {
        self.searched += bytes.len();
        let text = String::from_utf8_lossy(bytes);
        for (secret, form) in &self.forms {
            if let Some(at) = text.find(form.as_str()) {
                let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
                let shown: String = text[from..].chars().take(500).collect();
                panic!("{place} has the secret of {secret} ({form}):\n{shown}");
            }
        }
    }

    /// Looks through everything that a process printed.
    #[track_caller]
    pub fn printed(&mut self, what: &str, ran: &Ran) {
        self.search(&format!("stdout of {what}"), ran.out.as_bytes());
        self.search(&format!("stderr of {what}"), ran.err.as_bytes());
    }

    /// Looks through all files of a project but those that the test itself wrote with secrets in them.
    #[track_caller]
    pub fn files(&mut self, project: &Project, own: &[&str]) {
        let mut found = Vec::new();
        walk(project.path(), &mut found);
        assert!(found.iter().any(|path| path.ends_with(".haul/state.db")), "{found:?}");
        for path in found {
            let name = path.strip_prefix(project.path()).expect("a file of the project").to_string_lossy().into_owned();
            if own.contains(&name.as_str()) {
                continue;
            }
            let bytes = fs::read(&path).expect("a file");
            self.search(&name, &bytes);
            if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                let frames = zstd::stream::decode_all(bytes.as_slice()).expect("whole frames");
                assert!(!frames.is_empty());
                self.search(&format!("the frames of {name}"), &frames);
            }
        }
        self.tables(&project.path().join("warehouse.duckdb"));
    }

    /// Looks through all rows of the warehouse, whose file is compressed.
    #[track_caller]
    fn tables(&mut self, path: &Path) {
        if !path.exists() {
            return;
        }
        let warehouse = duckdb::Connection::open(path).expect("the warehouse");
        let texts = |sql: &str| -> Vec<String> {
            let mut statement = warehouse.prepare(sql).expect("a statement");
            let rows = statement.query_map([], |row| row.get(0)).expect("rows");
            rows.map(|row| row.expect("a row")).collect()
        };
        let tables = texts("select format('\"{}\".\"{}\"', schema_name, table_name) from duckdb_tables()");
        for table in tables {
            for row in texts(&format!("select t::varchar from {table} t")) {
                self.search(&table, row.as_bytes());
            }
        }
    }

    /// How many bytes were looked through.
    pub fn searched(&self) -> usize {
        self.searched
    }
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        if entry.path().is_dir() {
            walk(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}
