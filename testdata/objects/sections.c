/* Handlers and data of kernel programs. */
#include "naam.h"

struct m {
	u64 a;
};

SEC("xdp") int filter(struct m *message)
{
	return message->a;
}
const char _license[] SEC("license") = "GPL";
const u64 table[4] SEC("tables") = {1, 2, 3, 4};
