#!/usr/bin/env bash
# The example statsd against other StatsD daemons: who takes more on one processor, and for how much of it.
#
# Measured on 2026-11-25, netdata 1.37.1 and collectd 5.12 from Debian 12, statsd 0.9.0 on node 20, 2 × Xeon at 2.6 GHz in a
# virtual machine, Linux 6.18; five runs of 1 s each on an otherwise idle machine, medians:
#
#   part     daemon     received, k/s   of what was sent, %   processor time, µs a datagram
#   single   hio-udp     912            100.0                  0.615
#            netdata     726            100.0                  0.941
#            collectd    743             98.6                  1.006
#            node        299             27.8                  3.340
#   packed   hio-udp     487             54.4                  2.015
#            netdata     373             39.5                  2.661
#            collectd    392             41.5                  2.483
#            node         56              4.9                 17.521
#   flood    hio-udp    1452             99.7                  0.629
#            netdata    1514             96.7                  0.642
#            collectd   1312             59.4                  0.745
#            node        299             10.1                  3.298
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/rivals/lib.sh

help() {
  cat <<'TEXT'
usage: benches/statsd_vs_rivals.sh [--pairs N] [--seconds S] [--rows FILE] [--program PATH] [--example PATH]

Runs the example statsd, netdata and collectd (Debian's) and statsd (npm's, if npm and node are there) in turn, on the
same processor, each with the settings that suit it best and a flush every second, from the same sender on another
processor. All lines are counters of 16 names; the sum that a daemon gives in the end must be what the kernel did not
drop, otherwise it exits with 1. Only netdata may be 10 % off: it draws rates at whole seconds, and has no sum.

  single    one metric a datagram, as many datagrams as one sender sends
  packed    20 metrics a datagram, the same
  flood     one metric a datagram, the kernel cuts 64 from one message: more than any of them takes

  --pairs N        how often each is run, in turn (default 5)
  --seconds S      how long each run sends (default 3)
  --rows FILE      keeps the rows of all runs there, and makes the table from those of former calls too
  --program PATH   this hio-udp as the sender, instead of the one that cargo builds
  --example PATH   this statsd, instead of the one that cargo builds
  --help           this

It wants root, two processors, and Debian's apt. Packages are unpacked into a directory below $TMPDIR or /var/tmp,
which is removed at the end. Nothing is installed.
TEXT
}

pairs=5 seconds_each=3 rows="" program="" example="" failed=0
while [ $# -gt 0 ]; do
  case $1 in
    --help) help; exit 0 ;;
    --pairs | --seconds | --rows | --program | --example)
      [ $# -ge 2 ] || usage_error "$1 wants a value"
      case $1 in
        --pairs) pairs=$2 ;; --seconds) seconds_each=$2 ;; --rows) rows=$2 ;; --program) program=$2 ;; --example) example=$2 ;;
      esac
      shift 2 ;;
    *) usage_error "'$1' is no option" ;;
  esac
done
for number in "$pairs" "$seconds_each"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || usage_error "'$number': want a whole number above 0"
done

prepare
if [ -z "$program" ]; then
  cargo build --release -p hio-udp --bin hio-udp
  program=$PWD/target/release/hio-udp
fi
if [ -z "$example" ]; then
  cargo build --release -p hio-udp --example statsd
  example=$PWD/target/release/examples/statsd
fi
unpack netdata-core collectd-core
daemons="hio-udp netdata collectd"
if command -v npm >/dev/null && npm install --silent --prefix "$work/npm" statsd >"$work/npm.log" 2>&1; then
  daemons="$daemons node"
fi
root=$work/root
libraries=$(find "$root" -name '*.so*' -printf '%h\n' | grep -v -E 'collectd|netdata' | sort -u | paste -sd:)
rows=${rows:-$work/rows}
touch "$rows"

port=18125
names=16
for ((i = 0; i < 64; i++)); do printf 'bench.requests.service%02d.count:1|c\n' $((i % names)); done >"$work/lines"
make_capture "$work/single.pcap" <"$work/lines"
# shellcheck disable=SC2046 # 20 words
# Lines by 20, between them what make_capture takes for their end.
for _ in $(seq 20); do cat "$work/lines"; done | paste -d'|' $(printf -- '- %.0s' $(seq 20)) |
  sed 's/|c|bench/|c\\nbench/g' | make_capture "$work/packed.pcap"

cat >"$work/collectd.conf" <<CONF
BaseDir "$work/run"
PIDFile "$work/run/pid"
PluginDir "$root/usr/lib/collectd"
TypesDB "$root/usr/share/collectd/types.db"
Interval 1
LoadPlugin statsd
LoadPlugin csv
<Plugin csv>
  DataDir "$work/run/csv"
</Plugin>
<Plugin statsd>
  Host "127.0.0.1"
  Port "$port"
  CounterSum true
</Plugin>
CONF
cat >"$work/netdata.conf" <<CONF
[global]
  run as user = root
  process scheduling policy = keep
[directories]
  config = $work/run/conf
  stock config = $work/run/conf
  lib = $work/run/lib
  cache = $work/run/cache
  log = $work/run/log
  web = $root/usr/share/netdata/web
  plugins = $root/usr/lib/netdata/plugins.d
  home = $work/run
  registry = $work/run/lib
[db]
  mode = ram
  update every = 1
[logs]
  debug = none
  error = stderr
  access = none
[web]
  bind to = 127.0.0.1:$((port + 1))
[health]
  enabled = no
[ml]
  enabled = no
[statsd]
  bind to = udp:127.0.0.1:$port
  udp messages to process at once = 64
[plugins]
  proc = no
  diskspace = no
  cgroups = no
  tc = no
  idlejitter = no
  timex = no
  slabinfo = no
  apps = no
  enable running new plugins = no
  check for new plugins every = 600000
CONF
cat >"$work/node.js" <<CONF
{ port: $port, address: "127.0.0.1", mgmt_address: "127.0.0.1", mgmt_port: $((port + 1)),
  backends: ["./backends/console"], flushInterval: 1000 }
CONF

start() {
  rm -rf "$work/run"
  mkdir -p "$work/run/conf" "$work/run/lib" "$work/run/cache" "$work/run/log"
  case $1 in
    hio-udp) start_receiver $port "$example" --bind "127.0.0.1:$port" --flush 1 --workers 0 ;;
    netdata)
      start_receiver $port env LD_LIBRARY_PATH="$libraries" "$root/usr/sbin/netdata" \
        -D -c "$work/netdata.conf" -P "$work/run/pid" ;;
    collectd)
      start_receiver $port env LD_LIBRARY_PATH="$libraries" "$root/usr/sbin/collectd" -f -C "$work/collectd.conf" ;;
    node) start_receiver $port node "$work/npm/node_modules/statsd/stats.js" "$work/node.js" ;;
  esac
}

# The sum of all counters, as the daemon gives it.
sum_of_counters() {
  case $1 in
    hio-udp) awk '/^stats.counters.bench.*\.count / { sum += $2 } END { print sum + 0 }' "$work/out" ;;
    collectd)
      cat "$work"/run/csv/*/statsd/count-bench* | awk -F, '$1 != "epoch" { sum += $2 } END { printf "%.0f\n", sum }' ;;
    node)
      awk '/ counters: / { on = 1 } / timers: / { on = 0 } on && /bench/ { sum += $NF } END { print sum + 0 }' "$work/out" ;;
    netdata)
      python3 - $((port + 1)) $names <<'PY'
import json, sys, urllib.request
port, names = map(int, sys.argv[1:])
total = 0
for i in range(names):
    chart = f"statsd_bench.requests.service{i:02}.count_counter"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/data?chart={chart}&after=-60&points=60") as answer:
        total += sum(row[1] or 0 for row in json.load(answer)["data"])
print(round(total))
PY
      ;;
  esac
}

# Seconds that a process, with all its threads, has used a processor so far; proc(5).
processor_time() {
  sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($12 + $13) / hz }'
}

# One run: part, daemon, lines a datagram, capture, options of the sender. Appends a row.
run() {
  local part=$1 daemon=$2 per=$3 capture=$4 before used sum
  shift 4
  start "$daemon"
  # What a start costs is not what is measured, and netdata draws no rate of a counter's first second.
  sed -n "1,${names}s/:1|c/:0|c/p" "$work/lines" >"/dev/udp/127.0.0.1/$port"
  sleep 2.2
  before=$(processor_time "$receiver_pid")
  send "$capture" $port "$seconds_each" "$@"
  wait_until_empty $port
  # Two flushes later everything has been told.
  sleep 2.2
  used=$(awk -v before="$before" -v now="$(processor_time "$receiver_pid")" 'BEGIN { print now - before }')
  [ "$daemon" = hio-udp ] || sum=$(sum_of_counters "$daemon")
  stop_receiver $port TERM
  [ "$daemon" != hio-udp ] || sum=$(sum_of_counters "$daemon")
  local wanted=$(((sent - dropped) * per))
  if [ "$daemon" = netdata ]; then
    awk -v a="$sum" -v b="$wanted" 'BEGIN { exit !(a >= 0.9 * b && a <= 1.1 * b) }' ||
      same "$part, netdata: the sum of all counters" "$sum" "$wanted"
  else
    same "$part, $daemon: the sum of all counters" "$sum" "$wanted"
  fi
  echo "$part $daemon $sent $seconds $dropped $per $sum $used $rcvbuf" >>"$rows"
  echo "$part $daemon: sent $sent in $seconds s, dropped $dropped, the sum is $sum, $used s of processor time" >&2
}

for ((pair = 0; pair < pairs; pair++)); do
  for daemon in $daemons; do
    run single $daemon 1 "$work/single.pcap" --speed max
    run packed $daemon 20 "$work/packed.pcap" --speed max
    run flood $daemon 1 "$work/single.pcap" --segment --speed max
  done
done
python3 benches/rivals/table.py statsd "$rows"
exit $failed
