/* Handlers with other prototypes than `int name(struct T *message)`. */
#include "naam.h"

struct m {
	u64 a;
};
struct incomplete;
struct nothing {
};
struct huge {
	u8 bytes[9000];
};

SEC("naam/result") u64 result(struct m *message)
{
	return message->a;
}
SEC("naam/none") int none(void)
{
	return 0;
}
SEC("naam/two") int two(struct m *message, u64 b)
{
	return message->a + b;
}
SEC("naam/number") int number(u64 a)
{
	return a;
}
SEC("naam/integer") int integer(u64 *a)
{
	return *a;
}
SEC("naam/unfinished") int unfinished(struct incomplete *message)
{
	return message != 0;
}
SEC("naam/empty") int empty(struct nothing *message)
{
	return message != 0;
}
SEC("naam/large") int large(struct huge *message)
{
	return message->bytes[0];
}
SEC("naam/recover") int recover(struct m *message)
{
	return message->a;
}
