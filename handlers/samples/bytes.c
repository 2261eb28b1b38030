/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* bytes.c: local memory: copies, fills and comparisons of variable length, read-only data, switches, narrow and signed numbers. */
#include "naam.h"

struct echo {
	u32 length;
	u8 data[508];
};

/* Says it again: the first so many bytes of the message. */
SEC("naam/echo") int echo(struct echo *message)
{
	naam_reply(naam_at_most(message->length, sizeof(*message)));
	return 0;
}

struct shift {
	u16 from;
	u16 to;
	u16 length;
	u8 fill;
	s8 order; /* out: how both halves compared before */
	u8 data[120];
};

/* Compares, moves (source and destination may overlap) and fills parts of the message. */
SEC("naam/shift") int shift(struct shift *message)
{
	u32 from = message->from, to = message->to, length = message->length;
	long order;

	if (from > 60 || to > 60 || length > 60)
		return -EINVAL;
	order = naam_compare(message->data + from, message->data + to, length);
	message->order = order < 0 ? -1 : order > 0;
	naam_copy(message->data + to, message->data + from, length);
	naam_fill(message->data + from, message->fill, length / 2);
	return 0;
}

enum operation { ADD, SUBTRACT, MULTIPLY, DIVIDE, SHIFT_RIGHT, SWAP, WEIGH, NAME };

struct calculate {
	u8 operation;
	s8 small;
	s16 narrow;
	s32 wide;
	u64 left;
	u64 right;
	u64 result;
	u8 name[8];
};

static const u8 names[8][8] = {"add", "sub", "mul", "div", "shr", "swap", "weigh", "name"};

/* A switch over many kinds of arithmetic, with tables in read-only data. */
SEC("naam/calculate") int calculate(struct calculate *message)
{
	u64 left = message->left + message->small, right = message->right - message->narrow;
	u64 weight = 0, bits;
	u32 i;

	switch (message->operation) {
	case ADD:
		message->result = left + right + message->wide;
		break;
	case SUBTRACT:
		message->result = left - right - (u32)message->wide;
		break;
	case MULTIPLY:
		message->result = left * right + (s64)message->small * message->narrow;
		break;
	case DIVIDE:
		message->result = left / (right ? right : 1) + (u32)message->wide % 1000u;
		break;
	case SHIFT_RIGHT:
		message->result = (s64)left >> (right & 63) ^ right >> (left & 31) ^ (u64)(s64)(message->wide >> (left & 31));
		break;
	case SWAP:
		message->result = __builtin_bswap64(left) ^ __builtin_bswap32(message->wide) ^ __builtin_bswap16(message->narrow);
		break;
	case WEIGH:
		for (bits = left; bits; bits &= bits - 1)
			weight++;
		message->result = weight;
		break;
	case NAME:
		for (i = 0; i < 8; i++)
			message->name[i] = names[message->left & 7][i];
		message->result = names[message->right & 7][message->wide & 7];
		break;
	default:
		return -EINVAL;
	}
	return message->small;
}
