#!/bin/sh
# Makes the certificates of tests/fixtures/tls anew: an authority, a server for 127.0.0.1, a client. They protect nothing.
set -eu
cd "$(dirname "$0")/../tests/fixtures/tls"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
key "$work/ca.key"
openssl req -x509 -new -key "$work/ca.key" -days 36500 -subj "/CN=haul test authority" -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
leaf() {
    key "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=haul test $1" -out "$work/$1.csr"
    printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$2" "$3" > "$work/$1.ext"
    openssl x509 -req -in "$work/$1.csr" -CA ca.pem -CAkey "$work/ca.key" -CAcreateserial -CAserial "$work/serial" \
        -days 36500 -extfile "$work/$1.ext" -out "$1.pem"
}
leaf server serverAuth "IP:127.0.0.1,DNS:localhost"
leaf client clientAuth "DNS:haul.test"
