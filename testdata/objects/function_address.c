/* A function's address as a number. */
#include "naam.h"

struct m {
	u64 a;
};

static __attribute__((noinline)) int one(u64 a)
{
	return a + 1;
}

SEC("naam/address") int address(struct m *message)
{
	message->a = (u64)one;
	return one(3);
}
