/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: or instead of addition, where the low bits of the pointer are known to be zero. */
#include "naam.h"

struct m {
	u64 index;
	u64 result;
};

SEC("naam/f") int f(struct m *message)
{
	u64 index = message->index & 7, word = 0x0807060504030201ull, result;

	asm volatile("*(u64 *)(r10 - 512) = %2\n\t"
		     "r2 = r10\n\t"
		     "r2 += -512\n\t"
		     "r2 |= %1\n\t"
		     "%0 = *(u8 *)(r2 + 0)"
		     : "=r"(result)
		     : "r"(index), "r"(word)
		     : "r2", "memory");
	message->result = result;
	return 0;
}
