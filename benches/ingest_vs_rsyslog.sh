#!/usr/bin/env bash
# hio-udp ingest against rsyslog: who stores more datagrams on one processor, and for how much of it.
#
# Measured on 2026-11-25, rsyslog 8.2302 from Debian 12, 2 × Xeon at 2.6 GHz in a virtual machine, Linux 6.18, ext4; five
# pairs of 2 s on an otherwise idle machine, medians and quartiles:
#
#   part                  receiver   written, k/s      lost, %             processor time, µs a datagram
#   1,150,000 a second    rsyslog    1081 [1078 1092]   5.92 [4.57 6.09]   0.926 [0.907 0.927]
#                         pcapng     1145 [1142 1148]   0.00 [0.00 0.00]   0.618 [0.617 0.624]   0.67 ×
#   plain                 rsyslog     839 [835 852]     0.01 [0.00 0.05]   1.135 [1.115 1.137]
#                         pcapng      924 [916 927]     0.00 [0.00 0.00]   0.697 [0.687 0.703]   0.61 ×, 1.10 × written
#                         out         927 [922 937]     0.00 [0.00 0.05]   0.691 [0.685 0.694]
#                         jsonl       892 [892 893]     0.00 [0.00 0.74]   1.096 [1.072 1.102]
#   segmented             rsyslog    1055 [1039 1058]  55.20 [55.08 56.74] 0.942 [0.940 0.967]
#                         pcapng     1353 [1307 1401]  31.23 [28.97 33.38] 0.730 [0.719 0.761]   0.78 ×, 1.28 × written
#                         out        1378 [1378 1398]  31.09 [29.56 31.43] 0.726 [0.709 0.728]
#                         jsonl       826 [818 832]    72.27 [72.06 72.43] 1.204 [1.188 1.216]
#
# In "plain" the sender is the limit, for both. A pcapng packet takes 160 bytes in the file, rsyslog's line 101; and
# segments are made sure to be on the disk when they are closed, which rsyslog never does.
set -euo pipefail
cd "$(dirname "$0")/.."
. benches/rivals/lib.sh

help() {
  cat <<'TEXT'
usage: benches/ingest_vs_rsyslog.sh [--pairs N] [--seconds S] [--rate R] [--rows FILE] [--program PATH]

Runs rsyslog (Debian's: imudp by 128 datagrams a call into one file) and `hio-udp ingest` in turn, on the same
processor, with the same socket buffer (4 MiB asked for), from the same sender on another processor. Each stores every datagram:
lines of text of 100 bytes, all different for 10,000 in a row. What was sent must be what was stored and what the
kernel counts as dropped, and every stored line must be one of those sent; otherwise it exits with 1.

  loss      the lowest rate at which rsyslog loses 1 % or more, and what hio-udp loses then
  plain     as many as one sender sends, datagram by datagram
  segmented as many as one sender sends when the kernel cuts 64 from one message: more than any receiver takes

  --pairs N        how often each is run, in turn (default 5)
  --seconds S      how long each run sends (default 3)
  --rate R         skips the search for the rate of "loss" and takes this one, in datagrams a second
  --rows FILE      keeps the rows of all runs there, and makes the table from those of former calls too
  --program PATH   this hio-udp instead of the one that cargo builds
  --help           this

It wants root, two processors, and Debian's apt. Packages are unpacked into a directory below $TMPDIR or /var/tmp,
where the files are written too; it is removed at the end. Nothing is installed.

The sender is `hio-udp replay` and not `blast`: blast's datagrams hold control characters, each of which rsyslog
writes as four characters, so it would have to write half as much again as it was sent.
TEXT
}

pairs=5 seconds_each=3 rate="" rows="" program="" failed=0
while [ $# -gt 0 ]; do
  case $1 in
    --help) help; exit 0 ;;
    --pairs | --seconds | --rate | --rows | --program)
      [ $# -ge 2 ] || usage_error "$1 wants a value"
      case $1 in
        --pairs) pairs=$2 ;; --seconds) seconds_each=$2 ;; --rate) rate=$2 ;; --rows) rows=$2 ;; --program) program=$2 ;;
      esac
      shift 2 ;;
    *) usage_error "'$1' is no option" ;;
  esac
done
for number in "$pairs" "$seconds_each" "${rate:-1}"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || usage_error "'$number': want a whole number above 0"
done

prepare
if [ -z "$program" ]; then
  cargo build --release -p hio-udp --bin hio-udp
  program=$PWD/target/release/hio-udp
fi
unpack rsyslog
root=$work/root
rows=${rows:-$work/rows}
touch "$rows"

port=19010
line='<134>Nov 25 02:30:00 sensor telemetry: n=%010d %048d\n'
# shellcheck disable=SC2059 # it is a format
for ((i = 0; i < 10000; i++)); do printf "$line" "$i" 0; done | make_capture "$work/lines.pcap"
pattern='<134>Nov 25 02:30:00 sensor telemetry: n=00000[0-9]{5} 0{48}'

cat >"$work/rsyslog.conf" <<CONF
module(load="imudp" batchSize="128" threads="1")
main_queue(queue.type="FixedArray" queue.size="1000000" queue.dequeueBatchSize="4096" queue.timeoutShutdown="10000")
input(type="imudp" address="127.0.0.1" port="$port" rcvbufSize="4m")
template(name="raw" type="string" string="%rawmsg%\n")
action(type="omfile" file="$work/stored/lines" template="raw" ioBufferSize="256k" flushOnTXEnd="off")
CONF

start() {
  rm -rf "$work/stored"
  mkdir "$work/stored"
  local ingest=("$program" ingest --bind "127.0.0.1:$port" --rcvbuf $((4 << 20)) --json)
  case $1 in
    rsyslog)
      start_receiver $port env LD_LIBRARY_PATH="$(dirname "$(find "$root" -name 'libestr.so.0')")" \
        "$root/usr/sbin/rsyslogd" -n -f "$work/rsyslog.conf" -i "$work/rsyslog.pid" \
        -M "$(dirname "$(find "$root" -name imudp.so)")" ;;
    pcapng) start_receiver $port "${ingest[@]}" --sink "pcapng:$work/stored" ;;
    out) start_receiver $port "${ingest[@]}" --out "$work/stored/out.pcapng" ;;
    jsonl) start_receiver $port "${ingest[@]}" --sink "jsonl:$work/stored/lines.jsonl" ;;
  esac
}

stored_bytes() {
  cat "$work"/stored/* | wc -c
}

# Sets `stored`, how many datagrams are in the files; each that is not one of those sent is a fault.
count_stored() {
  local good
  case $1 in
    rsyslog)
      stored=$(wc -l <"$work/stored/lines")
      good=$(LC_ALL=C grep -c -x -E "$pattern" "$work/stored/lines" || true) ;;
    jsonl)
      stored=$(wc -l <"$work/stored/lines.jsonl")
      good=$(LC_ALL=C grep -c -E "^\{.*\"len\":100,\"text\":\"$pattern\"\}$" "$work/stored/lines.jsonl" || true) ;;
    *)
      "$program" inspect --json "$work"/stored/* >"$work/inspected"
      stored=$(json "$work/inspected" packets)
      good=$( (LC_ALL=C grep -a -o -h -E "$pattern" "$work"/stored/* || true) | wc -l) ;;
  esac
  same "$1: datagrams that are as they were sent" "${good:-0}" "$stored"
}

# One run: part, receiver, options of the sender. Appends a row.
run() {
  local part=$1 receiver=$2 bytes_at_end bytes
  shift 2
  warm_page_cache $((seconds_each * 250))
  start "$receiver"
  send "$work/lines.pcap" $port "$seconds_each" "$@"
  bytes_at_end=$(du -bc "$work"/stored/* 2>/dev/null | awk 'END { print $1 }')
  stop_receiver $port TERM
  bytes=$(stored_bytes)
  count_stored "$receiver"
  same "$part, $receiver: sent is stored and dropped" "$((stored + dropped))" "$sent"
  if [ "$receiver" != rsyslog ]; then
    same "$part, $receiver: written, by its account" "$(json "$work/out" written)" "$stored"
    same "$part, $receiver: dropped, by its account" "$(json "$work/out" kernel_dropped)" "$dropped"
  fi
  echo "$part $receiver $sent $seconds $dropped $stored $bytes_at_end $bytes $cpu_s $rcvbuf" >>"$rows"
  lost=$(awk -v d="$dropped" -v s="$sent" 'BEGIN { printf "%.2f", 100 * d / s }')
  echo "$part $receiver: sent $sent in $seconds s, lost $lost %, stored $stored, $cpu_s s of processor time" >&2
}

paced() {
  echo --segment --speed "$(awk -v rate="$1" 'BEGIN { print rate / 100000 }')"
}

loses_one_percent() {
  # shellcheck disable=SC2046 # several words
  run search rsyslog $(paced "$1")
  awk -v lost="$lost" 'BEGIN { exit lost < 1 }'
}

if [ -z "$rate" ]; then
  rate=600000
  # Twice, so that a hiccup of the machine does not end the search.
  until loses_one_percent $rate && loses_one_percent $rate; do
    rate=$((rate + 50000))
    [ $rate -le 3000000 ] || die "rsyslog loses less than 1 % at $rate datagrams a second: the sender cannot send more"
  done
fi
for ((pair = 0; pair < pairs; pair++)); do
  for receiver in rsyslog pcapng; do
    # shellcheck disable=SC2046 # several words
    run "loss_at_$rate" $receiver $(paced $rate)
  done
  for receiver in rsyslog pcapng out jsonl; do
    run plain $receiver --speed max
    run segmented $receiver --segment --speed max
  done
done
python3 benches/rivals/table.py ingest "$rows"
exit $failed
