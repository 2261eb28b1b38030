/* What clang makes of everyday C: switches, constant copies, 32-bit comparisons, arguments with dirty upper halves. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE);
} data SEC(".maps");

struct item {
	u32 kind;
	s32 delta;
	u64 length;
	u8 bytes[256];
};

SEC("naam/dispatch") int dispatch(struct item *message)
{
	switch (message->kind) {
	case 0: return 17;
	case 1: return message->delta;
	case 2: return -message->delta;
	case 3: return message->bytes[3];
	case 4: return message->bytes[message->delta & 0xff];
	case 5: return 99;
	default: return -1;
	}
}

SEC("naam/copy") int copy(struct item *message)
{
	struct item local = *message;

	__builtin_memcpy(message->bytes + 64, local.bytes, 64);
	return local.bytes[message->kind & 0xff];
}

SEC("naam/dirty") int dirty(struct item *message)
{
	u32 length = message->length;

	if (length > sizeof(message->bytes))
		return -1;
	if (message->delta > 255 || message->delta < 0)
		return -2;
	return naam_write(&data, message->bytes[message->delta], message->bytes, length);
}
