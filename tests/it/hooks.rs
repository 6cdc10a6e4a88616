//! Hooks that travel: parameters, resources, manuals, their own tests, and those of others.

mod others;
mod parameters;
mod tests;

use super::support::doors::{Asked, Door, Ran, Reply};
use super::support::project::Project;

/// An API of items: `size` a page, seven in all, each with its number; the first page is page 1.
fn items() -> Door {
    Door::start(|asked: &Asked| {
        let of = |name: &str| {
            url::form_urlencoded::parse(asked.query.as_bytes())
                .find(|(other, _)| other == name)
                .and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let (page, size) = (of("page").unwrap_or(1), of("page_size").unwrap_or(100));
        let first = (page - 1) * size;
        let rows: Vec<_> = (first..(first + size).min(7))
            .map(|id| serde_json::json!({ "id": id, "kind": asked.path.trim_start_matches('/') }))
            .collect();
        Reply::json(&serde_json::json!({ "items": rows, "goods": rows }))
    })
}

const PIPELINE: &str = "[window]\nlookback = 1\n\n[[extract]]\nname = \"items\"\nhook = \"shop\"\nwrite = \"full\"\n";

const HOOK: &str = r#"
description = "A shop"
connection  = "api"
request     = { path = "/items", params = { lang = "{{ param.lang }}", since = "{{ param.since | strftime('%d.%m.%Y') }}" } }
paginate    = { by = "page", size = "{{ param.page_size }}", short_page_ends = "{{ param.short }}" }
records     = "$.{{ param.member }}[*]"

[parameters]
page_size = { type = "integer", default = 100, doc = "items in a page" }
lang      = { type = "string", default = "en", choices = ["en", "ko"] }
since     = { type = "date", default = 2020-01-02 }
short     = { type = "boolean", default = true }
member    = { type = "string", default = "items" }
"#;

fn project(url: &str, hook: &str, step: &str) -> Project {
    let project = Project::with_api(url, "");
    project.write("hooks/shop.toml", hook);
    project.write("pipelines/p.toml", &format!("{PIPELINE}{step}\n"));
    project
}

fn ran(project: &Project, arguments: &[&str]) -> Ran {
    Ran::of(&mut project.haul(arguments))
}
