#!/bin/sh
# Rebuilds the ELFs that are checked in, so that nobody needs clang to run or test: testdata/handlers/*.o from handlers/*/*.c, and
# testdata/verifier/*/*.o from the C beside them. The flags are those of `naamc build`. Paths are mapped away: any checkout gives the same bytes
# with the same clang. Usage: build-handlers.sh [CLANG] [OUTPUT_ROOT]
set -eu
cd "$(dirname "$0")/../.."
clang=${1:-${NAAM_CLANG:-clang-19}}
out=${2:-.}

build() { # C_FILE OBJECT
	mkdir -p "$(dirname "$2")"
	"$clang" -O2 -g -target bpf -mcpu=v3 -fno-unroll-loops -mllvm -disable-lsr -mllvm -disable-loop-idiom-all \
		-mllvm -bpf-stack-size=4096 "-ffile-prefix-map=$PWD=." -Wall -Wextra -Wno-unused-parameter -Ihandlers/include -c "$1" -o "$2"
}

build handlers/mica/mica.c "$out/testdata/handlers/mica.o"
build handlers/cell/cell.c "$out/testdata/handlers/cell.o"
for source in handlers/samples/*.c; do
	build "$source" "$out/testdata/handlers/$(basename "$source" .c).o"
done
build testdata/lowering/kernels.c "$out/testdata/lowering/kernels.o"
for source in testdata/verifier/accept/*.c testdata/verifier/reject/*.c testdata/verifier/patterns/*.c; do
	build "$source" "$out/${source%.c}.o"
done
