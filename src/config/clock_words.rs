//! Words of SQL that ask for today's date: in a windowed transform they make a re-run give other rows.

use std::ops::Range;

/// Words that are such a question by themselves.
const WORDS: [&str; 7] = [
    "current_date",
    "current_timestamp",
    "current_time",
    "current_datetime",
    "localtimestamp",
    "current_localtimestamp",
    "sysdate",
];

/// Names that are such a question when brackets follow.
const CALLS: [&str; 6] = ["now", "today", "getdate", "get_current_timestamp", "transaction_timestamp", "systimestamp"];

/// The places where a template of SQL asks for the current date or time, outside of comments, texts and tags.
pub fn clock_words(sql: &str) -> Vec<Range<usize>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(end) = skipped(sql, at) {
            at = end;
            continue;
        }
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        let word = sql[start..at].to_ascii_lowercase();
        let of_table = sql[..start].trim_end().ends_with('.');
        let called = sql[at..].trim_start().starts_with('(');
        if !of_table && (WORDS.contains(&word.as_str()) || called && CALLS.contains(&word.as_str())) {
            found.push(start..at);
        }
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The end of the comment, text, quoted name or template tag that begins here.
fn skipped(sql: &str, at: usize) -> Option<usize> {
    const PAIRS: [(&str, &str); 8] =
        [("--", "\n"), ("/*", "*/"), ("{{", "}}"), ("{%", "%}"), ("{#", "#}"), ("'", "'"), ("\"", "\""), ("`", "`")];
    let rest = sql.as_bytes().get(at..)?;
    let (open, close) = PAIRS.iter().find(|(open, _)| rest.starts_with(open.as_bytes()))?;
    let inside = at + open.len();
    Some(sql[inside..].find(close).map_or(sql.len(), |length| inside + length + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Vec<&str> {
        clock_words(sql).into_iter().map(|span| &sql[span]).collect()
    }

    #[test]
    fn the_clock_is_found_however_it_is_asked() {
        assert_eq!(found("SELECT CURRENT_DATE, now ( ), Today()"), ["CURRENT_DATE", "now", "Today"]);
    }

    #[test]
    fn comments_texts_names_and_tags_do_not_ask_the_clock() {
        let sql = "SELECT 'now()', \"current_date\", t.current_date, today -- now()\n/* current_date */ {{ now() }} {# now() #} FROM é";
        assert_eq!(found(sql), Vec::<&str>::new());
        assert_eq!(found("SELECT 'it''s', now()"), ["now"]);
    }
}
