/* clang: -g0 */
/* Built without -g. */
#include "naam.h"

struct m {
	u64 a;
};

SEC("naam/plain") int plain(struct m *message)
{
	return message->a;
}
