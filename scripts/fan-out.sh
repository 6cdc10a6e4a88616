#!/usr/bin/env bash
# Proves the fan-out at its full size: 144,000 requests, a token that dies, 503 and 429, a kill in the middle; takes minutes.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec cargo test --locked --test it fanout::big:: -- --include-ignored
