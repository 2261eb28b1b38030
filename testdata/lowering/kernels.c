/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * kernels.c: what the JIT is measured with against the same C compiled for this machine (measure.sh). Compiled natively, it is a program
 * that prints nanoseconds per call; the loop around the calls and the data are those of runtime/examples/measure.rs.
 */
#include "../../handlers/include/naam.h"

struct {
	__uint(rights, NAAM_READ);
	__uint(min_length, 1 << 20);
} buckets SEC(".maps");

struct {
	__uint(rights, NAAM_READ);
	__uint(min_length, 1 << 20);
} items SEC(".maps");

struct {
	__uint(rights, NAAM_READ);
	__uint(min_length, 1 << 16);
} nodes SEC(".maps");

/* Eight lines of 64 bytes: a body that every kernel fits into. */
struct empty {
	u64 word[4];
};

SEC("naam/empty") int empty(struct empty *message)
{
	return message->word[0];
}

struct item {
	u64 key;
	u64 value[8];
};

struct lookup {
	u64 key;
	u64 value[8];
};

#define BUCKETS 8192
#define SLOTS 7

/* A bucket is a version and seven words of tag (16 bits) and item number; the version is read again after the item. */
SEC("naam/lookup") int lookup(struct lookup *message)
{
	u64 bucket[8], version;
	struct item item;
	u64 hash = message->key * 0x9E3779B97F4A7C15ull;
	u64 at = (hash >> 40 & (BUCKETS - 1)) * sizeof(bucket);
	u64 tag = hash >> 48;
	u32 slot;

	if (naam_read(&buckets, at, bucket, sizeof(bucket)))
		return -EFAULT;
	for (slot = 1; slot <= SLOTS; slot++) {
		if (bucket[slot] >> 48 != tag)
			continue;
		if (naam_read(&items, (bucket[slot] & 0xffffffff) * sizeof(item), &item, sizeof(item)))
			return -EFAULT;
		if (item.key == message->key) {
			if (naam_read(&buckets, at, &version, sizeof(version)) || version != bucket[0])
				return 2;
			message->value[0] = item.value[0];
			message->value[1] = item.value[1];
			message->value[2] = item.value[2];
			message->value[3] = item.value[3];
			message->value[4] = item.value[4];
			message->value[5] = item.value[5];
			message->value[6] = item.value[6];
			message->value[7] = item.value[7];
			return 0;
		}
	}
	return 1;
}

#define KEYS 30

struct node {
	u64 count;
	u64 key[KEYS];
	u64 child[KEYS];
};

struct search {
	u64 key;
	u64 child;
};

/* A binary search in a tree node of 488 bytes. */
SEC("naam/search") int search(struct search *message)
{
	struct node node;
	u32 low = 0, high;

	if (naam_read(&nodes, (message->key >> 32 & 63) * 512, &node, sizeof(node)))
		return -EFAULT;
	high = node.count;
	if (high > KEYS)
		return 1;
	while (low < high) {
		u32 middle = (low + high) / 2;

		if (middle >= KEYS)
			return 1;
		if (node.key[middle] <= (message->key & 0xffffffff))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || low > KEYS)
		return 1;
	message->child = node.child[low - 1];
	return 0;
}

struct copy {
	u64 from[32];
	u64 to[32];
};

SEC("naam/copy64") int copy64(struct copy *message)
{
	__builtin_memcpy(message->to, message->from, 64);
	return 0;
}

SEC("naam/copy256") int copy256(struct copy *message)
{
	__builtin_memcpy(message->to, message->from, 256);
	return 0;
}

struct sum {
	u64 word[128];
};

SEC("naam/sum") int sum(struct sum *message)
{
	u64 total = 0;
	u32 i;

	for (i = 0; i < 128; i++)
		total += message->word[i];
	return total;
}

#ifndef __bpf__
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct region {
	const void *handle;
	u64 bytes;
	u64 *words;
} regions[3] = {{&buckets, 1 << 20, 0}, {&items, 1 << 20, 0}, {&nodes, 1 << 16, 0}};

/* As an engine without a sandbox would do it: the region's bounds are checked, its words are read atomically. */
static inline __attribute__((always_inline)) long read_words(struct region *region, u64 offset, void *destination, u32 length)
{
	u64 *from = region->words + offset / 8, *to = destination;
	u32 i;

	if (length > region->bytes || offset > region->bytes - length)
		return -EFAULT;
	for (i = 0; i < length / 8; i++)
		to[i] = __atomic_load_n(from + i, __ATOMIC_ACQUIRE);
	return 0;
}

long naam_read(const void *handle, u64 offset, void *destination, u32 length)
{
	struct region *region = handle == &buckets ? &regions[0] : handle == &items ? &regions[1] : &regions[2];

	return read_words(region, offset, destination, length);
}

static u64 body[128];
static u64 checksum;

static double now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void measure(const char *name, int (*handler)(void *))
{
	double best = 1e9;
	int round, i;

	for (round = 0; round < 400; round++) {
		double start = now_ns();

		for (i = 0; i < 500; i++) {
			body[0] = (u64)(i & 1023) * 0x5001ull;
			checksum += handler(body);
			__asm__ volatile("" : : : "memory");
		}
		double each = (now_ns() - start) / 500;
		best = each < best ? each : best;
	}
	printf("%s %.2f\n", name, best);
}

int main(void)
{
	u64 key;
	int i;

	for (i = 0; i < 3; i++)
		regions[i].words = aligned_alloc(4096, regions[i].bytes), memset(regions[i].words, 0, regions[i].bytes);
	for (i = 0; i < 1024; i++) {
		u64 hash, *bucket;
		int slot = 1;

		key = (u64)i * 0x5001ull;
		hash = key * 0x9E3779B97F4A7C15ull;
		bucket = regions[0].words + (hash >> 40 & (BUCKETS - 1)) * 8;
		while (bucket[slot])
			slot++;
		bucket[slot] = hash >> 48 << 48 | (u64)i;
		regions[1].words[i * 9] = key;
	}
	for (i = 0; i < 64; i++)
		for (key = 0; key < KEYS; key++)
			regions[2].words[i * 64] = KEYS, regions[2].words[i * 64 + 1 + key] = key * 40;
	measure("empty", (int (*)(void *))empty);
	measure("lookup", (int (*)(void *))lookup);
	measure("search", (int (*)(void *))search);
	measure("copy64", (int (*)(void *))copy64);
	measure("copy256", (int (*)(void *))copy256);
	measure("sum", (int (*)(void *))sum);
	return checksum == 42;
}
#endif
