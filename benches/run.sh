#!/usr/bin/env bash
# Prints how long haul's main job takes beside its peers, with ratios, all in one run; installs the peers from PyPI.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
venv="$CARGO_TARGET_DIR/bench-venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "dlt[duckdb,parquet]==1.31.*" requests duckdb aiohttp
cargo build --locked --release --quiet --bin haul --example bench_api
case "${1:-}" in
    fan-out) shift; exec "$venv/bin/python" benches/fan_out.py "$CARGO_TARGET_DIR/release" "$@" ;;
    *) exec "$venv/bin/python" benches/compare.py "$CARGO_TARGET_DIR/release" "$@" ;;
esac
