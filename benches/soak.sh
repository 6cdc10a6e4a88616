#!/usr/bin/env bash
# Lets `haul serve` run one pipeline a minute for an hour, and prints its memory and the sizes of its files: MINUTES=60 EVERY=60s.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
profile="${PROFILE:-release}"
[ "$profile" = release ] && cargo build --locked --release --quiet --bin haul || cargo build --locked --quiet --bin haul
python3 benches/serve.py soak "$CARGO_TARGET_DIR/$profile/haul" "${MINUTES:-60}" "${EVERY:-60s}"
