/* clang: -mcpu=v4 */
/* Functions that are not inlined by the compiler: static and global ones, calls inside .text, pointers into callers' stacks. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ);
} words SEC(".maps");

struct sum {
	u64 from, to;
};

static __attribute__((noinline)) u64 word(u64 at)
{
	u64 buffer[8];

	naam_read(&words, at, buffer, sizeof(buffer));
	return buffer[at & 7];
}

static __attribute__((noinline)) void add(u64 *total, u64 at)
{
	*total += word(at);
	if (*total > 1000)
		return;
	*total += word(at + 1);
}

__attribute__((noinline)) u64 twice(u64 value)
{
	return value * 2;
}

SEC("naam/sum") int sum(struct sum *message)
{
	u64 total = message->from, index;

	for (index = 0; index < 4; index++)
		add(&total, message->to + index);
	return twice(total) + word(total);
}
