/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ACCEPT: register against register, and no static bound: the loop is metered. */
#include "naam.h"

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__type(element, u64);
} words SEC(".maps");

struct m {
	u64 key;
	u64 node;
	u64 found;
};

struct tree_node {
	u64 key[30];
	u64 child[31];
	u32 count;
};

SEC("naam/f") int f(struct m *message)
{
	struct tree_node node;
	u32 low = 0, high;

	naam_read(&words, message->node, &node, sizeof(node));
	high = node.count;
	if (high > 30)
		return 1;
	while (low < high) {
		u32 middle = (low + high) / 2;

		if (node.key[middle] < message->key)
			low = middle + 1;
		else
			high = middle;
	}
	message->found = node.child[low];
	return 0;
}
