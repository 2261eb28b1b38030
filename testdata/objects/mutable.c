/* Variables that all messages would share. */
#include "naam.h"

u64 counter = 5;
static u64 zero;
u64 common __attribute__((common));

struct m {
	u64 a;
};

SEC("naam/count") int count(struct m *message)
{
	zero += message->a;
	counter++;
	common ^= 1;
	return counter + zero;
}
