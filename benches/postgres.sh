#!/usr/bin/env bash
# Prints how fast staged rows come into PostgreSQL beside `psql \copy`, what haul adds to a transform, and how long 1,000 units take to plan.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
scripts/counterparts.sh postgres >/dev/null
cargo build --locked --release --quiet --bin haul
exec python3 benches/postgres.py "$CARGO_TARGET_DIR/release" "$@"
