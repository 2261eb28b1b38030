/* Legacy packet access. */
#include "naam.h"

struct m {
	u64 a;
};

SEC("naam/packet") int packet(struct m *message)
{
	u64 result;

	asm volatile("r6 = %1\n\tr0 = *(u8 *)skb[4]\n\t%0 = r0" : "=r"(result) : "r"(message) : "r0", "r1", "r2", "r3", "r4", "r5", "r6");
	return result;
}
