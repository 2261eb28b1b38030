#!/bin/sh
# Compiles Cell's C for this machine and runs the model test over it, for tree nodes of all sizes; then breaks the C in a number of ways, each
# of which the test must notice, so that its silence means something. Needs a C compiler (CC, default cc). Usage: run.sh [SEED [OPERATIONS]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seed=${1:-1}
operations=${2:-400000}

build() { # SOURCE_DIR NODE_BYTES VALUE_BYTES OUT
	${CC:-cc} -std=gnu17 -O1 -g -Wall -Wextra -pthread -DNODE_BYTES="$2" -DVALUE_BYTES="$3" -I"$here/../../include" "$1/test/model.c" -o "$4"
}

for sizes in "512 80" "1024 64" "2048 16"; do
	# shellcheck disable=SC2086 # two words
	build "$here/.." $sizes "$work/model"
	"$work/model" "$seed" "$operations"
done

# What follows means something only if the unbroken C passes with as few operations.
few=$((operations / 4))
build "$here/.." 512 80 "$work/model"
"$work/model" "$seed" $few >"$work/out"

mkdir -p "$work/broken/test"
cp "$here/model.c" "$work/broken/test/"
cp "$here/../cell.h" "$work/broken/"

breaks() { # NAME SED_SCRIPT
	sed -z "$2" "$here/../cell.c" >"$work/broken/cell.c"
	if cmp -s "$here/../cell.c" "$work/broken/cell.c"; then
		echo "$1: the change no longer applies" >&2
		exit 1
	fi
	build "$work/broken" 512 80 "$work/model" 2>"$work/warnings" || { cat "$work/warnings" >&2; exit 1; }
	for attempt in 1 2 3 4 5 6 7 8; do
		if ! timeout 60 "$work/model" "$attempt" $few >"$work/out" 2>&1; then
			echo "noticed: $1: $(grep -m 1 "model.c:" "$work/out" | sed "s/.*model.c:[0-9]*: //" || true)"
			return
		fi
	done
	echo "not noticed: $1" >&2
	exit 1
}

breaks "readers do not read the word again" 's/return committed(word) == version;/return 1;/'
breaks "lines of several versions are taken for a whole" 's/return !others;/return 1;/'
breaks "versions of lines are written beside the data" 's/naam_write(&tree, at + LINE_WORDS \* 8, &node->words\[LINE_WORDS\], node_bytes - LINE_WORDS \* 8);\n\tset_versions/set_versions/'
breaks "writers do not lock" 's/return old == word;/return 1;/'
breaks "the version stays as it was" 's/u32 version = (u32)word + 2;/u32 version = (u32)word;/'
breaks "the directory that counts is overwritten" 's/to = directory(committed(word) + 2);/to = from;/'
breaks "a slot that counts is overwritten" 's/return slot_at(count, level);/return slot_at(0, level);/; s/if (!(used\[at/if (0 \&\& !(used[at/'
breaks "nobody moves to the right" 's/if (right && key >= /if (0 \&\& key >= /'
breaks "the left tree node is committed before the right one is written" 's/\t\tnaam_write(&tree, node_offset(held), &node, node_bytes);\n//'
breaks "free lists without a tag" 's/((head >> 32) + 1) << 32/0ull/g'
breaks "insert does not see that the key is there" 's/if (place && node.words/if (0 \&\& node.words/'
breaks "parents are not told" 's/\t\tpending |= 1u << level;\n\t\theld = 0;/\t\theld = 0;/'
breaks "a tree node that was not needed is not given back" 's/\t\t\tif (held)\n\t\t\t\trelease(held);\n\t\t\treturn CELL_OK;/\t\t\treturn CELL_OK;/'
breaks "recover frees anybody's locks" 's/ || (u16)(word >> OWNER_SHIFT) != message->executor//'
breaks "recover does nothing" 's/if (!(word & 1) ||/if (1 ||/'
breaks "recover leaves the lines as they are" 's/set_versions(&node, version);\n\t\tnaam_write/naam_write/'
echo "model: ok"
