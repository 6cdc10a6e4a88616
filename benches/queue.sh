#!/usr/bin/env bash
# Prints how many jobs a second the queue takes, and how long looks take with 10,000 pipelines and a million ended jobs and tasks.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/setup.sh"
profile="${PROFILE:-release}"
[ "$profile" = release ] && cargo build --locked --release --quiet --example bench_queue || cargo build --locked --quiet --example bench_queue
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
bench="$CARGO_TARGET_DIR/$profile/examples/bench_queue"
"$bench" cycles "$folder/cycles" "${SECONDS_EACH:-5}"
"$bench" fill "$folder/history" "${PIPELINES:-10000}" "${JOBS:-1000000}"
"$bench" look "$folder/history"
