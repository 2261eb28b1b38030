/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* counter.c: the smallest useful handlers: a word of a region, incremented, or moved under a lock. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__uint(min_length, 64);
	__type(element, u64);
} counters SEC(".maps");

struct count {
	u64 index;
	u64 value; /* in: what to add; out: the counter before */
};

/* Adds to a counter. -EFAULT if there is no such counter, -EINVAL never: index * 8 is aligned. */
SEC("naam/count") int count(struct count *message)
{
	u64 old;
	long error = naam_fetch_add(&counters, message->index * 8, message->value, &old);

	message->value = old;
	return error;
}

struct raw_count {
	u64 offset;
	u64 value;
};

/* The same at any offset, so that all three results occur. */
SEC("naam/raw_count") int raw_count(struct raw_count *message)
{
	return naam_fetch_add(&counters, message->offset, message->value, &message->value);
}

/* Two accounts and an amount: a lock in counter 0 makes both changes one. */
struct transfer {
	u32 from;
	u32 to;
	u64 amount;
	u64 left; /* out: what the first account has then */
};

SEC("naam/transfer") int transfer(struct transfer *message)
{
	u64 owner = naam_executor(), free = 0, old, balance, other;
	int result = 1;

	if (!message->from || !message->to)
		return -EINVAL;
	do {
		naam_compare_swap(&counters, 0, 0, owner, &old);
	} while (old != 0);
	naam_read(&counters, message->from * 8ull, &balance, 8);
	if (balance >= message->amount) {
		balance -= message->amount;
		naam_write(&counters, message->from * 8ull, &balance, 8);
		naam_read(&counters, message->to * 8ull, &other, 8);
		other += message->amount;
		naam_write(&counters, message->to * 8ull, &other, 8);
		result = 0;
	}
	naam_write(&counters, 0, &free, 8);
	message->left = balance;
	return result;
}
