#!/bin/sh
# Compiles the samples for this machine and compares what they compute with testdata/handlers/samples.txt; BLESS=1 writes that file.
set -eu
cd "$(dirname "$0")/../../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sanitize="-fsanitize=undefined -fno-sanitize-recover=all -fno-sanitize=alignment"
echo "int main(void) { return 0; }" >"$work/try.c"
${CC:-cc} $sanitize "$work/try.c" -o "$work/try" 2>/dev/null || sanitize=
${CC:-cc} -std=gnu17 -O1 $sanitize -Wall -Wextra \
	-Ihandlers/include handlers/samples/native/cases.c -o "$work/cases"
"$work/cases" >"$work/samples.txt"
if [ "${BLESS:-}" = 1 ]; then
	cp "$work/samples.txt" testdata/handlers/samples.txt
fi
cmp "$work/samples.txt" testdata/handlers/samples.txt
echo "samples: $(grep -c ^case testdata/handlers/samples.txt) cases as expected"
