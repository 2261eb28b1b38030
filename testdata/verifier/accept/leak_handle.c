/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A region handle in the message. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 value;
	u64 result;
};

SEC("naam/f") int f(struct m *message)
{
	message->result = naam_length(&words); /* JUDGED: N305 */
	return 0;
}
