/* clang: -fno-builtin */
/* Lengths that the compiler does not know become library calls. */
#include "naam.h"

void *memcpy(void *, const void *, unsigned long);
int memcmp(const void *, const void *, unsigned long);
void *memset(void *, int, unsigned long);
extern int unknown(u64 x);
extern const u64 elsewhere;

struct m {
	u32 n;
	u8 a[64], b[64];
};

SEC("naam/copy") int copy(struct m *message)
{
	memcpy(message->a, message->b, message->n);
	return 0;
}

SEC("naam/fill") int fill(struct m *message)
{
	memset(message->a, 7, message->n);
	return 0;
}

SEC("naam/compare") int compare(struct m *message)
{
	return memcmp(message->a, message->b, message->n);
}

SEC("naam/other") int other(struct m *message)
{
	return unknown(message->n) + elsewhere;
}
