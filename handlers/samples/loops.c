/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* loops.c: loops without UDMA: up to 100,000 turns, nested, counting down, over parts of the message. */
#include "naam.h"

struct mill {
	u32 outer;
	u32 inner;
	u64 seed;
	u64 result;
};

/* Nested loops, at most 1,000 by 100 turns. */
SEC("naam/mill") int mill(struct mill *message)
{
	u32 outer = message->outer, inner = message->inner, i, j;
	u64 x = message->seed;

	if (outer > 1000 || inner > 100)
		return -EINVAL;
	for (i = 0; i < outer; i++)
		for (j = 0; j < inner; j++) {
			x = x * 6364136223846793005ull + i;
			x ^= x >> 29 ^ j;
		}
	message->result = x;
	return 0;
}

struct countdown {
	u64 turns;
	u64 result;
};

/* One loop of at most 100,000 turns, counted down. */
SEC("naam/countdown") int countdown(struct countdown *message)
{
	u64 left = message->turns, x = 1;

	if (left > 100000)
		return -EINVAL;
	for (; left; left--)
		x = (x << 7 | x >> 57) + left;
	message->result = x;
	return 0;
}

#define ITEMS 24

struct sort {
	u32 count;
	u32 swaps;
	s32 items[ITEMS];
};

/* Insertion sort of signed numbers: the inner loop goes down, its bound is the outer one's index. */
SEC("naam/sort") int sort(struct sort *message)
{
	u32 i, j, swaps = 0;

	if (message->count > ITEMS)
		return -EINVAL;
	for (i = 1; i < message->count; i++)
		for (j = i; j > 0 && message->items[j - 1] > message->items[j]; j--) {
			s32 item = message->items[j];

			message->items[j] = message->items[j - 1];
			message->items[j - 1] = item;
			swaps++;
		}
	message->swaps = swaps;
	return 0;
}

struct histogram {
	u16 length;
	u8 data[126];
	u8 most;     /* out: the most frequent nibble, the smallest of them */
	u8 times;
};

/* Counts nibbles in an array on the stack that is indexed by data. */
SEC("naam/histogram") int histogram(struct histogram *message)
{
	u8 counts[16] = {0};
	u32 i, most = 0;

	if (message->length > sizeof(message->data))
		return -EINVAL;
	for (i = 0; i < message->length; i++) {
		counts[message->data[i] & 15]++;
		counts[message->data[i] >> 4]++;
	}
	for (i = 1; i < 16; i++)
		if (counts[i] > counts[most])
			most = i;
	message->most = most;
	message->times = counts[most];
	return 0;
}
