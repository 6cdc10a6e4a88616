//! Which files a step means: `exports/2024-01-05/*.csv`, with `*` and `?` within a name, `**` over folders, `{a,b}` for either.

use crate::error::{Error, Kind, Result};

/// How many patterns the braces of one may stand for.
const MOST_ALTERNATIVES: usize = 1000;

/// A pattern of paths, relative to its connection.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    alternatives: Vec<String>,
}

impl Pattern {
    /// Reads a rendered pattern.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |found: &str| {
            Err(Error::new(Kind::Config, format!("`files` is `{text}`"))
                .because(found.to_owned())
                .hint("files = \"exports/{{ ds }}/*.csv\", relative to the connection's url"))
        };
        let path = text.trim().trim_start_matches("./");
        if path.is_empty() {
            return wrong("that names no file");
        }
        if path.starts_with('/') || path.contains("://") {
            return wrong("it has to be relative to the connection");
        }
        if path.split('/').any(|part| part == "..") {
            return wrong("it leads out of the connection's folder");
        }
        if path.ends_with('/') {
            return wrong("it names a folder; `*` behind it means all of its files");
        }
        let mut alternatives = Vec::new();
        if !expand(path, &mut alternatives) {
            return wrong("its braces do not close, lie within each other, or stand for too many names");
        }
        alternatives.dedup();
        Ok(Self { text: path.to_owned(), alternatives })
    }

    /// Whether a path is meant. Hidden files are only meant by name.
    pub fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        self.alternatives.iter().any(|one| matches_parts(&one.split('/').collect::<Vec<_>>(), &parts))
    }

    /// The names, where none of them has to be looked for.
    pub fn exact(&self) -> Option<&[String]> {
        (!self.alternatives.iter().any(|one| is_wild(one))).then_some(&self.alternatives)
    }

    /// The folders, without a slash behind them, that all files lie below; an empty one is the connection's own.
    pub fn folders(&self) -> Vec<String> {
        let folder = |one: &String| {
            let fixed: Vec<&str> = one.split('/').take_while(|part| !is_wild(part)).collect();
            let all = one.split('/').count();
            // The last part is a file's name, wild or not.
            fixed[..fixed.len().min(all - 1)].join("/")
        };
        let mut folders: Vec<String> = self.alternatives.iter().map(folder).collect();
        folders.sort();
        // What lies below one that is listed anyway would come twice.
        let mut kept: Vec<String> = Vec::new();
        for folder in folders {
            if !kept
                .iter()
                .any(|above| above.is_empty() || folder == *above || folder.starts_with(&format!("{above}/")))
            {
                kept.push(folder);
            }
        }
        kept
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Replaces the first braces by each of their words, and goes on; false where that cannot be done.
fn expand(text: &str, into: &mut Vec<String>) -> bool {
    if into.len() >= MOST_ALTERNATIVES {
        return false;
    }
    let Some(open) = text.find(['{', '}']) else {
        into.push(text.to_owned());
        return true;
    };
    let (before, rest) = (&text[..open], &text[open + 1..]);
    let Some(close) = rest.find(['{', '}']).filter(|_| text.as_bytes()[open] == b'{') else { return false };
    if rest.as_bytes()[close] != b'}' {
        return false;
    }
    rest[..close].split(',').all(|word| expand(&format!("{before}{word}{}", &rest[close + 1..]), into))
}

fn matches_parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => {
            matches_parts(rest, path)
                || path
                    .split_first()
                    .is_some_and(|(first, below)| !first.starts_with('.') && matches_parts(pattern, below))
        }
        ([first, rest @ ..], [name, below @ ..]) => {
            let hidden = name.starts_with('.') && !first.starts_with('.');
            !hidden && matches_name(first.as_bytes(), name.as_bytes()) && matches_parts(rest, below)
        }
        _ => false,
    }
}

/// One part of a path; the usual walk that goes back to the last star.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                from += character(&name[from..]);
            }
            Some(byte) if *byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((behind, begun)) = star else { return false };
                star = Some((behind, begun + 1));
                (at, from) = (behind, begun + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// How many bytes the first character has.
fn character(text: &[u8]) -> usize {
    1 + text[1..].iter().take_while(|byte| **byte & 0xC0 == 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_a_shell_means() {
        let all = ["a.csv", "b.csv.gz", "x/a.csv", "x/y/a.csv", "x/y/ü.csv", ".hidden.csv", "x/.tmp/a.csv"];
        let means = |pattern: &str| -> Vec<&str> {
            let pattern = Pattern::parse(pattern).expect(pattern);
            all.into_iter().filter(|path| pattern.matches(path)).collect()
        };
        assert_eq!(means("*.csv"), ["a.csv"]);
        assert_eq!(means("{a,b}.csv{,.gz}"), ["a.csv", "b.csv.gz"]);
        assert_eq!(means("**/a.csv"), ["a.csv", "x/a.csv", "x/y/a.csv"]);
        assert_eq!(means("x/**"), ["x/a.csv", "x/y/a.csv", "x/y/ü.csv"]);
        assert_eq!(means("x/?/?.csv"), ["x/y/a.csv", "x/y/ü.csv"]);
        assert_eq!(means("x/*/*a*.c*v"), ["x/y/a.csv"]);
        assert_eq!(means(".*"), [".hidden.csv"]);
    }

    #[test]
    fn only_what_may_match_is_listed() {
        let folders = |pattern: &str| Pattern::parse(pattern).expect(pattern).folders();
        assert_eq!(folders("exports/2024-01-05/*.csv"), ["exports/2024-01-05"]);
        assert_eq!(folders("exports/{a,b}/x.csv"), ["exports/a", "exports/b"]);
        assert_eq!(folders("*/x.csv"), [""]);
        assert_eq!(folders("{a/*/x,a/b/*}.csv"), ["a"]);
        let exact = Pattern::parse("d/{a,b}.csv").expect("a pattern");
        assert_eq!(exact.exact().expect("names"), ["d/a.csv", "d/b.csv"]);
        assert!(Pattern::parse("d/*.csv").expect("a pattern").exact().is_none());
        for wrong in ["", "/etc/passwd", "../x", "a/../../x", "a/", "{a", "a}", "{a,{b}}", "s3://b/x"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
