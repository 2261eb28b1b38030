/* Names of handlers, and two functions in one section. */
#include "naam.h"

struct m {
	u64 a;
};

SEC("naam/") int nameless(struct m *message)
{
	return message->a;
}
SEC("naam/7up") int digit(struct m *message)
{
	return message->a;
}
SEC("naam/a/b") int slash(struct m *message)
{
	return message->a;
}
SEC("naam/both") int both_a(struct m *message)
{
	return message->a;
}
SEC("naam/both") int both_b(struct m *message)
{
	return message->a + 1;
}
