/* Constant data that contains addresses. */
#include "naam.h"

struct m {
	u64 a;
};

static const char *const names[] = {"zero", "one", "two", "three"};

SEC("naam/name") int name(struct m *message)
{
	return names[message->a & 3][1];
}
