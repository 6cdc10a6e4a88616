#!/usr/bin/env bash
# Prints how long a state file of an older version with ten million pulls takes to be brought up to date: ROWS=10000000 VERSION=4.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
profile="${PROFILE:-release}"
[ "$profile" = release ] && cargo build --locked --release --quiet --bin haul || cargo build --locked --quiet --bin haul
python3 benches/migrate.py "$CARGO_TARGET_DIR/$profile/haul" migrations/sqlite "${ROWS:-10000000}" "${VERSION:-4}"
