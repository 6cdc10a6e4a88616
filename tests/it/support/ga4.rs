//! A small website's GA4 export: the schema of its daily tables, and days of events that are always the same.

use serde_json::{Value, json};

/// The columns of `events_YYYYMMDD`, as the export's documentation lists them: the records and lists that people query.
pub fn schema() -> Value {
    let value = |more: &[&str]| {
        let mut fields = vec![
            field("string_value", "STRING"),
            field("int_value", "INTEGER"),
            field("float_value", "FLOAT"),
            field("double_value", "FLOAT"),
        ];
        fields.extend(more.iter().map(|name| field(name, "INTEGER")));
        fields
    };
    let pairs = |name: &str, more: &[&str]| {
        json!({ "name": name, "type": "RECORD", "mode": "REPEATED", "fields": [
            field("key", "STRING"),
            record("value", &value(more)),
        ] })
    };
    json!([
        field("event_date", "STRING"),
        field("event_timestamp", "INTEGER"),
        field("event_name", "STRING"),
        pairs("event_params", &[]),
        field("event_value_in_usd", "FLOAT"),
        field("user_id", "STRING"),
        field("user_pseudo_id", "STRING"),
        record("privacy_info", &[field("analytics_storage", "STRING"), field("uses_transient_token", "STRING")]),
        pairs("user_properties", &["set_timestamp_micros"]),
        field("user_first_touch_timestamp", "INTEGER"),
        record("device", &[
            field("category", "STRING"),
            field("operating_system", "STRING"),
            field("language", "STRING"),
            field("is_limited_ad_tracking", "STRING"),
            record("web_info", &[field("browser", "STRING"), field("browser_version", "STRING")]),
        ]),
        record("geo", &[field("city", "STRING"), field("country", "STRING"), field("continent", "STRING")]),
        record("traffic_source", &[field("name", "STRING"), field("medium", "STRING"), field("source", "STRING")]),
        field("stream_id", "STRING"),
        field("platform", "STRING"),
        record("ecommerce", &[
            field("total_item_quantity", "INTEGER"),
            field("purchase_revenue", "FLOAT"),
            field("transaction_id", "STRING"),
        ]),
        { "name": "items", "type": "RECORD", "mode": "REPEATED", "fields": [
            field("item_id", "STRING"),
            field("item_name", "STRING"),
            field("price", "FLOAT"),
            field("quantity", "INTEGER"),
            pairs("item_params", &[]),
        ] },
        field("is_active_user", "BOOLEAN"),
    ])
}

fn field(name: &str, type_name: &str) -> Value {
    json!({ "name": name, "type": type_name })
}

fn record(name: &str, fields: &[Value]) -> Value {
    json!({ "name": name, "type": "RECORD", "fields": fields })
}

/// The events of a day, `count` of them: sessions of a page view, a scroll and, every third one, a purchase.
pub fn day(date: &str, count: u64) -> Vec<Value> {
    (0..count).map(|number| event(date, number)).collect()
}

/// One event; the same number on the same day is the same event.
pub fn event(date: &str, number: u64) -> Value {
    let compact = date.replace('-', "");
    let midnight: chrono::DateTime<chrono::Utc> = format!("{date}T00:00:00Z").parse().expect("a date");
    let micros = midnight.timestamp_micros() + i64::try_from(number).expect("small") * 61_000_001 + 7;
    let session = number / 3;
    let name = ["page_view", "scroll", "purchase"][usize::try_from(number % 3).expect("small")];
    let mut params = vec![
        param("ga_session_id", "int_value", &json!(9_007_199_254_740_993 + session)),
        param("page_location", "string_value", &json!(format!("https://shop.example/?q=\"Größe\"&n={number}"))),
    ];
    if name == "scroll" {
        params.push(param("percent_scrolled", "double_value", &json!(0.1)));
    }
    let purchase = name == "purchase";
    let items = if purchase {
        (0..=session % 2)
            .map(|item| {
                json!({
                    "item_id": format!("SKU-{item}"), "item_name": "Größe \\ M", "price": 19.99, "quantity": item + 1,
                    "item_params": [param("colour", "string_value", &json!("blau"))],
                })
            })
            .collect()
    } else {
        Vec::new()
    };
    json!({
        "event_date": compact,
        "event_timestamp": micros,
        "event_name": name,
        "event_params": params,
        "event_value_in_usd": if purchase { json!(21.5) } else { Value::Null },
        "user_id": Value::Null,
        "user_pseudo_id": format!("{}.{}", 1_000_000_007 * (session + 1) % 999_983, session),
        "privacy_info": { "analytics_storage": "Yes", "uses_transient_token": "No" },
        "user_properties": [{ "key": "plan", "value": {
            "string_value": "free", "int_value": Value::Null, "float_value": Value::Null, "double_value": Value::Null,
            "set_timestamp_micros": micros - 1,
        } }],
        "user_first_touch_timestamp": micros - 86_400_000_000,
        "device": {
            "category": "mobile", "operating_system": "Android", "language": "ko-kr", "is_limited_ad_tracking": "No",
            "web_info": { "browser": "Chrome", "browser_version": "119.0" },
        },
        "geo": { "city": "서울", "country": "South Korea", "continent": "Asia" },
        "traffic_source": if session.is_multiple_of(4) {
            json!({ "name": "(direct)", "medium": "(none)", "source": "(direct)" })
        } else {
            json!({ "name": Value::Null, "medium": Value::Null, "source": Value::Null })
        },
        "stream_id": "3141592653",
        "platform": "WEB",
        "ecommerce": if purchase {
            json!({ "total_item_quantity": items.len(), "purchase_revenue": 21.5, "transaction_id": format!("T{number}") })
        } else {
            json!({ "total_item_quantity": Value::Null, "purchase_revenue": Value::Null, "transaction_id": Value::Null })
        },
        "items": items,
        "is_active_user": true,
    })
}

fn param(key: &str, kind: &str, value: &Value) -> Value {
    let mut all = json!({ "string_value": Value::Null, "int_value": Value::Null, "float_value": Value::Null, "double_value": Value::Null });
    all[kind] = value.clone();
    json!({ "key": key, "value": all })
}
