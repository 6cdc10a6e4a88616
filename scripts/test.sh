#!/usr/bin/env bash
# Sets up what is missing and runs all tests.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cargo test --locked "$@"
