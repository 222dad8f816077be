#!/usr/bin/env python3
"""Exchanges datagrams of every size with hio-udp's Peer, through the example `peer_echo`.

usage: echo_sizes.py PATH_OF_PEER_ECHO

Sizes 0 to 2,000 one by one, then in steps up to 65,507, the longest an IPv4 datagram carries. Each
must come back byte for byte, from the address the echo printed. Needs the standard library only.
"""

import itertools
import random
import socket
import subprocess
import sys

LONGEST = 65507


def sizes():
    yield from range(2001)
    yield from range(2048, LONGEST, 509)
    yield from (LONGEST - 1, LONGEST)


def main():
    echo = subprocess.Popen([sys.argv[1], "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    host, port = echo.stdout.readline().strip().rsplit(":", 1)
    peer = (host, int(port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        sock.bind(("127.0.0.1", 0))
        exchanged = 0
        for size, seed in zip(sizes(), itertools.count()):
            sent = random.Random(seed).randbytes(size)
            assert sock.sendto(sent, peer) == size
            received, source = sock.recvfrom(LONGEST + 1)
            assert received == sent, f"{size} bytes came back changed, {len(received)} bytes long"
            assert source == peer, f"{size} bytes came back from {source}, not {peer}"
            exchanged += 1
        sock.sendto(b"quit", peer)
    assert echo.wait(timeout=10) == 0
    print(f"{exchanged} sizes from 0 to {LONGEST} exchanged, byte for byte, from {peer}")


if __name__ == "__main__":
    main()
