//! The `haul` binary: parses, wires, and maps the outcome to an exit code.

fn main() {}
