/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: the same with the hint taken. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u32 length;
	u32 reserved;
	u8 data[72];
};

SEC("naam/f") int f(struct m *message)
{
	u64 length = message->length, checked = length & 0xff;

	asm volatile("if %0 > 0x40 goto +3\n\t"
		     "%1 += 7\n\t"
		     "%1 &= 0xf8\n\t"
		     "goto +1\n\t"
		     "%1 = 0"
		     : "+r"(checked), "+r"(length));
	return naam_read(&words, 0, message->data, naam_at_most(length, 72));
}
