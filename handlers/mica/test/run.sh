#!/bin/sh
# Compiles MICA's C for this machine and runs the model test over it, for both presets; then breaks the C in a number of ways, each
# of which the test must notice, so that its silence means something. Needs a C compiler (CC, default cc). Usage: run.sh [SEED [OPERATIONS]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
application=mica
. "$here/../../test/model.sh"
seed=${1:-1}
operations=${2:-1000000}

for preset in 0 1; do
	compile "$here/../.." "$work/model" -DCACHE_PRESET=$preset
	"$work/model" "$seed" "$operations"
done
# All executors at one list, as when there are more of them than lists.
one_list="-DCACHE_PRESET=0 -DLISTS=1"
# shellcheck disable=SC2086 # two options
compile "$here/../.." "$work/model" $one_list
"$work/model" "$seed" $((operations / 4))

store=-DCACHE_PRESET=0
cache=-DCACHE_PRESET=1
passes "$seed" $((operations / 4)) $store
breaks "readers do not read the version again" 's/} while (!unchanged(&key, &place));/} while (0);/g' $store
breaks "writers do not lock" 's/return old == place->word;/return 1;/g' $store
breaks "the version stays as it was" 's/(u32)(word + 2)/(u32)word/g' $store
breaks "blocks are free before the commit" 's/if (commit(&key, &place, place.slot, block)) {/if (place.item) release(place.item); if (commit(\&key, \&place, place.slot, block)) {/g' $store
breaks "free lists without a tag" 's/((head >> 32) + 1) << 32/0ull/g' $one_list
breaks "insert does not see that the key is there" 's/|| (found == RECORD && !over)) {/) {/g' $store
breaks "recover frees anybody's locks" 's/(u16)(word >> OWNER_SHIFT) == message->executor/1/g' $store
breaks "recover does nothing" 's/naam_compare_swap(&table, at + i/if (0) naam_compare_swap(\&table, at + i/g' $store
breaks "a replaced record is not given back" 's/\n\t\t\t\trelease(place.item);/\n\t\t\t\t;/g' $cache
echo "model: ok"
