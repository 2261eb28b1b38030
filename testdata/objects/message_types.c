/* Types that mean nothing on another machine. */
#include "naam.h"

struct incomplete;

struct inner {
	u64 number;
	const char *text;
};
struct with_pointer {
	u32 count;
	struct inner list[4];
};
struct with_function {
	int (*function)(u64);
};
struct with_float {
	u32 a;
	double b;
};
struct with_wide {
	u64 a;
	__int128 b;
};

struct {
	__uint(rights, NAAM_READ);
	__type(element, struct inner);
} pointers SEC(".maps");

SEC("naam/a") int a(struct with_pointer *message)
{
	return message->count + naam_read(&pointers, 0, &message->count, 4);
}
SEC("naam/b") int b(struct with_function *message)
{
	return message != 0;
}
SEC("naam/c") int c(struct with_float *message)
{
	return message->a;
}
SEC("naam/d") int d(struct with_wide *message)
{
	return message->a;
}
