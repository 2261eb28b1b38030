/* Declarations that are no regions, and a use of a region that is no handle. */
#include "naam.h"

struct {
	__uint(rights, 8);
} wrong_rights SEC(".maps");
struct {
	__type(element, u64);
} no_rights SEC(".maps");
struct {
	__uint(rights, NAAM_READ);
	__uint(max_entries, 5);
} other_member SEC(".maps");
struct {
	__uint(rights, NAAM_READ);
	u64 value;
} value_member SEC(".maps");
u64 not_a_struct SEC(".maps");
struct {
	__uint(rights, NAAM_READ);
	__type(element, u64);
} fine SEC(".maps");
struct {
	__uint(rights, NAAM_READ);
} elsewhere SEC("maps");

struct m {
	u64 a;
};

SEC("naam/use") int use(struct m *message)
{
	return naam_read(&elsewhere, 0, &message->a, 8);
}
