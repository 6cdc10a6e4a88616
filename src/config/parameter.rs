//! Parameters of hooks: how a hook declares them, how a step sets them, and the places other than templates that take them.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::known_names;
use super::hook_file::ParameterTable;
use super::pipeline::is_plain_name;
use super::reader::{At, Reader, Span};
use super::scalar::Entries;
use crate::model::parameter::{Parameter, ParameterType, ParameterValue, ParameterValues};

/// Reads the declared parameters; those that are wrong are reported and left out.
pub fn declared(entries: Option<&At<Entries<ParameterTable>>>, reader: &mut Reader) -> Vec<Parameter> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    entries.iter().filter_map(|(name, table)| one(name, table, reader)).collect()
}

fn one(name: &At<String>, table: &At<ParameterTable>, reader: &mut Reader) -> Option<Parameter> {
    if !is_plain_name(&name.value) || name.value.contains('-') {
        let message = format!("`{}` cannot be the name of a parameter", name.value);
        reader.error("bad-name", name.span.clone(), message).help =
            Some("a name has letters, digits and underscores".to_owned());
        return None;
    }
    let kind = table.value.r#type.0.as_ref()?.value;
    let choices = table.value.choices.as_ref().map_or(&[][..], |choices| &choices.value);
    // The choices of a list are those of its items.
    let item = |value: &At<serde_json::Value>, reader: &mut Reader| match kind {
        ParameterType::List => ParameterType::List
            .take(&serde_json::Value::Array(vec![value.value.clone()]))
            .map(|list| ParameterValue::Text(list.to_string())),
        _ => typed(&name.value, kind, value, reader),
    };
    let choices: Vec<ParameterValue> = choices.iter().filter_map(|choice| item(choice, reader)).collect();
    let default = match &table.value.default {
        Some(default) => Some(typed(&name.value, kind, default, reader)?),
        None => None,
    };
    let parameter =
        Parameter { name: name.value.clone(), kind, default, choices, doc: table.value.doc.as_ref().map(text) };
    if let (Some(value), Some(at)) = (&parameter.default, &table.value.default)
        && !parameter.allows(value)
    {
        no_choice(&parameter, value, at.span.clone(), reader);
    }
    match (&table.value.required, &parameter.default) {
        (Some(At { value: true, span }), Some(_)) => {
            let message = format!("the parameter `{}` has a default, and so no step has to set it", name.value);
            reader.error("bad-parameter", span.clone(), message).help =
                Some("leave out `required` or `default`".to_owned());
        }
        (Some(At { value: false, span }), None) => {
            let message = format!("the parameter `{}` has no value where a step sets none", name.value);
            reader.error("bad-parameter", span.clone(), message).help =
                Some(format!("give it a default: {}", kind.described()));
        }
        _ => {}
    }
    Some(parameter)
}

fn text(at: &At<String>) -> String {
    at.value.clone()
}

fn typed(name: &str, kind: ParameterType, at: &At<serde_json::Value>, reader: &mut Reader) -> Option<ParameterValue> {
    if at.value.as_str().is_some_and(|text| text.contains("{{")) {
        let message = format!("the parameter `{name}` takes a value, not a template");
        reader.error("bad-parameter", at.span.clone(), message).help =
            Some("what changes from unit to unit belongs into the step's `request`".to_owned());
        return None;
    }
    let taken = kind.take(&at.value);
    if taken.is_none() {
        let message = format!("the parameter `{name}` is of type {}", kind.word());
        reader.error("wrong-type", at.span.clone(), message).help = Some(kind.described().to_owned());
    }
    taken
}

fn no_choice(parameter: &Parameter, value: &ParameterValue, span: Span, reader: &mut Reader) {
    let choices: Vec<String> = parameter.choices.iter().map(ToString::to_string).collect();
    let message = format!("`{value}` is no choice of the parameter `{}`", parameter.name);
    let help = known_names(&value.to_string(), choices.iter().map(String::as_str));
    reader.error("unknown-value", span, message).help = help;
}

/// The values that a step gives, over the defaults; what is wrong or missing is reported at the step's place.
pub fn values(
    declared: &[Parameter],
    with: Option<&At<Entries<serde_json::Value>>>,
    hook: &At<String>,
    reader: &mut Reader,
) -> ParameterValues {
    let given = with.map_or(&[][..], |with| &with.value.0);
    let mut values: ParameterValues =
        declared.iter().map(|parameter| (parameter.name.clone(), parameter.sample())).collect();
    for (name, value) in given {
        let Some(parameter) = declared.iter().find(|parameter| parameter.name == name.value) else {
            let help = known_names(&name.value, declared.iter().map(|parameter| parameter.name.as_str()));
            let message = format!("the hook `{}` has no parameter `{}`", hook.value, name.value);
            reader.error("unknown-parameter", name.span.clone(), message).help =
                help.or_else(|| Some("it has no parameters at all".to_owned()));
            continue;
        };
        let Some(taken) = typed(&name.value, parameter.kind, value, reader) else { continue };
        if !parameter.allows(&taken) {
            no_choice(parameter, &taken, value.span.clone(), reader);
        }
        values.insert(name.value.clone(), taken);
    }
    for parameter in declared.iter().filter(|parameter| parameter.is_required()) {
        if !given.iter().any(|(name, _)| name.value == parameter.name) {
            let message = format!("the hook `{}` needs the parameter `{}`", hook.value, parameter.name);
            let doc = parameter.doc.as_ref().map(|doc| format!(": {doc}")).unwrap_or_default();
            let span = with.map_or(hook.span.clone(), |with| with.span.clone());
            reader.error("missing-parameter", span, message).help =
                Some(format!("with = {{ {} = … }}{doc}", parameter.name));
        }
    }
    values
}

/// The name in `{{ param.name }}`, where a text is that and nothing else.
fn only_parameter(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let name = inner.strip_prefix("param.")?;
    name.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(name)
}

impl Reader {
    /// The parameter that stands in the place of a number, a flag or a duration; an error where there is no such one.
    pub fn parameter(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Result<ParameterValue, String>> {
        let parameters = self.parameters.as_ref()?;
        let name = only_parameter(value.get_ref().as_str()?)?.to_owned();
        let found = parameters.get(&name).cloned();
        self.used.insert(name.clone());
        Some(found.ok_or(name))
    }

    /// Reports that a parameter cannot stand in this place.
    pub fn wrong_parameter<T>(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<T> {
        let name = value.get_ref().as_str().and_then(only_parameter).unwrap_or_default().to_owned();
        let known = self.parameters.as_ref().and_then(|parameters| parameters.get(&name));
        match known.cloned() {
            Some(held) => {
                let message = format!("`{}` has to be {expected}, the parameter `{name}` is {held}", self.path());
                self.error("wrong-type", value.span(), message);
            }
            None => self.unknown_parameter(&name, value.span()),
        }
        None
    }

    /// Reports a parameter that the hook does not declare.
    pub fn unknown_parameter(&mut self, name: &str, span: Span) {
        let names: Vec<String> = self.parameters.iter().flat_map(BTreeMap::keys).cloned().collect();
        let help = known_names(name, names.iter().map(String::as_str));
        self.error("unknown-parameter", span, format!("there is no parameter `{name}`")).help =
            help.or_else(|| Some(format!("declare it: [parameters.{name}]")));
    }

    /// A text that is no template, with the values of parameters in it: `$.{{ param.kind }}[*]`.
    pub fn filled(&mut self, text: &str, span: Span) -> Option<String> {
        let Some(parameters) = self.parameters.clone().filter(|_| text.contains("{{")) else {
            return Some(text.to_owned());
        };
        let mut filled = String::new();
        let mut rest = text;
        while let Some(Range { start, end }) = braces(rest) {
            filled.push_str(&rest[..start]);
            let Some(name) = only_parameter(&rest[start..end]) else {
                let message = format!("`{}` is no template: it may have parameters, and nothing else", self.path());
                self.error("bad-parameter", span, message).help = Some("as in {{ param.name }}".to_owned());
                return None;
            };
            let Some(value) = parameters.get(name) else {
                self.unknown_parameter(name, span);
                return None;
            };
            self.used.insert(name.to_owned());
            filled.push_str(&value.to_string());
            rest = &rest[end..];
        }
        filled.push_str(rest);
        Some(filled)
    }
}

/// The first `{{ … }}` of a text.
fn braces(text: &str) -> Option<Range<usize>> {
    let start = text.find("{{")?;
    let end = start + text[start..].find("}}")? + 2;
    Some(start..end)
}
