/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: functions that are not inlined by clang, with pointers into the stack of their caller. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 offset;
	u64 sum;
};

struct pair {
	u64 first;
	u64 second;
};

static __attribute__((noinline)) long fetch(u64 offset, struct pair *pair)
{
	struct pair local;
	long error = naam_read(&words, offset, &local, sizeof(local));

	pair->first = local.second;
	pair->second = local.first;
	return error;
}

static __attribute__((noinline)) long fetch_two(u64 offset, struct pair *pairs, u64 *sum)
{
	long error = fetch(offset, &pairs[0]);

	error |= fetch(offset + 16, &pairs[1]);
	*sum = pairs[0].first + pairs[1].second;
	return error;
}

SEC("naam/f") int f(struct m *message)
{
	struct pair pairs[2];
	u64 sum;
	long error = fetch_two(message->offset, pairs, &sum);

	message->sum = sum ^ pairs[1].first;
	return error;
}
