/* An address inside a region's declaration: only its beginning is a handle. The assembly writes what no C needs. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 a;
};

SEC("naam/inside") int inside(struct m *message)
{
	u64 address;

	asm volatile("%0 = words + 8 ll" : "=r"(address));
	return naam_read((void *)address, 0, &message->a, 8);
}
