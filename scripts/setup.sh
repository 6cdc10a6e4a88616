#!/usr/bin/env bash
# What the other scripts need on a fresh Debian machine; sourced by them, changes nothing that is there already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/haul-target}"
export PATH="$HOME/.cargo/bin:$PATH"

need() { # need COMMAND DEBIAN-PACKAGE
    command -v "$1" >/dev/null && return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "haul needs \`$1\`: install it (Debian: apt-get install $2) and call this again" >&2
        exit 1
    fi
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2"
}

need c++ g++
if ! command -v cargo >/dev/null; then
    need curl curl
    echo "Installing Rust with rustup, for this user: https://rustup.rs" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal --component rustfmt,clippy
fi
