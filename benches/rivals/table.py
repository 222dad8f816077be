#!/usr/bin/env python3
"""The tables of the benches that run programs of this crate beside others, from the rows of their runs."""
import os
import statistics
import sys
from collections import defaultdict


def spread(values):
    """Median, and the quartiles if there are enough."""
    values = sorted(values)
    middle = statistics.median(values)
    if len(values) < 4:
        return middle, values[0], values[-1]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def cell(values, form):
    return "{} [{} {}]".format(*(form.format(value) for value in spread(values)))


def ratio(ours, theirs):
    return statistics.median(ours) / statistics.median(theirs)


def verdict(is_met):
    return "met" if is_met else "MISSED"


def ingest(rows):
    runs = defaultdict(lambda: defaultdict(list))
    for row in rows:
        part, receiver = row[:2]
        sent, seconds, dropped, stored, at_end, total, cpu, rcvbuf = map(float, row[2:])
        run = runs[part, receiver]
        run["sent"].append(sent / seconds / 1e3)
        run["received"].append((sent - dropped) / seconds / 1e3)
        # Of what it stored in the end, what was in the file when the sender ended.
        run["written"].append(stored * at_end / total / seconds / 1e3)
        run["lost"].append(100 * dropped / sent)
        run["cpu"].append(cpu / stored * 1e6)
        run["bytes"].append(total / stored)
        run["rcvbuf"].append(rcvbuf / 2**20)
    print("| part | receiver | runs | sent, k/s | received, k/s | written meanwhile, k/s | lost, % | processor time, µs a "
          "datagram | bytes a datagram | socket buffer, MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (part, receiver), run in sorted(runs.items()):
        if part == "search":
            continue
        print(f"| {part} | {receiver} | {len(run['sent'])} | {cell(run['sent'], '{:.0f}')} | {cell(run['received'], '{:.0f}')}"
              f" | {cell(run['written'], '{:.0f}')} | {cell(run['lost'], '{:.2f}')} | {cell(run['cpu'], '{:.3f}')}"
              f" | {statistics.median(run['bytes']):.0f} | {statistics.median(run['rcvbuf']):.0f} |")
    print("\nMedians, quartiles in brackets. Ratios of medians, hio-udp's pcapng to rsyslog:\n")
    for part in sorted({part for part, receiver in runs if receiver == "pcapng"}):
        ours, theirs = runs[part, "pcapng"], runs[part, "rsyslog"]
        if part.startswith("loss_at_"):
            lost, theirs_lost = statistics.median(ours["lost"]), statistics.median(theirs["lost"])
            print(f"- {part}: lost {lost:.2f} % where rsyslog loses {theirs_lost:.2f} %; wanted: 0 where it loses 1 or "
                  f"more: {verdict(lost == 0 and theirs_lost >= 1)}")
            continue
        written, received = ratio(ours["written"], theirs["written"]), ratio(ours["received"], theirs["received"])
        cpu = ratio(ours["cpu"], theirs["cpu"])
        print(f"- {part}: written {written:.2f} × (received {received:.2f} ×), wanted ≥ 1.3: {verdict(written >= 1.3)}; "
              f"processor time {cpu:.2f} ×, wanted ≤ 0.65: {verdict(cpu <= 0.65)}")


def statsd(rows):
    runs = defaultdict(lambda: defaultdict(list))
    for row in rows:
        part, daemon = row[:2]
        sent, seconds, dropped, per, total, used, rcvbuf = map(float, row[2:])
        run = runs[part, daemon]
        received = sent - dropped
        run["sent"].append(sent / seconds / 1e3)
        run["received"].append(received / seconds / 1e3)
        run["fraction"].append(100 * received / sent)
        run["cpu"].append(used / received * 1e6)
        run["line"].append(used / received / per * 1e9)
        run["sum"].append(100 * total / received / per)
        run["rcvbuf"].append(rcvbuf / 2**10)
    print("| part | daemon | runs | sent, k/s | received, k/s | received, % | processor time, µs a datagram | ns a line | "
          "its sum, % of received | socket buffer, KiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (part, daemon), run in sorted(runs.items()):
        print(f"| {part} | {daemon} | {len(run['sent'])} | {cell(run['sent'], '{:.0f}')} | {cell(run['received'], '{:.0f}')}"
              f" | {cell(run['fraction'], '{:.1f}')} | {cell(run['cpu'], '{:.3f}')}"
              f" | {statistics.median(run['line']):.0f} | {statistics.median(run['sum']):.1f}"
              f" | {statistics.median(run['rcvbuf']):.0f} |")
    print("\nMedians, quartiles in brackets. Ratios of medians, the example to each of the others:\n")
    for part, daemon in sorted(runs):
        if daemon != "hio-udp":
            ours, theirs = runs[part, "hio-udp"], runs[part, daemon]
            print(f"- {part}, {daemon}: received {ratio(ours['received'], theirs['received']):.2f} ×, "
                  f"processor time {ratio(ours['cpu'], theirs['cpu']):.2f} ×")


def main():
    what, path = sys.argv[1:]
    with open(path) as file:
        rows = [line.split() for line in file if line.strip()]
    processor = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    print(f"{os.cpu_count()} × {processor}, Linux {os.uname().release}, load {os.getloadavg()[0]:.2f}\n")
    {"ingest": ingest, "statsd": statsd}[what](rows)


main()
