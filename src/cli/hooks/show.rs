//! `haul hooks list` and `haul hooks show`: hooks as people look them up.

use super::super::Screen;
use super::super::screen::{DIM, GOOD, WARN};
use crate::model::manual::{Manual, Pin};
use crate::model::parameter::ParameterValue;
use crate::model::pipeline::Project;

pub(super) fn list(project: &Project, screen: &Screen) {
    if screen.is_json() {
        return screen.json(&project.hooks);
    }
    if project.hooks.is_empty() {
        screen.note("there are no hooks: they are files in hooks/, and `haul hooks add` brings those of others");
        return;
    }
    let row = |hook: &Manual| {
        let parameters: Vec<&str> = hook.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        vec![
            hook.name.clone(),
            hook.description.clone().unwrap_or_default(),
            parameters.join(", "),
            hook.tests.len().to_string(),
            hook.source.as_ref().map_or_else(|| "this project".to_owned(), short),
        ]
    };
    screen.table(&["hook", "description", "parameters", "tests", "from"], project.hooks.iter().map(row).collect());
}

/// Where a hook is from, in a few characters.
fn short(pin: &Pin) -> String {
    let last = pin.source.trim_end_matches('/').rsplit('/').next().unwrap_or(&pin.source);
    let rev = pin.rev.as_ref().map(|rev| format!(" {rev}")).unwrap_or_default();
    let commit = pin.commit.as_ref().map(|commit| format!(" ({})", &commit[..commit.len().min(7)])).unwrap_or_default();
    let changed = if pin.changed { ", changed here" } else { "" };
    format!("{}{rev}{commit}{changed}", last.trim_end_matches(".git"))
}

pub(super) fn show(hook: &Manual, screen: &Screen) {
    if screen.is_json() {
        return screen.json(hook);
    }
    let description = hook.description.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    screen.data(&format!("{GOOD}{}{GOOD:#}{description}", hook.name));
    let fact = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            screen.data(&format!("  {name:10}  {value}"));
        }
    };
    fact("file", Some(&hook.file.display().to_string()));
    fact("version", hook.version.as_ref());
    fact("license", hook.license.as_ref());
    fact("homepage", hook.homepage.as_ref());
    if let Some(pin) = &hook.source {
        fact("from", Some(&pin.source));
        fact("path", pin.path.as_ref());
        fact("revision", pin.rev.as_ref());
        fact("commit", pin.commit.as_ref());
        if pin.changed {
            screen.data(&format!("  {:10}  {WARN}by hand, since it was taken{WARN:#}", "changed"));
        }
    }
    let named = hook
        .connection
        .as_ref()
        .map_or_else(|| "a step names one".to_owned(), |name| format!("`{name}`, where a step names no other"));
    fact("connection", Some(&named));
    fact("needs", Some(&hook.needs.join(", ")));
    if let Some(docs) = &hook.docs {
        screen.data(&format!("\n{}", docs.trim()));
    }
    parameters(hook, screen);
    if !hook.resources.is_empty() {
        screen.data("");
        let row =
            |one: &crate::model::manual::Resource| vec![one.name.clone(), one.description.clone().unwrap_or_default()];
        screen.table(&["resource", "description"], hook.resources.iter().map(row).collect());
    }
    if !hook.columns.is_empty() {
        screen.data("");
        let row = |(name, what): (&String, &String)| vec![name.clone(), what.clone()];
        screen.table(&["column", "meaning"], hook.columns.iter().map(row).collect());
    }
    if !hook.tests.is_empty() {
        screen.data("");
        let row = |test: &crate::model::manual::HookTest| {
            vec![test.name.clone(), if test.answers.is_empty() { "cassette" } else { "its own" }.to_owned()]
        };
        screen.table(&["test", "answers"], hook.tests.iter().map(row).collect());
    }
    screen.data(&format!("\n{DIM}[[extract]]{DIM:#}\n{}", example(hook)));
}

fn parameters(hook: &Manual, screen: &Screen) {
    if hook.parameters.is_empty() {
        return;
    }
    screen.data("");
    let rows = hook.parameters.iter().map(|parameter| {
        let default = parameter.default.as_ref().map_or_else(|| "required".to_owned(), written);
        let choices: Vec<String> = parameter.choices.iter().map(ToString::to_string).collect();
        let doc = parameter.doc.clone().unwrap_or_default();
        let doc = if choices.is_empty() { doc } else { format!("{doc} ({})", choices.join(", ")) };
        vec![parameter.name.clone(), parameter.kind.word().to_owned(), default, doc.trim().to_owned()]
    });
    screen.table(&["parameter", "type", "default", "meaning"], rows.collect());
}

/// A value as a step writes it.
fn written(value: &ParameterValue) -> String {
    match value {
        ParameterValue::Text(text) | ParameterValue::Duration(text) => format!("{text:?}"),
        ParameterValue::List(items) => serde_json::Value::from(items.clone()).to_string(),
        other => other.to_string(),
    }
}

/// What a step writes to use the hook.
fn example(hook: &Manual) -> String {
    let mut lines = vec![format!("name = \"{}\"", hook.name), format!("hook = \"{}\"", hook.name)];
    if let Some(resource) = hook.resources.first() {
        lines.push(format!("resource = \"{}\"", resource.name));
    }
    if hook.connection.is_none() {
        lines.push("connection = \"…\"".to_owned());
    }
    // Those that have to be set; else the first one, to show how.
    let set: Vec<String> = hook
        .parameters
        .iter()
        .enumerate()
        .filter(|(index, parameter)| parameter.is_required() || *index == 0)
        .map(|(_, parameter)| format!("{} = {}", parameter.name, written(&parameter.sample())))
        .collect();
    if !set.is_empty() {
        lines.push(format!("with = {{ {} }}", set.join(", ")));
    }
    lines.join("\n")
}
