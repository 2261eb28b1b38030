/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: the same as clang prints it: the sum is compared, a summand is used. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u16 first;
	u16 second;
	u32 reserved;
	u8 data[128];
};

SEC("naam/f") int f(struct m *message)
{
	register u64 length asm("r6") = message->first;
	register u64 start asm("r7") = message->second;

	asm volatile("w4 = w7\n\t"
		     "w4 += w6\n\t"
		     "if w4 > 0x80 goto +7\n\t"
		     "r1 = %[words] ll\n\t"
		     "r2 = 0\n\t"
		     "r3 = %[data]\n\t"
		     "r3 += r7\n\t"
		     "w4 = w6\n\t"
		     "call 1"
		     :
		     : "r"(length), "r"(start), [data] "r"(message->data), [words] "i"(&words)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return 0;
}
