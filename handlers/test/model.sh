# What the model tests of applications share; sourced by their run.sh, which has set `application` and `here`, its
# folder. Needs a C compiler (CC, default cc).
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # SOURCE_DIR OUT OPTION...
	source=$1 out=$2
	shift 2
	${CC:-cc} -std=gnu17 -O1 -g -Wall -Wextra "$@" -I"$here/../../include" "$source/$application/test/model.c" -o "$out"
}

# What follows means something only if the unbroken C passes with as few operations.
passes() { # SEED OPERATIONS OPTION...
	seed=$1 few=$2
	shift 2
	compile "$here/../.." "$work/model" "$@"
	"$work/model" "$seed" "$few" >"$work/out"
	mkdir -p "$work/$application/test" "$work/test"
	cp "$here/model.c" "$work/$application/test/"
	cp "$here/../$application.h" "$work/$application/"
	cp "$here/../../test/model.h" "$work/test/"
}

# Breaks the C by a script for sed that sees the whole file at once. The test must notice, by one of a few seeds.
breaks() { # NAME SCRIPT OPTION...
	name=$1 script=$2
	shift 2
	sed -z "$script" "$here/../$application.c" >"$work/$application/$application.c"
	if cmp -s "$here/../$application.c" "$work/$application/$application.c"; then
		echo "$name: the change no longer applies" >&2
		exit 1
	fi
	compile "$work" "$work/model" "$@" 2>"$work/warnings" || { cat "$work/warnings" >&2; exit 1; }
	for attempt in 1 2 3 4 5 6 7 8; do
		if ! timeout 120 "$work/model" "$attempt" "$few" >"$work/out" 2>&1; then
			echo "noticed: $name: $(grep -m 1 "model.[ch]:" "$work/out" | sed "s/.*model.[ch]:[0-9]*: //" || true)"
			return
		fi
	done
	echo "not noticed: $name" >&2
	exit 1
}
