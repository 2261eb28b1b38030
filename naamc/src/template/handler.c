/*
 * NAME.c: counters in server memory, changed by active messages.
 *
 *	naamc build NAME.c -o NAME.naam
 *	naamc inspect NAME.naam
 *	naamc trace NAME.naam NAME --message '{"slot": 3, "amount": 5}' --region counters=4K
 */
#include "naam.h"

/* Memory of the server: named here, bound to a real region when the bundle is deployed. */
struct {
	__uint(rights, NAAM_READ | NAAM_ATOMIC);
	__uint(min_length, 64);
	__type(element, u64);
} counters SEC(".maps");

/* The message: what the client sends, and what comes back in its place. */
struct NAME {
	u64 slot;   /* in: which counter */
	u64 amount; /* in: what to add */
	u64 before; /* out: the counter before */
	u64 first;  /* out: counter 0, as an example of a plain read */
};

/* Adds to a counter. The result is 0, or -EFAULT if the region has no such counter. */
SEC("naam/NAME") int NAME(struct NAME *message)
{
	long error = naam_fetch_add(&counters, message->slot * 8, message->amount, &message->before);

	if (error)
		return error;
	return naam_read(&counters, 0, &message->first, sizeof(message->first));
}
