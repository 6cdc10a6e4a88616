//! The `haul` binary: parses, wires, and maps the outcome to an exit code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = haul::cli::Arguments::parse();
    // Only one provider is compiled in; a second installation cannot happen before this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(haul::cli::main(arguments))),
        Err(_) => ExitCode::from(70),
    }
}
