#!/bin/sh
# Nanoseconds per call of the kernels beside this script: native code, interpreter, JIT. Needs clang 19 (NAAM_CLANG) and cargo; the release
# build of the code generator takes minutes. Usage: measure.sh [CARGO_PROFILE]
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${NAAM_CLANG:-clang-19}" -O2 testdata/lowering/kernels.c -o "$work/native"
cargo build -q -p runtime --example measure --profile "${1:-release}"
folder=${1:-release}
[ "$folder" = dev ] && folder=debug
"$work/native" >"$work/native.txt"
"target/$folder/examples/measure" testdata/lowering/kernels.o >"$work/engines.txt"
echo "kernel native_ns interpreter_ns jit_ns compile_us"
tail -n +2 "$work/engines.txt" | while read -r name interpreter jit compile; do
	echo "$name $(sed -n "s/^$name //p" "$work/native.txt") $interpreter $jit $compile"
done
