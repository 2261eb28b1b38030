#!/bin/sh
# Compiles MICA's C for this machine and runs the model test over it, for both presets; then breaks the C in a number of ways, each
# of which the test must notice, so that its silence means something. Needs a C compiler (CC, default cc). Usage: run.sh [SEED [OPERATIONS]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seed=${1:-1}
operations=${2:-1000000}

build() { # SOURCE_DIR PRESET OUT
	${CC:-cc} -std=gnu17 -O1 -g -Wall -Wextra -pthread -DCACHE_PRESET="$2" -I"$here/../../include" "$1/test/model.c" -o "$3"
}

for preset in 0 1; do
	build "$here/.." $preset "$work/model"
	"$work/model" "$seed" "$operations"
done

# What follows means something only if the unbroken C passes with as few operations.
few=$((operations / 4))
build "$here/.." 0 "$work/model"
"$work/model" "$seed" $few >"$work/out"

mkdir -p "$work/broken/test"
cp "$here/model.c" "$work/broken/test/"
cp "$here/../mica.h" "$work/broken/"

breaks() { # NAME PRESET SED_SCRIPT
	sed "$3" "$here/../mica.c" >"$work/broken/mica.c"
	if cmp -s "$here/../mica.c" "$work/broken/mica.c"; then
		echo "$1: the change no longer applies" >&2
		exit 1
	fi
	build "$work/broken" "$2" "$work/model" 2>"$work/warnings" || { cat "$work/warnings" >&2; exit 1; }
	for attempt in 1 2 3 4 5; do
		if ! timeout 120 "$work/model" "$attempt" $few >"$work/out" 2>&1; then
			echo "noticed: $1: $(grep -m 1 "model.c:" "$work/out" | sed "s/.*model.c:[0-9]*: //" || true)"
			return
		fi
	done
	echo "not noticed: $1" >&2
	exit 1
}

breaks "readers do not read the version again" 0 's/} while (!unchanged(&key, &place));/} while (0);/'
breaks "writers do not lock" 0 's/return old == place->word;/return 1;/'
breaks "the version stays as it was" 0 's/(u32)(word + 2)/(u32)word/'
breaks "blocks are free before the commit" 0 's/if (commit(&key, &place, place.slot, block)) {/if (place.item) release(place.item); if (commit(\&key, \&place, place.slot, block)) {/'
breaks "free lists without a tag" 0 's/((head >> 32) + 1) << 32/0ull/'
breaks "insert does not see that the key is there" 0 's/|| (found == RECORD && !over)) {/) {/'
breaks "recover frees anybody's locks" 0 's/(u16)(word >> OWNER_SHIFT) == message->executor/1/'
breaks "recover does nothing" 0 's/naam_compare_swap(&table, at + i/if (0) naam_compare_swap(\&table, at + i/'
breaks "a replaced record is not given back" 1 's/^\t\t\t\trelease(place.item);/\t\t\t\t;/'
echo "model: ok"
