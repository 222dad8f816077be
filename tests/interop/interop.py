#!/usr/bin/env python3
"""Compares this crate's Peer and BatchPeer with the real hio, operation by operation.

usage: interop.py PATH_OF_INTEROP_DRIVER [OPERATIONS] [SEED]

A script of random operations is drawn in segments. Each segment runs twice, on the same addresses:

    world A    subject: hio's Peer                      partner: hio's Peer
    world B    subject: ours, in the driver             partner: hio's Peer

Subject and partner send to each other, so both directions are in it. What each operation gives (data,
source, count, errno, sizes, the bytes of the wire log) is one row, and the rows of the two worlds must be
equal. Where the script expects one of the differences that docs/HIO.md lists, it says so with the step;
a difference elsewhere, of another shape, or with a key that is not listed is unexplained. A listed one
that was not seen fails the run as well.

`tests/interop/run` makes what this needs. Commands and answers are those of `examples/interop_driver.rs`.
"""

import errno
import logging
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from hio.core import wiring
from hio.core.udp import udping

TABLE = Path(__file__).resolve().parents[2] / "docs" / "HIO.md"
HEADING = "## Deliberate differences seen by the interop test"
PATIENCE = 2.0  # seconds to look for a datagram that is on its way, as in the driver
IN_VAIN = " waited in vain"
STEPS = 250  # in a segment
IN_FLIGHT = 140_000  # bytes that a default socket buffer of 212,992 holds, whatever the sizes
LONGEST = 65507


# --- hio's Peer behind the driver's commands ---


class Errnos(logging.Handler):
    """Keeps the last error that hio logs: open says why it is False there only."""

    last = None

    def emit(self, record):
        self.last = record.args[-1]


errnos = Errnos()
udping.logger.handlers = [errnos]
udping.logger.propagate = False
udping.logger.setLevel(logging.ERROR)


def error_class(error):
    return str(error.errno) if isinstance(error, OSError) else type(error).__name__


def unhex(word):
    return b"" if word == "-" else bytes.fromhex(word)


def address(word):
    host, port = word.rsplit(":", 1)
    return host.strip("[]"), int(port)


class Hio:
    """hio's Peer, answering as the driver does."""

    def __init__(self):
        self.peer = None

    def do(self, line):
        command, *words = line.split(" ")
        try:
            return "ok" + getattr(self, command)(*words)
        except (OSError, AttributeError, ValueError, TypeError, OverflowError) as error:
            return f"err {error_class(error)}"

    def new(self, *words):
        self.peer = self.made(*words)
        return self.fields()

    def try_(self, *words):
        kept, self.peer = self.peer, self.made(*words)
        described = self.fields()
        self.peer.close()
        self.peer = kept
        return described

    def made(self, kind, host, port, bc, bs, gram_size, bcast, reopen, log):
        cls = type("Sized", (udping.Peer,), {"MaxGramSize": int(gram_size)})
        wl = None if log == "-" else wiring.WireLog(samed=log == "samed", reopen=True)
        number = lambda word: None if word == "-" else int(word)
        return cls(name="subject", host=host.strip("-"), port=int(port), bc=number(bc), bs=number(bs),
                   bcast=bcast == "1", wl=wl, reopen=reopen == "1")

    def fields(self):
        p = self.peer
        bc = "-" if p.bc is None else p.bc
        send, receive = p.actualBufSizes()
        return f" {p.name} {p.host or '-'} {p.port} {bc} {p.bs} {int(p.bcast)} {int(p.opened)} {send} {receive}"

    def options(self):
        option = lambda level, name: self.peer.ls.getsockopt(level, name)
        flags = [option(socket.SOL_SOCKET, name)
                 for name in (socket.SO_BROADCAST, socket.SO_REUSEADDR, socket.SO_REUSEPORT)]
        flags += [int(not self.peer.ls.getblocking()), option(socket.IPPROTO_IP, socket.IP_TTL)]
        return "".join(f" {flag}" for flag in flags)

    def opening(self, is_open):
        if not is_open:
            raise errnos.last
        return ""

    def open(self):
        return self.opening(self.peer.open())

    def reopen(self):
        return self.opening(self.peer.reopen())

    def close(self):
        return f" {self.peer.close()}".lower()

    def set_host(self, host):
        self.peer.host = host.strip("-")
        return ""

    def set_port(self, port):
        self.peer.port = int(port)
        return ""

    def set_bcast(self, bcast):
        self.peer.bcast = bcast == "1"
        return ""

    def set_bs(self, size):
        self.peer.bs = int(size)
        return ""

    def send(self, data, dst):
        return f" {self.peer.send(unhex(data), address(dst))}"

    def batch(self, *words):
        shown = ""
        for data, dst in zip(words[::2], words[1::2]):
            try:
                shown += self.send(data, dst)
            except OSError as error:
                shown += f" err:{error_class(error)}"
        return shown

    queue = batch

    def receive(self, count):
        shown, left = "", max(int(count), 1)
        deadline = time.monotonic() + (PATIENCE if int(count) else 0)
        while left:
            data, src = self.peer.receive()
            if src is not None:
                shown += f" {src[0]}:{src[1]} {data.hex() or '-'}"
                left -= 1
            elif time.monotonic() >= deadline:
                return shown if count == "0" else f"{shown}{IN_VAIN}"
        return shown

    def take(self, count):
        shown = self.receive(count) if int(count) else ""
        while more := self.receive("0"):
            shown += more
        return shown

    def logged(self, log):
        return " none" if log is None else f" {log.hex() or '-'}"

    def read_rx(self):
        return self.logged(self.peer.wl.readRx())

    def read_tx(self):
        return self.logged(self.peer.wl.readTx())

    def log_close(self):
        self.peer.wl.close()
        return ""

    def log_reopen(self):
        self.peer.wl.reopen()
        return ""


setattr(Hio, "try", Hio.try_)  # a word of Python, so not to be written there


class Driver:
    """Ours: the Rust program, one line to it and one line back."""

    def __init__(self, path):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([path], stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def do(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the driver ended at {brief(line)}")
        return answer.rstrip("\n")

    def end(self):
        self.process.stdin.close()
        return self.process.wait(timeout=10)


# --- the differences, by their keys in docs/HIO.md: what a row of hio and one of ours look like ---


def row_fields(row):
    """name, host, port, bc, bs, bcast, opened, sizes of the send and the receive buffer; empty for an error."""
    names = ("name", "host", "port", "bc", "bs", "bcast", "opened", "send", "receive")
    words = row.split(" ")
    return dict(zip(names, words[1:])) if words[0] == "ok" and len(words) == 10 else {}


def changed(a, b):
    a, b = row_fields(a), row_fields(b)
    return {name for name in a if a[name] != b.get(name)} if a and b else {"row"}


def grams(row):
    words = row.split(" ")[1:]
    return [(src, unhex(data)) for src, data in zip(words[::2], words[1::2])]


def has_forced_sizes(a, b):
    """Whether sizes are equal, or hio's is the largest without CAP_NET_ADMIN and ours larger."""
    a, b = row_fields(a), row_fields(b)
    sizes = ((int(a[name]), int(b[name]), largest) for name, largest in zip(("send", "receive"), LARGEST))
    return all(x == y or x == 2 * largest < y for x, y, largest in sizes)


def is_unbound(line, a, b):
    if line == "fields":
        return changed(a, b) == {"send", "receive"} and b.endswith(" 0 0")
    return a.startswith("ok") and b == "err NotConnected"


def is_stale(line, a, b):
    return changed(a, b) == {"opened", "send", "receive"} and row_fields(a)["opened"] == "1" and b.endswith(" 0 0 0")


def is_resolved(line, a, b):
    written = row_fields(a).get("host", "").strip("-") or "0.0.0.0"
    is_host = "host" in changed(a, b) <= {"host", "send", "receive"} and has_forced_sizes(a, b)
    return is_host and socket.gethostbyname(written) == row_fields(b)["host"]


def is_ipv6(line, a, b):
    return changed(a, b) == {"opened", "port"} and row_fields(b)["opened"] == "1" and row_fields(a)["opened"] == "0"


def is_forced(line, a, b):
    return changed(a, b) <= {"send", "receive"} and has_forced_sizes(a, b)


def is_cut(line, a, b):
    pairs = list(zip(grams(a), grams(b)))
    return len(grams(a)) == len(grams(b)) and all(
        src == ours_src and data[:len(ours)] == ours for (src, data), (ours_src, ours) in pairs)


EAFNOSUPPORT = f"err {errno.EAFNOSUPPORT}"
DIFFERENCES = {
    "closed-peer": lambda line, a, b: (a, b) == ("err AttributeError", "err NotConnected"),
    "unbound-socket": is_unbound,
    "stale-opened": is_stale,
    "failed-new": lambda line, a, b: row_fields(a).get("opened") == "0" and re.fullmatch(r"err \d+", b),
    "host-at-once": is_resolved,
    "ipv6-host": is_ipv6,
    "ipv6-destination": lambda line, a, b: (a, b) == ("err -9", EAFNOSUPPORT),
    "mapped-destination": lambda line, a, b: a.startswith("ok ") and b == EAFNOSUPPORT,
    "forced-buffers": is_forced,
    "bs-beyond-int": lambda line, a, b: a == "err TypeError" and row_fields(b).get("opened") == "1",
    "closed-log": lambda line, a, b: a == "err ValueError" and b.startswith("ok "),
    "slots-default": lambda line, a, b: changed(a, b) == {"bc", "bs"} and row_fields(b)["bc"] == "64",
    "slots-zero": lambda line, a, b: a.startswith("ok ") and b == "err InvalidInput",
    "slot-cut": is_cut,
}


def listed():
    section = TABLE.read_text().split(HEADING + "\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE))


def largest_buffers():
    """What the system lets a socket's send and receive buffer be set to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, name, 2**31 - 1)
            yield sock.getsockopt(socket.SOL_SOCKET, name) // 2


LARGEST = tuple(largest_buffers())


def not_to_be_seen():
    """Keys whose difference this machine or user cannot show."""
    capabilities = re.search(r"^CapEff:\t(.*)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not int(capabilities[1], 16) >> 12 & 1:
        yield "forced-buffers", "it needs CAP_NET_ADMIN"
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        yield "ipv6-host", "this machine has no ::1"


# --- the script ---


class Step:
    def __init__(self, who, line, differs=None, settle=False):
        self.who, self.line, self.differs, self.settle = who, line, differs, settle


def cost(size):
    """What a datagram takes of a socket's buffer, at most."""
    return size + 8192 if size > 16000 else 2 * size + 1024


class End:
    """What the script knows of one end: enough to say what is in flight."""

    def __init__(self, who, host, port, bcast, log):
        self.who, self.host, self.port, self.log = who, host, port, log
        self.bound, self.opened = host, True
        self.bcast = self.bcast_wanted = bcast
        self.queued = []  # costs of the datagrams on their way to it

    def local(self):
        return {"-": "127.0.0.1", "127.1": "127.0.0.1", "localhost": "127.0.0.1"}.get(self.bound, self.bound)

    def address_from(self, src, rng):
        host = self.local()
        # The kernel takes 0.0.0.0 for the sender's own address.
        if src.opened and src.local() == host and rng.random() < 0.1:
            host = "0.0.0.0"
        return f"{host}:{self.port}"


def free_port():
    """A port the kernel chose, which nobody has on any address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        return sock.getsockname()[1]


HOSTS = ("127.0.0.1", "127.0.0.1", "127.9.9.9", "-", "localhost", "127.1")


class Segment:
    """One segment of the script: its steps are drawn here, before any of them runs."""

    def __init__(self, rng, kind, is_first):
        self.rng, self.kind, self.is_batch, self.is_first = rng, kind, kind == "BatchPeer", is_first
        self.steps = []
        # Neither reuse option, so nobody else gets this port, of those below neither.
        self.holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.holder.bind(("127.0.0.1", 0))
        self.taken = self.holder.getsockname()[1]
        ports = set()
        while len(ports) < 3:
            ports.add(free_port())
        subject_port, partner_port, self.nowhere = ports

        self.subject = self.end("subject", rng.choice(HOSTS), subject_port)
        self.partner = self.end("partner", rng.choice(("127.0.0.1", "-")), partner_port)
        self.new_subject()
        self.new(self.partner, "Peer", "-", "-", 1240)
        if is_first:
            self.tour()
        actions, weights = zip(*self.actions())
        while len(self.steps) < STEPS:
            rng.choices(actions, weights)[0]()
        for end in (self.subject, self.partner):
            self.add(end, f"take {len(end.queued)}") if end.opened else None
            self.read_log(end)
            self.add(end, "close")

    def end(self, who, host, port):
        logs = ("samed",) if self.is_first else ("-", "samed", "apart")
        return End(who, host, port, self.rng.random() < 0.5, self.rng.choice(logs))

    def new(self, end, kind, bc, bs, gram_size):
        config = f"{kind} {end.host} {end.port} {bc} {bs} {gram_size} {int(end.bcast)} 1 {end.log}"
        self.add(end, f"new {config}", "forced-buffers")

    def new_subject(self):
        rng = self.rng
        if self.is_batch:
            sizes = ((4, 1240), (1, 1240), (16, 2000), (171, 1240), (20, 9000), (2, 65535), (7, 65535), (64, 65507))
            self.bc, self.gram = sizes[0] if self.is_first else rng.choice(sizes)  # the tour needs slots that cut
            self.new(self.subject, self.kind, self.bc, rng.choice(("-", "777")), self.gram)
            # Longer ones are cut at a slot here, and at bs in hio: `cut` has those.
            self.longest = self.gram if self.bc > 1 else LONGEST
        else:
            self.bc, self.gram, self.longest = 1000, LONGEST + 1000, LONGEST
            bc = rng.choice(("-", "-", "0", "1", "4", "171", "172", "200"))
            bs = rng.choice(("-", "-", "0", "10", "777", "4960", "65535", "212992", "212993", "300000"))
            self.new(self.subject, self.kind, bc, bs, rng.choice((1240, 1240, 548, 9000)))

    def actions(self):
        s, p, rng = self.subject, self.partner, self.rng
        vignettes = self.vignettes()
        return [
            (lambda: self.send(s, p), 20),
            (lambda: self.send(p, s), 24),
            (lambda: self.send(s, s), 3),
            (lambda: self.send(p, p), 1),
            (lambda: self.send_to_nobody(rng.choice((s, s, p))), 5),
            (lambda: self.send_badly(rng.choice((s, s, p))), 4),
            (lambda: self.broadcast(*rng.choice(((s, p), (s, p), (p, s)))), 4),
            (self.send_batch, 16),
            (lambda: self.receive(s), 14),
            (lambda: self.receive(p), 10),
            (lambda: self.take(s), 8),
            (lambda: self.take(p), 2),
            (lambda: self.add(s, "fields", "forced-buffers"), 3),
            (lambda: self.add(rng.choice((s, p)), "options", "closed-peer"), 3),
            (lambda: self.read_log(rng.choice((s, p))), 0.5),
            (lambda: self.reopen(rng.choice((s, s, p))), 2),
            (lambda: self.close(rng.choice((s, s, p))), 1.5),
            (lambda: self.set_bcast(rng.choice((s, s, p))), 1.5),
            (self.set_bs, 1),
            (self.move, 1),
            (lambda: rng.choice(vignettes)(), 3),
        ]

    def add(self, end, line, differs=None, settle=False):
        self.steps.append(Step(end.who, line, differs, settle))

    # sending

    def data(self, longest):
        rng = self.rng
        size = rng.choices((0, 1, rng.randint(2, 100), rng.randint(100, 2000), rng.randint(2000, 9000),
                            rng.randint(9000, LONGEST), LONGEST), (4, 4, 30, 40, 12, 4, 1))[0]
        return rng.randbytes(min(size, longest))

    def longest_to(self, dst):
        return self.longest if dst is self.subject else LONGEST

    def deliver(self, src, dst, size):
        """Makes room for a datagram that will arrive, if it will."""
        if not (src.opened and dst.opened):
            return
        if not self.has_room(dst, size):
            self.take(dst)
        dst.queued.append(cost(size))

    def has_room(self, dst, size):
        return sum(dst.queued) + cost(size) <= IN_FLIGHT

    def send(self, src, dst):
        data = self.data(self.longest_to(dst))
        self.deliver(src, dst, len(data))
        self.add(src, f"send {data.hex() or '-'} {dst.address_from(src, self.rng)}", "closed-peer")

    def send_to_nobody(self, src):
        self.add(src, f"send {self.data(LONGEST).hex() or '-'} 127.0.0.1:{self.nowhere}", "closed-peer")

    def send_badly(self, src):
        size, port = self.rng.choice(((LONGEST + 1, self.nowhere), (65535, self.nowhere), (70000, self.nowhere),
                                      (3, 0), (0, 0)))
        self.add(src, f"send {(bytes(size)).hex() or '-'} 127.0.0.1:{port}", "closed-peer")

    def broadcast(self, src, dst):
        data = self.data(min(1000, self.longest_to(dst)))
        if src.bcast and dst.bound == "-":
            self.deliver(src, dst, len(data))
        self.add(src, f"send {data.hex() or '-'} 127.255.255.255:{dst.port}", "closed-peer")

    def send_batch(self):
        if not self.subject.opened:
            return self.send_to_nobody(self.subject)
        rng, words = self.rng, []
        how = rng.choice(("batch", "queue"))
        for _ in range(rng.randint(1, min(12, self.bc))):
            if rng.random() < 0.05:
                words += [bytes(rng.choice((0, min(LONGEST + 1, self.gram)))).hex() or "-", "127.0.0.1:0"]
                continue
            if rng.random() < 0.05 and self.gram > LONGEST:
                words += [bytes(LONGEST + 1).hex(), f"127.0.0.1:{self.nowhere}"]
                continue
            dst = rng.choice((self.partner, self.partner, self.subject))
            data = self.data(min(self.gram, self.longest_to(dst), 9000))
            if not dst.opened or self.has_room(dst, len(data)):
                self.deliver(self.subject, dst, len(data))
                words += [data.hex() or "-", dst.address_from(self.subject, rng)]
            else:  # room cannot be made before the batch has gone
                words += [data.hex() or "-", f"127.0.0.1:{self.nowhere}"]
        self.add(self.subject, " ".join([how, *words]))

    # receiving

    def receive(self, end):
        count = self.rng.randint(0, min(8, len(end.queued))) if end.queued else 0
        if end.queued and not count:
            count = 1
        del end.queued[:count]
        self.add(end, f"receive {count}", "closed-peer")

    def take(self, end):
        self.add(end, f"take {len(end.queued)}", "closed-peer")
        end.queued.clear()

    def read_log(self, end):
        if end.log != "-":
            self.add(end, "read_rx")
            self.add(end, "read_tx")

    def fresh_log(self, end):
        """What was logged is compared, and forgotten: around steps that are not logged alike."""
        if end.log != "-":
            self.read_log(end)
            self.add(end, "log_reopen")

    # opening and closing

    def reopen(self, end):
        self.add(end, self.rng.choice(("open", "reopen")), settle=bool(end.queued))
        end.queued.clear()
        end.opened, end.bound, end.bcast = True, end.host, end.bcast_wanted
        self.add(end, "fields", "forced-buffers")

    def close(self, end):
        self.add(end, "close", settle=bool(end.queued))
        end.queued.clear()
        end.opened = False
        for _ in range(self.rng.randint(0, 3)):
            self.rng.choice((lambda: self.send_to_nobody(end), lambda: self.receive(end), lambda: self.send_badly(end),
                             lambda: self.add(end, "fields"), lambda: self.add(end, "close")))()
        self.reopen(end)

    def set_bcast(self, end):
        end.bcast_wanted = not end.bcast_wanted
        self.add(end, f"set_bcast {int(end.bcast_wanted)}")

    def set_bs(self):
        if not self.is_batch:
            self.add(self.subject, f"set_bs {self.rng.choice((0, 1, 10, 1240, 65535, 65535, 100000))}")

    def move(self):
        """To another address: the open socket stays where it is until it is reopened."""
        end = self.subject
        end.host = self.rng.choice(HOSTS)
        self.add(end, f"set_host {end.host}")
        self.add(end, "fields", "host-at-once")
        self.reopen(end)

    # what hio and this crate do differently

    def vignettes(self):
        common = [self.fail_to_open, self.close_the_log, self.other_destinations, self.make_another, self.move]
        return common + ([self.cut] if self.is_batch else [self.enormous])

    def tour(self):
        """Everything that is on the list, at least once."""
        for how in ("open", "reopen"):
            self.fail_to_open(how)
        self.subject.host = "127.1"
        self.add(self.subject, "set_host 127.1")
        self.add(self.subject, "fields", "host-at-once")
        self.reopen(self.subject)
        for what in self.other_destinations, self.close_the_log, self.cut, self.enormous:
            what()
        for what in range(7):
            self.make_another(what)
        self.add(self.subject, "close")
        self.add(self.subject, "receive 0", "closed-peer")
        self.add(self.subject, f"send 00 127.0.0.1:{self.nowhere}", "closed-peer")
        self.subject.queued.clear()
        self.reopen(self.subject)

    def fail_to_open(self, how=None):
        rng, end = self.rng, self.subject
        how = how or rng.choice(("open", "reopen"))
        self.fresh_log(end)
        # An address of nobody (TEST-NET-3), or a port somebody has for himself: binding sends nothing.
        host, port = rng.choice((("203.0.113.5", end.port), ("127.0.0.1", self.taken)))
        self.add(end, f"set_host {host}")
        self.add(end, f"set_port {port}")
        self.add(end, how, settle=bool(end.queued))
        end.queued.clear()
        self.add(end, "fields", "stale-opened" if how == "open" else "unbound-socket")
        self.add(end, "receive 0", "unbound-socket")
        self.add(end, f"send 0102 127.0.0.1:{self.nowhere}", "unbound-socket")
        self.add(end, "close")
        self.add(end, "fields")
        self.add(end, f"set_host {end.host}")
        self.add(end, f"set_port {end.port}")
        self.reopen(end)
        self.fresh_log_unread(end)

    def fresh_log_unread(self, end):
        if end.log != "-":
            self.add(end, "log_reopen")

    def close_the_log(self):
        s, p = self.subject, self.partner
        if s.log == "-":
            return
        self.take(s)
        self.fresh_log(s)
        self.add(s, "log_close")
        self.read_log(s)
        if p.opened:
            self.add(p, f"send 0a0b {s.address_from(p, self.rng)}")
            self.add(s, "receive 1", "closed-log")
            self.deliver(s, p, 1)
            self.add(s, f"send 0c {p.address_from(s, self.rng)}", "closed-log")
        self.add(s, "log_reopen")

    def other_destinations(self):
        self.fresh_log(self.subject)
        self.add(self.subject, f"send 01 [::1]:{self.nowhere}", "ipv6-destination")
        self.add(self.subject, f"send 0203 [::ffff:127.0.0.1]:{self.nowhere}", "mapped-destination")
        self.fresh_log_unread(self.subject)

    def cut(self):
        """A datagram longer than a slot."""
        s, p = self.subject, self.partner
        if not self.is_batch or self.gram >= LONGEST or not p.opened:
            return
        self.take(s)
        self.fresh_log(s)
        for size in (self.gram + 1, self.rng.randint(self.gram + 1, LONGEST)):
            self.add(p, f"send {self.rng.randbytes(size).hex()} {s.address_from(p, self.rng)}")
            self.add(s, f"{self.rng.choice(('receive', 'take'))} 1", "slot-cut" if self.bc > 1 else None)
        self.fresh_log_unread(s)

    def enormous(self):
        """More than an int has room for."""
        if not self.is_batch:
            self.add(self.subject, f"try Peer 127.0.0.1 0 - {2**31} 1240 0 1 -", "bs-beyond-int")

    def make_another(self, what=None):
        """Another peer beside the subject, from other settings."""
        rng = self.rng
        what = rng.randrange(7) if what is None else what
        bcast = rng.randint(0, 1)
        some = rng.choice((1, 2, 5)) if self.is_batch else "-"
        host, port, bc, bs, gram, differs = [
            ("127.0.0.1", 0, rng.randint(1, 170), "-", 1240, None),
            ("127.0.0.1", 0, some, rng.randint(0, 200_000), 1240, None),
            ("127.0.0.1", self.taken, some, "-", 1240, "failed-new"),
            ("::1", 0, some, "-", 1240, "ipv6-host"),
            ("127.0.0.1", 0, "-", "-", 1240, "slots-default"),
            ("127.0.0.1", 0, 0, rng.choice(("-", 777)), 1240, "slots-zero"),
            ("127.0.0.1", 0, max(LARGEST) // 60_000 + rng.randint(1, 9), "-", 60_000, "forced-buffers"),
        ][what]
        self.add(self.subject, f"try {self.kind} {host} {port} {bc} {bs} {gram} {bcast} 1 -", differs)


# --- running and comparing ---


def brief(text, longest=110):
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def row(step, answer):
    """Of a port the kernel chose, only that there is one is compared."""
    words = step.line.split(" ")
    fields = row_fields(answer)
    if words[0] == "try" and words[3] == "0" and int(fields.get("port", 0)):
        answer = answer.replace(f" {fields['port']} ", " chosen ", 1)
    return answer


def run_world(segment, subject, partner):
    rows = []
    for step in segment.steps:
        if step.settle:
            time.sleep(0.001)  # what is on its way must be there before the socket goes
        rows.append(row(step, (subject if step.who == "subject" else partner).do(step.line)))
    return rows


def explanation(step, a, b):
    """The key of the difference between two rows, None if there is none to give."""
    key = step.differs
    if step.who != "subject" or key is None:
        return None
    if DIFFERENCES[key](step.line, a, b):
        return key
    # Where root gets larger buffers than hio asks for, every line about sizes shows it.
    if row_fields(a) and DIFFERENCES["forced-buffers"](step.line, a, b):
        return "forced-buffers"
    return None


def compare(segment, world_a, world_b, seen):
    """The numbers of the steps whose rows differ without an explanation, or lack a datagram in both worlds."""
    unexplained = []
    for number, (step, a, b) in enumerate(zip(segment.steps, world_a, world_b)):
        if a.endswith(IN_VAIN) or b.endswith(IN_VAIN):
            unexplained.append(number)
        elif a != b:
            key = explanation(step, a, b)
            if key in segment.listed:
                seen[key] += 1
            else:
                unexplained.append(number)
    return unexplained


def report(segment, number, world_a, world_b):
    print(f"{segment.kind}: A is hio alone, B ours with hio; the last operations up to the first difference:")
    for at in range(max(number - 19, 0), number + 1):
        step, a, b = segment.steps[at], world_a[at], world_b[at]
        print(f"  {at:4} {step.who:7} {brief(step.line)}")
        for world, shown in (("A and B", a),) if a == b else (("A", a), ("B", b)):
            print(f"{world:>22}: {brief(shown)}")
    step, a, b = segment.steps[number], world_a[number], world_b[number]
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    near = slice(max(at - 20, 0), at + 40)
    print(f"  from character {at} on: A ...{a[near]!r}, B ...{b[near]!r}")
    print(f"  expected here: {step.differs or 'no difference'}")


def main():
    path = sys.argv[1]
    operations = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}, {operations} operations at least", flush=True)
    keys, excused = listed(), dict(not_to_be_seen())
    rng, driver, seen, compared, differing = random.Random(seed), Driver(path), Counter(), Counter(), 0
    started = time.monotonic()
    while compared.total() < operations and not differing:
        for kind in ("Peer", "BatchPeer"):
            segment = Segment(rng, kind, is_first=kind not in compared)
            segment.listed = keys
            world_a = run_world(segment, Hio(), Hio())
            world_b = run_world(segment, driver, Hio())
            segment.holder.close()
            compared[kind] += len(segment.steps)
            unexplained = compare(segment, world_a, world_b, seen)
            if unexplained and not differing:
                report(segment, unexplained[0], world_a, world_b)
            differing += len(unexplained)
    if driver.end() != 0:
        raise SystemExit("the driver failed at its end")

    for key in sorted(keys):
        reason = f": {excused[key]}" if key in excused else ""
        print(f"  {key}: {seen[key]} times{reason}")
    each = ", ".join(f"{kind} {count}" for kind, count in compared.items())
    print(f"{compared.total()} operations compared ({each}): {differing} unexplained differences, "
          f"{len(seen)} deliberate ones seen ({time.monotonic() - started:.1f}s)")
    unseen = keys - set(seen) - set(excused)
    if unseen and not differing:
        print(f"listed in {TABLE.name} but not seen: {', '.join(sorted(unseen))}")
    if differing or unseen:
        raise SystemExit(f"failed; the same again: tests/interop/run {operations} {seed}")


if __name__ == "__main__":
    main()
