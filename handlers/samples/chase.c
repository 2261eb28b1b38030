/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* chase.c: data-dependent pointer chases, whose lengths nobody knows beforehand: a list, and a tree whose nodes are searched. */
#include "naam.h"

struct link {
	u64 key;
	u64 next; /* offset of the next link, 0 at the end */
	u64 value[2];
};

struct {
	__uint(rights, NAAM_READ);
	__type(element, struct link);
} list SEC(".maps");

struct find {
	u64 key;
	u64 head; /* offset of the first link */
	u64 value[2];
	u32 hops;
	u32 reserved;
};

/* The value under a key in an unsorted list. 1 if it is not there. */
SEC("naam/find") int find(struct find *message)
{
	struct link link;
	u64 at = message->head;

	message->hops = 0;
	while (at) {
		if (naam_read(&list, at, &link, sizeof(link)))
			return -EFAULT;
		message->hops++;
		if (link.key == message->key) {
			message->value[0] = link.value[0];
			message->value[1] = link.value[1];
			return 0;
		}
		at = link.next;
	}
	return 1;
}

#define KEYS 30

struct tree_node {
	u16 count;
	u16 level; /* 0 is a leaf */
	u32 reserved;
	u64 keys[KEYS];
	u64 children[KEYS]; /* offsets of nodes, or values in a leaf */
};

struct {
	__uint(rights, NAAM_READ);
	__type(element, struct tree_node);
} tree SEC(".maps");

struct descend {
	u64 key;
	u64 root;
	u64 value;
};

/* The child or value under the greatest key that is at most the one sought, from the root to a leaf, by binary search in every node. */
SEC("naam/descend") int descend(struct descend *message)
{
	struct tree_node node;
	u64 at = message->root;

	for (;;) {
		u32 low = 0, high;

		if (naam_read(&tree, at, &node, sizeof(node)))
			return -EFAULT;
		high = node.count;
		if (high > KEYS)
			return -EINVAL;
		while (low < high) {
			u32 middle = (low + high) / 2;

			if (node.keys[middle] <= message->key)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == 0)
			return 1;
		at = node.children[low - 1];
		if (node.level == 0)
			break;
	}
	message->value = at;
	return 0;
}
