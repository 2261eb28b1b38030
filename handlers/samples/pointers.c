/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pointers.c: pointers that are chosen, computed, kept across UDMA calls and passed to functions. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE);
	__uint(min_length, 256);
	__type(element, u64);
} left SEC(".maps");

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE);
	__uint(min_length, 256);
	__type(element, u64);
} right SEC(".maps");

struct choose {
	u32 which;
	u32 where;
	u64 offset;
	u64 mine[4];
	u64 sum;
};

/* Reads from one of two regions to one of two places, then adds up that place. */
SEC("naam/choose") int choose(struct choose *message)
{
	u64 local[4] = {1, 2, 3, 4};
	u64 *to = message->where & 1 ? local : message->mine;
	const void *from = message->which & 1 ? (const void *)&left : (const void *)&right;
	long error = naam_read(from, message->offset, to, 16);

	message->sum = to[0] + to[1] * 3 + to[2] * 5 + to[3] * 7;
	if (message->which & 2)
		error |= naam_write(from == (const void *)&left ? (const void *)&right : (const void *)&left, 8, to, 32);
	return error;
}

struct gather {
	u8 order[8];
	u64 offset[8];
	u64 value[8];
};

/* Keeps more pointers across the calls than there are registers, so that they are spilled. */
SEC("naam/gather") int gather(struct gather *message)
{
	u64 a = 0, b = 0, c = 0, d = 0;
	u64 *first = message->order[0] & 1 ? &a : &message->value[0];
	u64 *second = message->order[1] & 1 ? &b : &message->value[1];
	u64 *third = message->order[2] & 1 ? &c : &message->value[2];
	u64 *fourth = message->order[3] & 1 ? &d : &message->value[3];
	u64 *fifth = &message->value[message->order[4] & 7];
	long errors = 0;

	errors += naam_read(&left, message->offset[0], first, 8);
	errors += naam_read(&right, message->offset[1], second, 8);
	errors += naam_read(&left, message->offset[2], third, 8);
	errors += naam_read(&right, message->offset[3], fourth, 8);
	errors += naam_read(&left, message->offset[4], fifth, 8);
	message->value[7] ^= *first + *second * 3 + *third * 5 + *fourth * 7 + *fifth * 11;
	return errors;
}

struct fields {
	u16 count;
	u16 start;
	u8 bytes[60];
	u64 digest;
};

static __attribute__((noinline)) u64 digest_of(const u8 *bytes, u32 count, u64 *running)
{
	u32 i;

	for (i = 0; i < naam_at_most(count, 20); i++)
		*running = (*running ^ bytes[i]) * 1099511628211ull;
	return *running >> 7;
}

/* Calls a function with pointers into the message and into its own stack. */
SEC("naam/fields") int fields(struct fields *message)
{
	u64 running = 0xCBF29CE484222325ull, result;
	u32 start = message->start;

	if (start > sizeof(message->bytes) - 20)
		return -EINVAL;
	result = digest_of(message->bytes + start, message->count, &running);
	result ^= digest_of(message->bytes, 10, &running);
	message->digest = result + running;
	return 0;
}
