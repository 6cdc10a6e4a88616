//! `[serve]`: how `haul serve` works.

use std::time::Duration;

use super::connection_file::SecretValue;
use super::door::door;
use super::reader::{At, Reader, twin};
use super::scalar::{Count, Names};
use super::traces::{TracesTable, traces};
use super::value::TypedDuration;
use crate::model::serve::ServeSettings;
use crate::time::display_duration;

/// A lease that is shorter would be lost to an ordinary pause of the machine.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// What is looked at more often costs more than it is worth.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// What is looked at less often seems to stand still.
const LONGEST_POLL: Duration = Duration::from_mins(1);

twin! {
    /// How `haul serve` works.
    pub struct ServeTable {
        /// How many runs are under way at once; those that only wait are not counted. Default 4.
        pub workers: Option<At<Count>>,
        /// How long a process that says nothing is believed to be alive: then another takes its runs over. Default `"30s"`.
        pub lease: Option<At<TypedDuration>>,
        /// How long runs may go on when the process is asked to end; then they are stopped, and begun again by the next
        /// process. Default `"30s"`.
        pub drain_timeout: Option<At<TypedDuration>>,
        /// How often the files of the project, and what other processes ask for, are looked at. Default `"1s"`.
        pub poll: Option<At<TypedDuration>>,
        /// The address that requests over HTTP come to: an IP address and a port, 0 for any that is free; `"off"` for none.
        /// Default `"127.0.0.1:8642"`. One that other machines reach needs a `token`.
        pub listen: Option<At<String>>,
        /// Where the token is found that requests have to bring. Default: one is made, in the file `token` of the state folder.
        pub token: Option<At<SecretValue>>,
        /// Names by which requests may call it, besides `localhost` and IP addresses.
        pub hosts: Option<At<Names>>,
        /// The address under which people reach it: messages link to it. Default: they have no links.
        pub url: Option<At<String>>,
        /// Where the traces of runs go, of `haul run` too. Needs a haul that was built with the feature `otel`. Default: nowhere.
        pub traces: Option<At<TracesTable>>,
    }
}

/// Reads how the daemon works.
pub fn serve(at: Option<&At<ServeTable>>, reader: &mut Reader) -> ServeSettings {
    let default = ServeSettings::default();
    let Some(table) = at.map(|at| &at.value) else { return default };
    let mut within = |key: &str, at: Option<&At<TypedDuration>>, least: Duration, most: Duration, usual: Duration| {
        let Some(at) = at else { return usual };
        if (least..=most).contains(&at.value.0) {
            return at.value.0;
        }
        let [least, most] = [least, most].map(display_duration);
        reader
            .error("out-of-range", at.span.clone(), format!("`serve.{key}` lies outside of {least} to {most}"))
            .help = Some(format!("{key} = \"{}\" is what holds without it", display_duration(usual)));
        usual
    };
    let day = Duration::from_hours(24);
    ServeSettings {
        workers: table
            .workers
            .as_ref()
            .map_or(default.workers, |at| usize::try_from(at.value.0.get()).unwrap_or(default.workers)),
        lease: within("lease", table.lease.as_ref(), SHORTEST_LEASE, day, default.lease),
        drain_timeout: within(
            "drain_timeout",
            table.drain_timeout.as_ref(),
            Duration::ZERO,
            day,
            default.drain_timeout,
        ),
        poll: within("poll", table.poll.as_ref(), SHORTEST_POLL, LONGEST_POLL, default.poll),
        door: door(table, reader),
        url: table.url.as_ref().and_then(|at| address(at, reader)),
        traces: table.traces.as_ref().and_then(|at| traces(at, reader)),
    }
}

/// An address that people can follow.
fn address(at: &At<String>, reader: &mut Reader) -> Option<String> {
    let read = url::Url::parse(&at.value).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if read.is_none() {
        reader.error("bad-address", at.span.clone(), format!("`{}` is no address", at.value)).help =
            Some("url = \"https://haul.example.com\"".to_owned());
    }
    read.map(|_| at.value.trim_end_matches('/').to_owned())
}
