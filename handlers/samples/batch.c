/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* batch.c: several reads or writes for one message: counts and lengths that the message says. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE);
	__uint(min_length, 1024);
	__type(element, u64);
} words SEC(".maps");

#define BATCH_MAX 16

struct multi_get {
	u32 count;
	u32 failed; /* out: how many could not be read */
	u64 index[BATCH_MAX];
	u64 value[BATCH_MAX];
};

/* Reads words by their indices, up to sixteen. */
SEC("naam/multi_get") int multi_get(struct multi_get *message)
{
	u32 i;

	if (message->count > BATCH_MAX)
		return -EINVAL;
	message->failed = 0;
	for (i = 0; i < message->count; i++)
		if (naam_read(&words, message->index[i] * 8, &message->value[i], 8))
			message->failed++;
	return 0;
}

struct piece {
	u64 offset;
	u16 skip;    /* bytes at the start of `data` that stay */
	u16 length;  /* bytes to read behind them */
	u32 reserved;
	u8 data[256];
};

/* Reads a piece of any length to any place in the message; only what was filled goes back. */
SEC("naam/read_piece") int read_piece(struct piece *message)
{
	u32 skip = message->skip, length = message->length;
	long error;

	if (skip + length > sizeof(message->data))
		return -EINVAL;
	error = naam_read(&words, message->offset, message->data + skip, length);
	naam_reply(16 + skip + length);
	return error;
}

/* Writes it: the same lengths, but clamped instead of refused. */
SEC("naam/write_piece") int write_piece(struct piece *message)
{
	u32 skip = naam_at_most(message->skip, sizeof(message->data));
	u32 length = naam_at_most(message->length, sizeof(message->data) - skip);

	naam_reply(0);
	return naam_write(&words, message->offset, message->data + skip, length);
}

struct sum {
	u64 offset;
	u32 words;
	u32 reserved;
	u64 total;
};

/* Adds up a run of words, 32 at a time. */
SEC("naam/sum") int sum(struct sum *message)
{
	u64 buffer[32], at = message->offset, total = 0;
	u32 left = message->words, i;

	while (left) {
		u32 now = naam_at_most(left, 32);

		if (naam_read(&words, at, buffer, now * 8))
			return -EFAULT;
		for (i = 0; i < now; i++)
			total += buffer[i];
		at += now * 8;
		left -= now;
	}
	message->total = total;
	return 0;
}
