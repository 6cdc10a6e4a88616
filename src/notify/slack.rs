//! Messages in the blocks of Slack (Block Kit): <https://docs.slack.dev/reference/block-kit/blocks>.

use serde_json::{Value, json};

use super::words::{self, About, Told};
use crate::model::incident::Content;
use crate::model::notify::Topic;

/// Slack takes so many characters in a header, and in a section.
const HEADER: usize = 150;
const SECTION: usize = 3000;

/// Slack takes so many blocks in a message; one is the header, one says that there is more.
const BLOCKS: usize = 48;

/// What is posted to an incoming webhook.
pub(super) fn message(content: &Content, told: &Told, about: &About) -> Value {
    let mut sections: Vec<String> = match content {
        Content::Notices { notices } => notices
            .iter()
            .map(|notice| {
                let sign = match notice.topic {
                    Topic::Recovery => ":white_check_mark:",
                    Topic::Failure | Topic::Deadline => ":red_circle:",
                    Topic::Held | Topic::Late | Topic::Drift | Topic::Report => ":large_yellow_circle:",
                };
                let mut text = format!("{sign} *{}*", escaped(&words::headline(notice)));
                for (label, line) in words::lines(notice, about) {
                    let line = escaped(&line);
                    let line = match label {
                        "do" => format!("`{line}`"),
                        "see" => format!("<{line}>"),
                        _ => line,
                    };
                    text.push_str(&format!("\n_{label}_  {line}"));
                }
                text
            })
            .collect(),
        Content::Report { .. } | Content::Test => {
            told.text.split("\n\n").map(|part| format!("```{}```", escaped(part))).collect()
        }
    };
    let more = sections.len().saturating_sub(BLOCKS);
    sections.truncate(BLOCKS);
    if more > 0 {
        sections.push(format!("and {more} more: `haul incidents`"));
    }
    let mut blocks =
        vec![json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&told.title, HEADER) } })];
    let section =
        |text: String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(&text, SECTION) } });
    blocks.extend(sections.into_iter().map(section));
    json!({ "text": told.title, "blocks": blocks })
}

/// The three characters that mean something to Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
