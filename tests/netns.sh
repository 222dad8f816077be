#!/bin/sh
# Runs the tests that need a network of their own in a private network namespace. Needs root, and ip, tc, nft and
# Python (Debian: iproute2, nftables, python3). Arguments go to `cargo test`: tests/netns.sh --target-dir target/single
set -eu
cd "$(dirname "$0")/.."
cargo test --no-run --test hio_namespace --test firewall --test unspecified "$@"
exec unshare --net sh -c '
  ip link set lo up
  HIO_UDP_NETNS=1 exec cargo test --offline --test hio_namespace --test firewall --test unspecified "$@" -- --test-threads=1
' netns.sh "$@"
