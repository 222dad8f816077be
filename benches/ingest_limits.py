#!/usr/bin/env python3
"""What ingest holds under load, measured on the built program: memory, rotation, a sink that stalls.

  memory    resident memory while datagrams are stored, for a time: below 64 MiB beside rings, and flat
  rotation  kernel drops with a new segment every 100 ms, against a run without, in turn
  stall     a sink that takes nothing for ten seconds: nothing lost that fits, the rest counted

usage: benches/ingest_limits.py [memory] [rotation] [stall] [--seconds S] [--pairs N] [--rate R]
Needs Linux and `cargo build --release`. Exits with 1 where a limit is passed or an account does not add up.
"""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "hio-udp")
MIB = 1 << 20


class Ingest:
    """A running `ingest`, and its account at the end."""

    def __init__(self, *args):
        command = [PROGRAM, "ingest", "--json", "--bind", "127.0.0.1:0", *args]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in self.child.stderr:
            if found := re.match(r"receiving on (\S+);", line):
                self.address = found[1]
                return
        sys.exit(f"{command} did not start")

    def resident_bytes(self):
        status = open(f"/proc/{self.child.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        out, _ = self.child.communicate()
        return json.loads(out)


def blast(address, *args):
    return subprocess.Popen([PROGRAM, "blast", "--json", "--to", address, *args], stdout=subprocess.PIPE, text=True)


def sent(blaster):
    return json.loads(blaster.communicate()[0])["sent"]


def arrived(account):
    return sum(account[name] for name in ("delivered", "denied", "rate_limited", "kernel_dropped", "left_behind"))


def check(what, holds, failures):
    print(f"  {'ok  ' if holds else 'FAIL'} {what}")
    if not holds:
        failures.append(what)


def memory(options, work, failures):
    print(f"memory: {options.rate} datagrams/s of 100 bytes from 16 sources, {options.seconds} s, into segments")
    sink = f"pcapng:{work}/memory"
    args = ["--sink", sink, "--rotate-bytes", "64M", "--keep-bytes", "256M"]
    ingest = Ingest(*args)
    rings = 64 * 65_535  # bc × gram size, by default
    load = blast(ingest.address, "--rate", options.rate, "--duration", str(options.seconds), "--sources", "16")
    samples, started = [], time.monotonic()
    while load.poll() is None:
        time.sleep(0.5)
        samples.append((time.monotonic() - started, ingest.resident_bytes()))
    count = sent(load)
    account = ingest.stop()
    settled = [size for at, size in samples if at > min(10, options.seconds / 4)]
    beside = max(settled) - rings
    early, late = settled[: len(settled) // 4], settled[-(len(settled) // 4) :]
    growth = statistics.median(late) - statistics.median(early)
    print(f"  resident: {min(settled) / MIB:.1f} to {max(settled) / MIB:.1f} MiB, rings {rings / MIB:.1f} MiB of it;"
          f" last quarter {growth / MIB:+.2f} MiB against the first; {account['delivered']} datagrams")
    check("below 64 MiB beside the rings", beside < 64 * MIB, failures)
    check("flat: the last quarter within 1 MiB of the first", abs(growth) < MIB, failures)
    check("the account is exact", arrived(account) == count, failures)


def rotation(options, work, failures):
    print(f"rotation: {options.pairs} pairs of 5 s at the highest rate, with a new segment every 100 ms and without")
    lost = {"every 100 ms": [], "never": []}
    segments = 0
    for pair in range(options.pairs):
        for name in lost if pair % 2 == 0 else reversed(lost):
            place = f"{work}/rotation"
            rotate = ["--rotate-every", "0.1"] if name != "never" else ["--rotate-bytes", "100G"]
            ingest = Ingest("--sink", f"pcapng:{place}", "--fsync", "never", *rotate)
            load = blast(ingest.address, "--rate", "max", "--duration", "5", "--sources", "4")
            count, account = sent(load), None
            account = ingest.stop()
            if arrived(account) != count:
                check(f"the account is exact: {arrived(account)} of {count}", False, failures)
            if name != "never":
                segments = len([file for file in os.listdir(place) if file.endswith(".pcapng")])
            lost[name].append(100 * account["kernel_dropped"] / count)
            print(f"  {name:<13} {count:>9} sent, {lost[name][-1]:6.2f} % dropped,"
                  f" {account['delivered'] / account['seconds']:>10.0f}/s written")
            shutil.rmtree(place)
    medians = {name: statistics.median(values) for name, values in lost.items()}
    difference = [a - b for a, b in zip(lost["every 100 ms"], lost["never"])]
    print(f"  medians: {medians['every 100 ms']:.2f} % with ({segments} segments a run), {medians['never']:.2f} %"
          f" without; difference of pairs {min(difference):+.2f} to {max(difference):+.2f}, median"
          f" {statistics.median(difference):+.2f} points")
    # Runs without rotation differ among themselves by so much.
    noise = max(1.0, max(lost["never"]) - min(lost["never"]))
    check("no more drops than without, within what runs without it differ by",
          statistics.median(difference) <= noise, failures)


def stall(options, work, failures):
    print("stall: a sink that takes nothing for 10 s, once with what fits and once with more")
    # 100 bytes take 164 in a chunk or a little more: 16 of 1 MiB and the socket's buffer hold about 100,000.
    for count, rate in ((80_000, "8000"), (3_000_000, "300000")):
        pipe = f"{work}/pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        ingest = Ingest("--out", pipe)
        load = blast(ingest.address, "--rate", rate, "--count", str(count))
        time.sleep(10)
        os.set_blocking(reader, True)
        drain = subprocess.Popen(["cat"], stdin=reader, stdout=subprocess.DEVNULL)
        os.close(reader)
        total, account = sent(load), None
        account = ingest.stop()
        drain.wait()
        os.unlink(pipe)
        print(f"  {total} sent at {rate}/s: {account['written']} written, {account['kernel_dropped']} dropped by the"
              f" kernel, waited {account['sinks'][0]['waited_s']:.1f} s for the sink")
        check("sent = delivered + dropped + left behind, and all delivered are written",
              arrived(account) == total and account["written"] == account["delivered"], failures)
        if count == 80_000:
            check("nothing lost that fits", account["written"] == total, failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], "memory", "rotation", "stall"])
    parser.add_argument("--seconds", type=int, default=600, help="of the memory run (600)")
    parser.add_argument("--pairs", type=int, default=5, help="of the rotation runs (5)")
    parser.add_argument("--rate", default="max", help="datagrams a second of the memory run (max)")
    options = parser.parse_args()
    if not os.path.exists(PROGRAM):
        sys.exit(f"no {PROGRAM}: run cargo build --release first")
    failures = []
    with tempfile.TemporaryDirectory() as work:
        for part in options.parts or ["stall", "rotation", "memory"]:
            globals()[part](options, work, failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
