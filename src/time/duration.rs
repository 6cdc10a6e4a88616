//! Typed durations: `"90s"`, `"15m"`, `"3d"`, never bare numbers.

use std::time::Duration;

use crate::error::{Error, Result};

/// Reads a duration with its unit: `500ms`, `90s`, `15m`, `1h 30m`, `3d`, `2w`.
///
/// # Errors
/// A text without a unit, or with one that is not a unit of time.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::config(format!("the duration `{trimmed}` has no unit"))
            .hint(format!("write \"{trimmed}s\", \"{trimmed}m\", \"{trimmed}h\" or \"{trimmed}d\"")));
    }
    humantime::parse_duration(trimmed).map_err(|error| {
        Error::config(format!("`{trimmed}` is not a duration"))
            .because(error)
            .hint("durations look like \"500ms\", \"90s\", \"15m\", \"1h 30m\", \"3d\"")
    })
}

/// Writes a duration the way a person would: `1h 30m`, `250ms`.
pub fn display_duration(duration: Duration) -> String {
    let rounded = if duration >= Duration::from_secs(10) {
        Duration::from_secs(duration.as_secs())
    } else {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    humantime::format_duration(rounded).to_string()
}

/// A pause as people read it: `0.5 s`, `12.0 s`, `8h 31m 12s`.
pub fn display_pause(pause: Duration) -> String {
    if pause < Duration::from_mins(1) { format!("{:.1} s", pause.as_secs_f64()) } else { display_duration(pause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_refused_with_the_units_it_might_have_meant() {
        let error = parse_duration("3").expect_err("no unit");
        assert!(error.hints()[0].contains("\"3d\""));
        assert_eq!(parse_duration("3d").expect("three days"), Duration::from_hours(72));
    }
}
