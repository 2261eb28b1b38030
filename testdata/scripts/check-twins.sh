#!/bin/sh
# Each file in testdata/verifier/reject has a twin in accept that differs in exactly one line.
set -eu
cd "$(dirname "$0")/../verifier"
ls reject/*.c | sed 's|reject/||' | sort >/tmp/naam-reject.$$
trap 'rm -f /tmp/naam-reject.$$ /tmp/naam-accept.$$' EXIT
ls accept/*.c | sed 's|accept/||' | sort >/tmp/naam-accept.$$
cmp /tmp/naam-reject.$$ /tmp/naam-accept.$$
for name in $(cat /tmp/naam-reject.$$); do
	count=$(diff "reject/$name" "accept/$name" | grep -c '^<' || true)
	if [ "$count" != 1 ] || [ "$(grep -c 'JUDGED: N' "reject/$name")" != 1 ]; then
		echo "$name: $count lines differ, or not one line is judged" >&2
		exit 1
	fi
done
echo "twins: $(wc -l </tmp/naam-reject.$$) pairs"
