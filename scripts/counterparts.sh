#!/usr/bin/env bash
# Installs the servers and programs that the tests talk to, and prints the names of those that it has to leave out.
#
# usage: scripts/counterparts.sh [NAME...]   all of them, or just these
#
# A file of tests/counterparts is a list of Python packages as `pip freeze` writes it, all of them: it is installed without
# looking for more. Its first line names the oldest Python that will do. The servers come from Debian's packages.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
home="${HAUL_COUNTERPARTS:-$HOME/.cache/haul-counterparts}"
mkdir -p "$home"

debian() { # debian PACKAGE
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    [ -n "${updated:-}" ] || { apt-get update -qq && updated=1; } || return 1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

python() { # python 3.11: the path of one that is no older, and that can make environments
    local minor="${1#3.}" found
    while [ "$minor" -lt 20 ]; do
        for found in "python3.$minor" "$HOME"/.pyenv/versions/3."$minor".*/bin/python3; do
            "$found" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, int(sys.argv[1])))' "$minor" \
                2>/dev/null && { echo "$found"; return 0; }
        done
        minor=$((minor + 1))
    done
    return 1
}

environment() { # environment NAME: the packages of tests/counterparts/NAME.txt
    local list="tests/counterparts/$1.txt" target="$home/$1" found
    cmp -s "$list" "$target/installed.txt" && return 0
    found="$(python "$(sed -n 's/^# python //p' "$list")")" || return 1
    rm -rf "$target"
    "$found" -m venv "$target" && "$target/bin/pip" install -q --disable-pip-version-check --no-deps -r "$list" || return 1
    # DuckDB's extensions come as packages too, and have to be put where DuckDB looks for them.
    if grep -q '^duckdb_extensions==' "$list"; then
        sed -n 's/^duckdb_extension_\([a-z]*\)==.*/\1/p' "$list" | while read -r extension; do
            "$target/bin/python" -c "import duckdb_extensions as d; d.import_extension('$extension')" || return 1
        done || return 1
    fi
    cp "$list" "$target/installed.txt"
}

install() { # install NAME
    case "$1" in
    postgres) command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || debian postgresql ;;
    mariadb) command -v mariadbd >/dev/null || debian mariadb-server ;;
    *) environment "$1" ;;
    esac
}

names=("$@")
[ $# -gt 0 ] || names=(postgres mariadb $(basename -s .txt tests/counterparts/*.txt))
for name in "${names[@]}"; do
    install "$name" >&2 || echo "$name"
done
