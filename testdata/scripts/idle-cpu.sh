#!/usr/bin/env bash
# Measures what an idle cluster costs: the CPU time of all its processes together, over ten seconds after load.
# usage: testdata/scripts/idle-cpu.sh [HOST_EXECUTORS [NIC_EXECUTORS]]     (builds nothing: run `cargo build -p naamc -p naam-run` before)
# Prints seconds of CPU in ten seconds; the target is under 0.2. Exit code 1 if it is missed.
set -euo pipefail
cd "$(dirname "$0")/../.."
host=${1:-1} nic=${2:-0}
programs=${CARGO_TARGET_DIR:-target}/${PROFILE:-debug}
for program in naamc naam-run; do
    [ -x "$programs/$program" ] || { echo "skipped: $programs/$program is not built"; exit 0; }
done
scratch=$(mktemp -d)
export XDG_RUNTIME_DIR=$scratch
"$programs/naam-run" cluster --host "$host" --nic "$nic" >"$scratch/cluster.log" 2>&1 &
trap '"$programs/naam-run" stop >/dev/null 2>&1 || true; wait; rm -rf "$scratch"' EXIT
until "$programs/naam-run" status >/dev/null 2>&1; do :; done

"$programs/naamc" build testdata/handlers/counter.o -o "$scratch/counter.naam" >/dev/null
"$programs/naam-run" region create numbers --bytes 4K >/dev/null
"$programs/naam-run" deploy "$scratch/counter.naam" --as counter --bind counters=numbers >/dev/null
load() {
    for _ in $(seq 100); do
        "$programs/naam-run" invoke counter/count --message '{"index": 1, "value": 1}' >/dev/null
    done
}
load
if [ "$nic" -gt 0 ]; then
    "$programs/naam-run" steer all nic >/dev/null
    load
fi

processes=$("$programs/naam-run" status --json | grep '"process"' | tr -dc '0-9\n')
ticks() { # of all threads of all processes, in units of 1/CLK_TCK s
    for process in $processes; do sed 's/.*) //' "/proc/$process/stat" | cut -d' ' -f12,13; done | awk '{ sum += $1 + $2 } END { print sum }'
}
before=$(ticks)
sleep 10
after=$(ticks)
hertz=$(getconf CLK_TCK)
awk -v ticks=$((after - before)) -v hertz="$hertz" -v host="$host" -v nic="$nic" 'BEGIN {
    seconds = ticks / hertz
    printf "%.2f s of CPU in 10 s: supervisor and places with %d host and %d NIC executors, idle after load\n", seconds, host, nic
    exit seconds < 0.2 ? 0 : 1
}'
