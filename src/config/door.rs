//! `listen`, `token` and `hosts` of `[serve]`: where the daemon can be asked, and by whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::connection_file::SecretValue;
use super::diagnostic::Diagnostic;
use super::reader::{At, Reader};
use super::serve::ServeTable;
use crate::model::serve::{DoorSettings, Listen, PORT, SecretPlace};

/// Reads where the daemon can be asked.
pub fn door(table: &ServeTable, reader: &mut Reader) -> DoorSettings {
    let default = DoorSettings::default();
    let token = table.token.as_ref().and_then(|token| place(token, reader));
    let listen = match &table.listen {
        None => default.listen,
        Some(at) if at.value == "off" => None,
        Some(at) => address(at, reader),
    };
    if let (Some(listen), Some(at), None) = (&listen, &table.listen, &table.token)
        && !listen.address.ip().is_loopback()
    {
        let message = format!("other machines reach `{}`, and there is no token of your own", at.value);
        reader.error("open-door", at.span.clone(), message).help = Some(
            "token = { env = \"HAUL_TOKEN\" }, { file = \"…\" } or { command = \"…\" }; openssl rand -hex 32 makes one"
                .to_owned(),
        );
    }
    DoorSettings { listen, token, hosts: hosts(table, reader) }
}

fn address(at: &At<String>, reader: &mut Reader) -> Option<Listen> {
    let text = at.value.trim();
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let read = named.as_deref().unwrap_or(text).parse::<SocketAddr>();
    let Ok(address) = read else {
        let message = format!("`{text}` is no address with a port");
        let help = match text.parse::<IpAddr>() {
            Ok(ip) => format!("listen = \"{}\"", SocketAddr::new(ip, PORT)),
            Err(_) => format!("listen = \"{}\", or \"off\"", SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT)),
        };
        reader.error("bad-address", at.span.clone(), message).help = Some(help);
        return None;
    };
    Some(Listen { address, chosen: true })
}

fn place(at: &At<SecretValue>, reader: &mut Reader) -> Option<SecretPlace> {
    Some(match &at.value {
        SecretValue::Env(name) => SecretPlace::Env(name.clone()),
        SecretValue::File(path) => SecretPlace::File(path.clone()),
        SecretValue::Command(command) => SecretPlace::Command(command.clone()),
        SecretValue::Plain(_) => {
            // An excerpt of the line would show it.
            let origin = reader.source.origin(at.span.start);
            let message = format!("{}:{}: a token does not stand in this file", origin.file.display(), origin.line);
            let help = "say where it is: { env = \"HAUL_TOKEN\" }, { file = \"…\" } or { command = \"…\" }";
            reader.diagnostics.push(Diagnostic::error("written-secret", message).help(help));
            return None;
        }
    })
}

fn hosts(table: &ServeTable, reader: &mut Reader) -> Vec<String> {
    let mut hosts = Vec::new();
    for (at, name) in table.hosts.iter().flat_map(|hosts| hosts.value.0.iter().map(move |name| (hosts, name))) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(is_name) {
            reader.error("bad-host", at.span.clone(), format!("`{name}` is no name of a host")).help =
                Some("only the name, without `https://` and without a port: \"haul.example.com\"".to_owned());
            continue;
        }
        hosts.push(name.clone());
    }
    hosts
}
