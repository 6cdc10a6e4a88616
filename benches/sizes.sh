#!/usr/bin/env bash
# Prints what a backfill of thousands of days and an extract of many pages cost: DAYS=5000 PAGES=100000 BYTES=10000 (a page).
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
profile="${PROFILE:-release}"
[ "$profile" = release ] && cargo build --locked --release --quiet --bin haul || cargo build --locked --quiet --bin haul
python3 benches/sizes.py "$CARGO_TARGET_DIR/$profile/haul" "${DAYS:-5000}" "${PAGES:-100000}" "${BYTES:-10000}"
