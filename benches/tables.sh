#!/usr/bin/env bash
# Prints how fast an event table of PostgreSQL comes into DuckDB, beside `COPY TO` alone in the same run.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
scripts/counterparts.sh postgres >/dev/null
cargo build --locked --release --quiet --bin haul
exec python3 benches/tables.py "$CARGO_TARGET_DIR/release" "$@"
