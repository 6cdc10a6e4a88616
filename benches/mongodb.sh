#!/usr/bin/env bash
# Prints how long a collection takes into DuckDB with haul and with pymongo, and how long the server alone needs for it.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
left="$(scripts/counterparts.sh mongodb)"
[ -z "$left" ] || { echo "the server cannot be installed here" >&2; exit 1; }
venv="$CARGO_TARGET_DIR/bench-mongo-venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "pymongo==4.20.*" duckdb
cargo build --locked --release --quiet --bin haul --example bench_mongo
home="${HAUL_COUNTERPARTS:-$HOME/.cache/haul-counterparts}"
exec "$venv/bin/python" benches/mongodb.py "$CARGO_TARGET_DIR/release" "$home/mongodb/bin/secantusd-py" "$@"
