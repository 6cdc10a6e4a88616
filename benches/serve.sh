#!/usr/bin/env bash
# Prints how long after its instant a run begins, and what an idle `haul serve` costs: memory, and its share of a core.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
need python3 python3
profile="${PROFILE:-release}"
[ "$profile" = release ] && cargo build --locked --release --quiet --bin haul || cargo build --locked --quiet --bin haul
python3 benches/serve.py ticks "$CARGO_TARGET_DIR/$profile/haul" "${SECONDS_EACH:-60}"
python3 benches/serve.py idle "$CARGO_TARGET_DIR/$profile/haul" "${SECONDS_EACH:-60}"
