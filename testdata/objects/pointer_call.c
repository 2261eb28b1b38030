/* Calls through pointers: the address of a function is taken, and `callx` follows. */
#include "naam.h"

struct m {
	u64 a;
};

static __attribute__((noinline)) int one(u64 a)
{
	return a + 1;
}

static __attribute__((noinline)) int two(u64 a)
{
	return a * 2;
}

SEC("naam/choose") int choose(struct m *message)
{
	int (*function)(u64) = message->a & 1 ? one : two;

	return function(message->a);
}
