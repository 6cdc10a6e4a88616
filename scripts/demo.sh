#!/usr/bin/env bash
# Builds haul and runs the demonstration: a week of real earthquakes, several mornings in a row, without a network.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
[ -d "$CARGO_TARGET_DIR/debug" ] || echo "The first build compiles DuckDB: about 15 to 40 minutes." >&2
cargo build --locked --quiet --bin haul
exec "$CARGO_TARGET_DIR/debug/haul" demo "$@"
