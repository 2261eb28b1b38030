#!/bin/sh
# Rebuilds testdata/objects/*.o, with which naamc's reader of object files is tested, from the C beside them. The flags are those of `naamc build`; a file whose first
# line is `/* clang: FLAGS */` adds some. Paths are mapped away: any checkout gives the same bytes with the same clang. Usage: build-objects.sh [CLANG] [OUTPUT_ROOT]
set -eu
cd "$(dirname "$0")/../.."
clang=${1:-${NAAM_CLANG:-clang-19}}
out=${2:-.}
mkdir -p "$out/testdata/objects"
for source in testdata/objects/*.c; do
	extra=$(sed -n '1s|^/\* clang: \(.*\) \*/$|\1|p' "$source")
	# shellcheck disable=SC2086
	"$clang" -O2 -g -target bpf -mcpu=v3 -fno-unroll-loops -mllvm -disable-lsr -mllvm -disable-loop-idiom-all \
		-mllvm -bpf-stack-size=4096 "-ffile-prefix-map=$PWD=." -Ihandlers/include $extra -c "$source" -o "$out/${source%.c}.o"
done
