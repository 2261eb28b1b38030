#!/bin/sh
# Compiles Cell's C for this machine and runs the model test over it, for tree nodes of all sizes; then breaks the C in a number of ways, each
# of which the test must notice, so that its silence means something. Needs a C compiler (CC, default cc). Usage: run.sh [SEED [OPERATIONS]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
application=cell
. "$here/../../test/model.sh"
seed=${1:-1}
operations=${2:-400000}

for sizes in "512 80" "1024 64" "2048 16"; do
	compile "$here/../.." "$work/model" -DNODE_BYTES="${sizes% *}" -DVALUE_BYTES="${sizes#* }"
	"$work/model" "$seed" "$operations"
done

small="-DNODE_BYTES=512 -DVALUE_BYTES=80"
# shellcheck disable=SC2086 # two options
passes "$seed" $((operations / 4)) $small
breaks "readers do not read the word again" 's/return committed(word) == version;/return 1;/' $small
breaks "lines of several versions are taken for a whole" 's/return !others;/return 1;/' $small
breaks "versions of lines are written beside the data" 's/naam_write(&tree, at + LINE_WORDS \* 8, &node->words\[LINE_WORDS\], node_bytes - LINE_WORDS \* 8);\n\tset_versions/set_versions/' $small
breaks "writers do not lock" 's/return old == word;/return 1;/' $small
breaks "the version stays as it was" 's/u32 version = (u32)word + 2;/u32 version = (u32)word;/' $small
breaks "the directory that counts is overwritten" 's/to = directory(committed(word) + 2);/to = from;/' $small
breaks "a slot that counts is overwritten" 's/return slot_at(count, level);/return slot_at(0, level);/; s/if (!(used\[at/if (0 \&\& !(used[at/' $small
breaks "a byte of a directory that was never written counts" 's/if (at >= slots())/if (count)/' $small
breaks "nobody moves to the right" 's/if (right && key >= /if (0 \&\& key >= /' $small
breaks "the left tree node is committed before the right one is written" 's/\t\tnaam_write(&tree, node_offset(held), &node, node_bytes);\n//' $small
breaks "free lists without a tag" 's/((head >> 32) + 1) << 32/0ull/g' $small
breaks "insert does not see that the key is there" 's/if (place && node.words/if (0 \&\& node.words/' $small
breaks "parents are not told" 's/\t\tpending |= 1u << level;\n\t\theld = 0;/\t\theld = 0;/' $small
breaks "a tree node that was not needed is not given back" 's/\t\t\tif (held)\n\t\t\t\trelease(held);\n\t\t\treturn CELL_OK;/\t\t\treturn CELL_OK;/' $small
breaks "recover frees anybody's locks" 's/ || (u16)(word >> OWNER_SHIFT) != message->executor//' $small
breaks "recover does nothing" 's/if (!(word & 1) ||/if (1 ||/' $small
breaks "recover leaves the lines as they are" 's/set_versions(&node, version);\n\t\tnaam_write/naam_write/' $small
echo "model: ok"
