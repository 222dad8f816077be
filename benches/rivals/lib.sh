# What the benches share that run programs of this crate beside others. To be sourced.
#
# A run: a receiver on one processor, a sender on another, and afterwards a row of what became of the datagrams.
# Processor time is the whole receiver's, of all its threads and of the kernel on its behalf (getrusage(2)).
#
# shellcheck shell=bash disable=SC2034,SC2154 # variables of those that source it

receiver_cpu=0
sender_cpu=1
group_nice=""

# Stops with one line on standard error.
die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Stops as for a wrong command line.
usage_error() {
  echo "${0##*/}: $*; see --help" >&2
  exit 2
}

# Sets `work`, a directory that is removed at the end together with all that was started.
prepare() {
  [ "$(id -u)" = 0 ] || die "wants root: it raises the socket buffer past net.core.rmem_max and asks apt"
  [ "$(nproc --all)" -ge 2 ] || die "wants two processors, one for the receiver and one for the sender"
  local missing=""
  command -v python3 >/dev/null || missing="$missing python3"
  command -v ss >/dev/null || missing="$missing iproute2"
  if [ -n "$missing" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086 # several words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
  fi
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/hio-udp-rivals.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  # Receivers and senders inherit it, so that what else the machine has to do disturbs them less. Where sched(7)'s
  # autogroups are on, it is the nice value of the whole session that counts.
  renice -n -20 $$ >/dev/null
  group_nice=$(sed 's/.* //' /proc/self/autogroup 2>/dev/null || true)
  nice_group -20
}

nice_group() {
  [ -z "$group_nice" ] || echo "$1" >/proc/self/autogroup || true
}

clean_up() {
  [ -z "${receiver_pid:-}" ] || kill -KILL "$receiver_pid" 2>/dev/null || true
  # shellcheck disable=SC2046 # several numbers
  kill $(jobs -p) 2>/dev/null || true
  rm -rf "$work"
  nice_group "$group_nice"
}

# Unpacks Debian packages, with what they need and this machine lacks, under $work/root: nothing is installed,
# so no service starts and nothing is left behind.
unpack() {
  mkdir -p "$work/debs/partial" "$work/root"
  apt-get update -qq
  apt-get -y -qq --no-install-recommends --reinstall --download-only \
    -o Dir::Cache::archives="$work/debs" -o APT::Sandbox::User=root install "$@" >/dev/null
  local deb
  for deb in "$work"/debs/*.deb; do
    dpkg -x "$deb" "$work/root"
  done
}

# Makes a capture of datagrams with these payloads, one a line of standard input, 100,000 a second: for `hio-udp replay`.
make_capture() {
  python3 -c '
import struct, sys
with open(sys.argv[1], "wb") as out:
    out.write(struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101))
    for i, line in enumerate(sys.stdin.buffer):
        data = line.rstrip(b"\n").replace(b"\\n", b"\n")
        udp = struct.pack(">HHHH", 5000, 514, 8 + len(data), 0)
        ip = struct.pack(">BBHHHBBHII", 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0, 0x7F000001, 0x7F000001)
        s, ns = divmod(i * 10_000, 10**9)
        out.write(struct.pack("<IIII", s, ns, 28 + len(data), 28 + len(data)) + ip + udp + data)
' "$1"
}

# Starts a receiver on its processor; it is ready when the port is bound.
start_receiver() {
  local port=$1
  shift
  (
    TIMEFORMAT='%3U %3S'
    time bash -c 'echo $$ >"$0"; exec "$@"' "$work/pid" taskset -c "$receiver_cpu" "$@" >"$work/out" 2>"$work/err"
  ) 2>"$work/cpu" &
  receiver_job=$!
  for _ in $(seq 200); do
    if [ -n "$(udp_table "$port")" ]; then
      receiver_pid=$(cat "$work/pid")
      rcvbuf=$(ss -uanm "sport = :$port" | sed -n 's/.*,rb\([0-9]*\),.*/\1/p')
      return
    fi
    sleep 0.05
  done
  cat "$work/out" "$work/err" >&2
  die "no socket on port $port after 10 s: $*"
}

wait_until_empty() {
  for _ in $(seq 200); do
    [ "$(udp_table "$1" | cut -d' ' -f1)" != 00000000 ] || break
    sleep 0.05
  done
}

# Ends it: when its socket is empty, with a signal that asks. Sets `dropped` and `cpu_s`.
stop_receiver() {
  local port=$1 signal=$2
  wait_until_empty "$port"
  sleep 0.2
  dropped=$(udp_table "$port" | cut -d' ' -f2)
  kill "-$signal" "$receiver_pid"
  wait "$receiver_job" || { cat "$work/err" >&2; die "the receiver failed"; }
  receiver_pid=""
  cpu_s=$(awk '{print $1 + $2}' "$work/cpu")
}

# Of the socket on a port: bytes that wait in hexadecimal, and datagrams dropped.
udp_table() {
  awk -v port=":$(printf %04X "$1")" '$2 ~ port "$" { split($5, queue, ":"); print queue[2], $NF }' /proc/net/udp
}

# Sends the capture in turns for some seconds. Sets `sent` and `seconds`. --speed is in times of 100,000 a second, or max.
send() {
  local capture=$1 port=$2 seconds_each=$3
  shift 3
  # In the foreground: otherwise timeout tells the whole group, too, and a second signal ends the program at once.
  timeout --foreground --signal=INT "$seconds_each" taskset -c "$sender_cpu" "$program" \
    replay "$capture" --to "127.0.0.1:$port" --loop 1000000000 --json "$@" >"$work/sent" 2>"$work/send.err" || true
  sent=$(json "$work/sent" sent)
  seconds=$(json "$work/sent" seconds)
}

json() {
  python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"
}

# Writes and removes a file of so many MiB: memory that the host of a virtual machine has taken back costs the first
# who asks for it ten times as much as others, and a new run should find the page cache as the one before did.
warm_page_cache() {
  dd if=/dev/zero of="$work/warm" bs=1M count="$1" status=none
  rm -f "$work/warm"
}

# Whether two numbers that must be equal are; says so if not, and lets the whole end with 1.
same() {
  local what=$1 left=$2 right=$3
  if [ "$left" != "$right" ]; then
    echo "DOES NOT ADD UP: $what: $left, not $right" >&2
    failed=1
  fi
}
