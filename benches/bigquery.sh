#!/usr/bin/env bash
# Prints how fast rows are uploaded to BigQuery, beside a raw upload of as many bytes to the same server in the same run.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
profile="${HAUL_BENCH_PROFILE:-release}"
[ "$profile" = release ] && flags=(--release) || flags=()
cargo build --locked "${flags[@]}" --quiet --bin haul
exec python3 benches/bigquery.py "$CARGO_TARGET_DIR/$profile" "$@"
