//! What the text of a connection's field has to look like.

use std::num::NonZeroU32;
use std::time::Duration;

use super::fields::{Fault, Field, Form, nearest_or_all};
use crate::config::value::ByteSize;
use crate::model::connection::Rate;
use crate::time::parse_duration;

/// Says what is wrong with a text that has to be of the field's form.
pub(super) fn check_form(key: &str, field: &Field, text: &str) -> Result<(), Fault> {
    let wrong = |message: String| Fault::of(key, message);
    match field.form {
        Form::Text | Form::Map => {
            let may_be_empty = field.secret || key == "user";
            if text.trim().is_empty() && !may_be_empty {
                return Err(wrong(format!("`{key}` is empty")));
            }
            if key == "stage_bucket"
                && !text.strip_prefix("gs://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
            {
                return Err(wrong("`stage_bucket` is no bucket of Google Cloud Storage".to_owned())
                    .help("it looks like \"gs://my-bucket/haul\""));
            }
            if matches!(key, "url" | "token_url" | "endpoint" | "storage_endpoint") {
                return check_url(key, text);
            }
        }
        Form::Word(words) => {
            if !words.contains(&text) {
                return Err(
                    wrong(format!("`{key}` has a word that is none of its values")).help(nearest_or_all(text, words))
                );
            }
        }
        Form::Count => {
            if text.parse::<NonZeroU32>().is_err() {
                return Err(wrong(format!("`{key}` has to be a whole number from 1 on")));
            }
        }
        Form::Port => {
            if text.parse::<u16>().map_or(true, |port| port == 0) {
                return Err(wrong(format!("`{key}` has to be a whole number from 1 to 65535")));
            }
        }
        Form::Duration => {
            let read = parse_duration(text).map_err(|error| {
                let help = error.hints().first().copied().unwrap_or("a duration looks like \"60s\"").to_owned();
                wrong(format!("`{key}` has to be a duration")).help(help)
            })?;
            if read.is_zero() {
                return Err(wrong(format!("`{key}` has to be longer than nothing")));
            }
        }
        Form::Size => {
            if ByteSize::parse(text).is_none() {
                return Err(wrong(format!("`{key}` is no number of bytes"))
                    .help("sizes look like \"500 MB\", \"10 GB\", \"1 TiB\""));
            }
        }
        Form::Rate => {
            read_rate(text)?;
        }
        Form::Price => {
            if crate::model::cost::Tariff::parse(text).is_err() {
                return Err(wrong(format!("`{key}` has to be an amount with its currency")).help("\"6.25 USD\""));
            }
        }
        Form::Place => super::files::check_place(text)?,
    }
    Ok(())
}

fn check_url(key: &str, text: &str) -> Result<(), Fault> {
    let help = "it looks like \"https://api.example.com/v1\"";
    let url =
        url::Url::parse(text).map_err(|error| Fault::of(key, format!("`{key}` is no address: {error}")).help(help))?;
    if !matches!(url.scheme(), "http" | "https") {
        let message = format!("`{key}` has to begin with http:// or https://");
        return Err(Fault::of(key, message).help(help));
    }
    Ok(())
}

/// Reads `"10/s"`, `"600/m"`, `"1000/h"`, `"5000/d"`.
pub(super) fn read_rate(text: &str) -> Result<Rate, Fault> {
    let fault = || {
        Fault::of("rate", "`rate` has to be a number of requests in a period").help("\"10/s\", \"600/m\" or \"1000/h\"")
    };
    let (requests, period) = text.split_once('/').ok_or_else(fault)?;
    let requests = requests.trim().parse().map_err(|_| fault())?;
    let seconds = match period.trim() {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        "d" | "day" => 86_400,
        _ => return Err(fault()),
    };
    Ok(Rate { requests, per: Duration::from_secs(seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_periods() {
        let rate = read_rate("600/m").expect("a rate");
        assert_eq!((rate.requests.get(), rate.per), (600, Duration::from_mins(1)));
        assert!(read_rate("0/s").is_err() && read_rate("10").is_err() && read_rate("1/fortnight").is_err());
    }
}
