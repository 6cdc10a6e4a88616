//! Events of Google Analytics 4 as its export to BigQuery has them: the columns' types, and rows built from few words.
//!
//! The columns are those of <https://support.google.com/analytics/answer/7029846>.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveDateTime, TimeZone};
use serde_json::{Map, Value, json};

use super::schema::LogicalType;
use crate::error::{Error, Kind, Result};
use crate::time::{Instant, Tz};

const PAIRS: &str = "STRUCT(key VARCHAR, value STRUCT(string_value VARCHAR, int_value BIGINT, float_value DOUBLE, double_value DOUBLE))[]";

const COLUMNS: &[(&str, &str)] = &[
    ("event_date", "VARCHAR"),
    ("event_timestamp", "BIGINT"),
    ("event_name", "VARCHAR"),
    ("event_params", PAIRS),
    ("event_previous_timestamp", "BIGINT"),
    ("event_value_in_usd", "DOUBLE"),
    ("event_bundle_sequence_id", "BIGINT"),
    ("event_server_timestamp_offset", "BIGINT"),
    ("user_id", "VARCHAR"),
    ("user_pseudo_id", "VARCHAR"),
    ("privacy_info", "STRUCT(analytics_storage VARCHAR, ads_storage VARCHAR, uses_transient_token VARCHAR)"),
    (
        "user_properties",
        "STRUCT(key VARCHAR, value STRUCT(string_value VARCHAR, int_value BIGINT, float_value DOUBLE, double_value DOUBLE, set_timestamp_micros BIGINT))[]",
    ),
    ("user_first_touch_timestamp", "BIGINT"),
    ("user_ltv", "STRUCT(revenue DOUBLE, currency VARCHAR)"),
    (
        "device",
        "STRUCT(category VARCHAR, mobile_brand_name VARCHAR, mobile_model_name VARCHAR, mobile_marketing_name VARCHAR, mobile_os_hardware_model VARCHAR, operating_system VARCHAR, operating_system_version VARCHAR, vendor_id VARCHAR, advertising_id VARCHAR, language VARCHAR, is_limited_ad_tracking VARCHAR, time_zone_offset_seconds BIGINT, browser VARCHAR, browser_version VARCHAR, web_info STRUCT(browser VARCHAR, browser_version VARCHAR, hostname VARCHAR))",
    ),
    (
        "geo",
        "STRUCT(city VARCHAR, country VARCHAR, continent VARCHAR, region VARCHAR, sub_continent VARCHAR, metro VARCHAR)",
    ),
    (
        "app_info",
        "STRUCT(id VARCHAR, version VARCHAR, install_store VARCHAR, firebase_app_id VARCHAR, install_source VARCHAR)",
    ),
    ("traffic_source", "STRUCT(name VARCHAR, medium VARCHAR, source VARCHAR)"),
    ("stream_id", "VARCHAR"),
    ("platform", "VARCHAR"),
    ("event_dimensions", "STRUCT(hostname VARCHAR)"),
    (
        "ecommerce",
        "STRUCT(total_item_quantity BIGINT, purchase_revenue_in_usd DOUBLE, purchase_revenue DOUBLE, refund_value_in_usd DOUBLE, refund_value DOUBLE, shipping_value_in_usd DOUBLE, shipping_value DOUBLE, tax_value_in_usd DOUBLE, tax_value DOUBLE, unique_items BIGINT, transaction_id VARCHAR)",
    ),
    (
        "items",
        "STRUCT(item_id VARCHAR, item_name VARCHAR, item_brand VARCHAR, item_variant VARCHAR, item_category VARCHAR, item_category2 VARCHAR, item_category3 VARCHAR, item_category4 VARCHAR, item_category5 VARCHAR, price_in_usd DOUBLE, price DOUBLE, quantity BIGINT, item_revenue_in_usd DOUBLE, item_revenue DOUBLE, item_refund_in_usd DOUBLE, item_refund DOUBLE, coupon VARCHAR, affiliation VARCHAR, location_id VARCHAR, item_list_id VARCHAR, item_list_name VARCHAR, item_list_index VARCHAR, promotion_id VARCHAR, promotion_name VARCHAR, creative_name VARCHAR, creative_slot VARCHAR, item_params STRUCT(key VARCHAR, value STRUCT(string_value VARCHAR, int_value BIGINT, float_value DOUBLE, double_value DOUBLE))[])[]",
    ),
    (
        "collected_traffic_source",
        "STRUCT(manual_campaign_id VARCHAR, manual_campaign_name VARCHAR, manual_source VARCHAR, manual_medium VARCHAR, manual_term VARCHAR, manual_content VARCHAR, manual_source_platform VARCHAR, manual_creative_format VARCHAR, manual_marketing_tactic VARCHAR, gclid VARCHAR, dclid VARCHAR, srsltid VARCHAR)",
    ),
    ("is_active_user", "BOOLEAN"),
    ("batch_event_index", "BIGINT"),
    ("batch_page_id", "BIGINT"),
    ("batch_ordering_id", "BIGINT"),
];

/// The words of a built event that are no columns.
const WORDS: &[&str] = &["event", "at", "user", "session", "params"];

/// The columns of the daily tables with their types.
///
/// # Errors
/// Never, as long as the list above is right.
pub fn columns() -> Result<BTreeMap<String, LogicalType>> {
    COLUMNS.iter().map(|(name, text)| Ok(((*name).to_owned(), LogicalType::parse(text)?))).collect()
}

/// A row of a daily table out of what somebody wants to say of an event.
///
/// `event` and `at` are needed: its name, and when it happened, in `zone` where it has no offset. `user` is the
/// `user_pseudo_id`, `session` the parameter `ga_session_id`, `params` and `user_properties` are names with values; every other
/// word is a column of the export, whose own fields may be left out.
///
/// # Errors
/// What is missing, a word that is none, a value that the column cannot have.
pub fn row(event: &Map<String, Value>, zone: Tz) -> Result<Map<String, Value>> {
    let mut row = Map::new();
    let name = event.get("event").and_then(Value::as_str);
    let name = name.ok_or_else(|| fault("an event has no name").hint("event = \"page_view\""))?;
    let at = event.get("at").and_then(Value::as_str).and_then(|text| moment(text, zone));
    let at = at.ok_or_else(|| {
        fault("an event does not say when it happened")
            .hint("at = \"2024-05-01T10:00:00\", in the zone of the pipeline")
    })?;
    row.insert("event_name".to_owned(), json!(name));
    row.insert("event_timestamp".to_owned(), json!(at.timestamp_micros()));
    row.insert("event_date".to_owned(), json!(at.with_timezone(&zone).format("%Y%m%d").to_string()));
    row.insert("platform".to_owned(), json!("WEB"));
    let mut params = Map::new();
    for (word, value) in event {
        match word.as_str() {
            "event" | "at" => {}
            "user" => drop(row.insert("user_pseudo_id".to_owned(), value.clone())),
            "session" => drop(params.insert("ga_session_id".to_owned(), value.clone())),
            "params" => params.extend(members(word, value)?.clone()),
            "user_properties" => drop(row.insert(word.clone(), pairs(members(word, value)?)?)),
            _ => {
                let Some((_, text)) = COLUMNS.iter().find(|(name, _)| name == word) else {
                    let known = WORDS.iter().chain(COLUMNS.iter().map(|(name, _)| name));
                    let near = known.copied().max_by(|a, b| strsim::jaro(a, word).total_cmp(&strsim::jaro(b, word)));
                    let near = near.filter(|near| strsim::jaro(near, word) > 0.7);
                    let error = fault(format!("an event has no `{word}`"));
                    return Err(match near {
                        Some(near) => error.hint(format!("did you mean `{near}`?")),
                        None => error.hint(format!("parameters stand in params = {{ {word} = … }}")),
                    });
                };
                let built = fitting(word, value, &LogicalType::parse(text)?)?;
                row.insert(word.clone(), built);
            }
        }
    }
    row.insert("event_params".to_owned(), pairs(&params)?);
    Ok(row)
}

/// A value as a column has it: of records, only fields that there are; texts of what should be text.
fn fitting(path: &str, value: &Value, data_type: &LogicalType) -> Result<Value> {
    match (data_type, value) {
        (_, Value::Null) => Ok(Value::Null),
        (LogicalType::List(element), Value::Object(members)) if is_pairs(element) => pairs(members),
        (LogicalType::List(element), Value::Array(items)) => {
            items.iter().map(|item| fitting(path, item, element)).collect()
        }
        (LogicalType::Struct(fields), Value::Object(members)) => {
            let mut built = Map::new();
            for (name, value) in members {
                let path = format!("{path}.{name}");
                let Some(field) = fields.iter().find(|field| field.name == *name) else {
                    let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                    return Err(
                        fault(format!("an event has no `{path}`")).hint(format!("there are {}", known.join(", ")))
                    );
                };
                built.insert(name.clone(), fitting(&path, value, &field.data_type)?);
            }
            Ok(Value::Object(built))
        }
        (LogicalType::Text, Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
            Ok(Value::String(value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        }
        (LogicalType::BigInt, Value::Number(number)) if number.is_i64() => Ok(value.clone()),
        (LogicalType::Double, Value::Number(_)) | (LogicalType::Boolean, Value::Bool(_)) => Ok(value.clone()),
        _ => Err(fault(format!("`{path}` of an event is {data_type}, which {value} is not"))),
    }
}

fn is_pairs(element: &LogicalType) -> bool {
    matches!(element, LogicalType::Struct(fields) if fields.first().is_some_and(|field| field.name == "key"))
}

fn members<'v>(word: &str, value: &'v Value) -> Result<&'v Map<String, Value>> {
    value.as_object().ok_or_else(|| fault(format!("`{word}` of an event are names with values")))
}

/// Names with values as the export has them: each value in the field of its kind.
fn pairs(members: &Map<String, Value>) -> Result<Value> {
    let mut all = Vec::with_capacity(members.len());
    for (key, value) in members {
        let value = match value {
            Value::Null => json!({}),
            Value::String(text) => json!({ "string_value": text }),
            Value::Bool(flag) => json!({ "string_value": flag.to_string() }),
            Value::Number(number) if number.is_i64() => json!({ "int_value": number }),
            Value::Number(number) => json!({ "double_value": number }),
            Value::Array(_) | Value::Object(_) => {
                return Err(fault(format!("the parameter `{key}` of an event is a text, a number, true or false")));
            }
        };
        all.push(json!({ "key": key, "value": value }));
    }
    Ok(Value::Array(all))
}

/// An instant, or a wall clock's time in the zone.
pub fn moment(text: &str, zone: Tz) -> Option<Instant> {
    let text = text.trim().replacen(' ', "T", 1);
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(&text) {
        return Some(instant.to_utc());
    }
    let local = text
        .parse::<NaiveDateTime>()
        .or_else(|_| NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M"))
        .or_else(|_| NaiveDate::parse_from_str(&text, "%Y-%m-%d").map(|date| date.and_time(chrono::NaiveTime::MIN)));
    zone.from_local_datetime(&local.ok()?).earliest().map(|at| at.to_utc())
}

fn fault(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}
