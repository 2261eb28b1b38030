/* Recursion, direct and through another function; read without findings, refused when it is inlined. */
#include "naam.h"

struct m {
	u64 a;
};

static __attribute__((noinline)) u64 odd(u64 n, u64 *steps);

static __attribute__((noinline)) u64 even(u64 n, u64 *steps)
{
	*steps += 1;
	return n ? odd(n - 1, steps) : 1;
}

static __attribute__((noinline)) u64 odd(u64 n, u64 *steps)
{
	*steps += 2;
	return n ? even(n - 1, steps) * 3 : 0;
}

SEC("naam/parity") int parity(struct m *message)
{
	return even(message->a, &message->a);
}

SEC("naam/fine") int fine(struct m *message)
{
	return message->a;
}
