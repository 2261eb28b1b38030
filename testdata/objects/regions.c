/* Regions with all members and with few, static ones and unused ones; the order is that of their addresses. */
#include "naam.h"

struct node {
	u64 version, keys[7];
};

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__uint(min_length, 1 << 20);
	__type(element, struct node);
} nodes SEC(".maps");

static struct {
	__uint(rights, NAAM_ATOMIC);
} counters SEC(".maps");

struct {
	__uint(rights, NAAM_READ);
	__type(element, u64[4]);
} unused SEC(".maps");

struct request {
	u64 at;
};

SEC("naam/second-one") int second(struct request *message)
{
	return naam_fetch_add(&counters, message->at, 1, &message->at);
}

SEC("naam/first") int first(struct request *message)
{
	const void *region = message->at & 1 ? (const void *)&nodes : (const void *)&unused;

	return naam_read(region, message->at, &message->at, 8);
}

SEC("naam/recover") int recover(struct naam_recover *message)
{
	message->done = 1;
	return 0;
}
