/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: a u32 parameter is the low half of its register, whatever the upper one holds. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 offset;
	u64 length;
	u8 data[256];
};

SEC("naam/f") int f(struct m *message)
{
	long result;

	asm volatile("r4 = *(u64 *)(%[m] + 8)\n\t"
		     "r0 = 1\n\t"
		     "if w4 > 0x100 goto +6\n\t"
		     "r2 = *(u64 *)(%[m] + 0)\n\t"
		     "r3 = %[m]\n\t"
		     "r3 += 16\n\t"
		     "r1 = %[words] ll\n\t"
		     "call 1\n\t"
		     "%[result] = r0"
		     : [result] "=r"(result)
		     : [m] "r"(message), [words] "i"(&words)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return result;
}
