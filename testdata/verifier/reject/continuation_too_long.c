/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A message that fits until it waits: then it takes its continuation along. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ);
	__type(element, u64);
} table SEC(".maps");

struct m {
	u64 slot;
	u64 value;
	u8 rest[8112];
};

SEC("naam/f") int f(struct m *message)
{
	return naam_read(&table, message->slot, &message->value, 8); /* JUDGED: N501 */
}
