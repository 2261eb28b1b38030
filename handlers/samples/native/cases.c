/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* cases.c: runs the sample handlers, compiled for this machine, on made-up messages and prints what they computed: the expected
 * results of every engine. ../README.md explains the format. The same numbers come out every time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../batch.c"
#include "../bytes.c"
#include "../chase.c"
#include "../counter.c"
#include "../loops.c"
#include "../pointers.c"

#define REGION_BYTES_MAX 4096
#define CASES 16

static struct region {
	const void *handle;
	const char *file;
	const char *name;
	u32 bytes;
	u8 before[REGION_BYTES_MAX];
	u8 now[REGION_BYTES_MAX];
} regions[] = {
	{.handle = &counters, .file = "counter", .name = "counters", .bytes = 128},
	{.handle = &list, .file = "chase", .name = "list", .bytes = 32 * 33},
	{.handle = &tree, .file = "chase", .name = "tree", .bytes = 488 * 8},
	{.handle = &words, .file = "batch", .name = "words", .bytes = 1024},
	{.handle = &left, .file = "pointers", .name = "left", .bytes = 256},
	{.handle = &right, .file = "pointers", .name = "right", .bytes = 256},
};
#define REGIONS (sizeof(regions) / sizeof(regions[0]))

static u32 reply_bytes;
static u64 random_state = 0x9E3779B97F4A7C15ull;

static u64 draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

/* ---- Helpers ---- */

static u8 *reach(const void *handle, u64 offset, u64 length)
{
	u32 i;

	for (i = 0; i < REGIONS; i++)
		if (regions[i].handle == handle)
			return offset > regions[i].bytes || length > regions[i].bytes - offset ? 0 : regions[i].now + offset;
	abort();
}

long naam_read(const void *region, u64 offset, void *destination, u32 length)
{
	u8 *bytes = reach(region, offset, length);

	if (bytes)
		memcpy(destination, bytes, length);
	else
		memset(destination, 0, length);
	return bytes ? 0 : -EFAULT;
}

long naam_write(const void *region, u64 offset, const void *source, u32 length)
{
	u8 *bytes = reach(region, offset, length);

	if (bytes)
		memcpy(bytes, source, length);
	return bytes ? 0 : -EFAULT;
}

static long atomic(const void *region, u64 offset, u64 *old, u8 **word)
{
	*old = 0;
	if (offset % 8)
		return -EINVAL;
	*word = reach(region, offset, 8);
	if (!*word)
		return -EFAULT;
	memcpy(old, *word, 8);
	return 0;
}

long naam_compare_swap(const void *region, u64 offset, u64 expected, u64 desired, u64 *old)
{
	u8 *word;
	long error = atomic(region, offset, old, &word);

	if (!error && *old == expected)
		memcpy(word, &desired, 8);
	return error;
}

long naam_fetch_add(const void *region, u64 offset, u64 addend, u64 *old)
{
	u8 *word;
	long error = atomic(region, offset, old, &word);

	if (!error) {
		addend += *old;
		memcpy(word, &addend, 8);
	}
	return error;
}

void naam_reply(u32 length)
{
	reply_bytes = length;
}

void naam_copy(void *to, const void *from, u32 length)
{
	memmove(to, from, length);
}

void naam_fill(void *to, u32 byte, u32 length)
{
	memset(to, byte, length);
}

long naam_compare(const void *a, const void *b, u32 length)
{
	return memcmp(a, b, length);
}

u32 naam_executor(void)
{
	return 1;
}

/* ---- Printing ---- */

static void print_bytes(const char *what, const void *bytes, u32 length)
{
	u32 i;

	printf("%s ", what);
	for (i = 0; i < length; i++)
		printf("%02x", ((const u8 *)bytes)[i]);
	printf("\n");
}

static void begin(const char *file)
{
	char what[64];
	u32 i;

	printf("file %s\n", file);
	for (i = 0; i < REGIONS; i++)
		if (!strcmp(regions[i].file, file)) {
			snprintf(what, sizeof(what), "region %s", regions[i].name);
			print_bytes(what, regions[i].before, regions[i].bytes);
		}
}

static void run(const char *name, int (*handler)(void *), void *message, u32 bytes)
{
	char what[64];
	u32 i;

	for (i = 0; i < REGIONS; i++)
		memcpy(regions[i].now, regions[i].before, regions[i].bytes);
	snprintf(what, sizeof(what), "case %s", name);
	print_bytes(what, message, bytes);
	reply_bytes = bytes;
	printf("result %d\n", handler(message));
	print_bytes("reply", message, reply_bytes);
	for (i = 0; i < REGIONS; i++)
		if (memcmp(regions[i].now, regions[i].before, regions[i].bytes)) {
			snprintf(what, sizeof(what), "after %s", regions[i].name);
			print_bytes(what, regions[i].now, regions[i].bytes);
		}
}

/* Fills a message with noise, sets what must make sense, and runs the handler that takes it. */
#define EACH(name, ...) EACH_OF(name, name, __VA_ARGS__)
#define EACH_OF(name, type, ...)                                                                                                 \
	do {                                                                                                                     \
		u32 turn;                                                                                                        \
		for (turn = 0; turn < CASES; turn++) {                                                                           \
			struct type m;                                                                                           \
			u32 byte;                                                                                                \
			for (byte = 0; byte < sizeof(m); byte++)                                                                 \
				((u8 *)&m)[byte] = draw();                                                                       \
			__VA_ARGS__;                                                                                             \
			run(#name, (int (*)(void *))name, &m, sizeof(m));                                                        \
		}                                                                                                                \
	} while (0)

/* ---- What regions hold ---- */

static void fill_regions(void)
{
	u32 i, j;

	for (i = 0; i < REGIONS; i++)
		for (j = 0; j < regions[i].bytes; j++)
			regions[i].before[j] = draw();
	/* Counter 0 is a lock, free; the others are small enough for transfers that fail. */
	for (i = 0; i < 16; i++) {
		u64 counter = i ? draw() % 1000 : 0;

		memcpy(regions[0].before + i * 8, &counter, 8);
	}
	/* Thirty-two links behind an empty one: key i * 3 at i, chained in steps of 5, the last one ends. */
	for (i = 1; i <= 32; i++) {
		struct link link = {.key = i * 3, .next = i + 5 <= 32 ? (i + 5) * 32 : i == 32 ? 1 << 20 : 0, .value = {i, draw()}};

		memcpy(regions[1].before + i * 32, &link, 32);
	}
	/* A root over three inner nodes over three leaves that they share, so that every level is searched. */
	for (i = 0; i < 8; i++) {
		struct tree_node node = {.count = i == 7 ? 31 : 5 + i * 4, .level = i == 0 ? 2 : i < 4};

		for (j = 0; j < KEYS; j++) {
			node.keys[j] = j * 100 + i * 10 + 5;
			node.children[j] = i == 0 ? (1 + j % 3) * 488 : i < 4 ? (4 + (i + j) % 3) * 488 : draw();
		}
		memcpy(regions[2].before + i * 488, &node, sizeof(node));
	}
}

int main(void)
{
	u32 i;

	fill_regions();
	begin("counter");
	EACH(count, m.index = draw() % 20);
	EACH(raw_count, m.offset = turn % 4 == 3 ? ~0ull << (turn / 2) : draw() % 140 & (turn % 2 ? ~0ull : ~7ull));
	EACH(transfer, m.from = draw() % 8; m.to = draw() % 8; m.amount = draw() % 1000);

	begin("chase");
	EACH(find, i = draw() % 6; m.head = turn % 8 == 7 ? draw() % 1100 : i * 32; m.key = turn % 2 ? draw() % 99 : (i + draw() % 7 * 5) * 3);
	EACH(descend, m.key = draw() % 3200; m.root = turn % 8 == 7 ? 488 * 7 : turn % 8 == 6 ? 488 * 8 : 488 * (draw() % 4));

	begin("batch");
	EACH(multi_get, m.count = turn == 0 ? 17 : turn == 1 ? ~0u : draw() % 17; for (i = 0; i < BATCH_MAX; i++) m.index[i] = draw() % 140);
	EACH_OF(read_piece, piece, m.offset = draw() % 1024; m.skip = draw() % 200; m.length = draw() % 100);
	EACH_OF(write_piece, piece, m.offset = draw() % 900; m.skip = draw() % (turn % 4 ? 200 : 70000); m.length = draw() % (turn % 4 ? 100 : 70000));
	EACH(sum, m.offset = draw() % 64; m.words = turn == 0 ? 4000 : draw() % 120);

	begin("loops");
	EACH(mill, m.outer = turn == 0 ? 1001 : turn == 1 ? 1000 : draw() % 40; m.inner = turn == 1 ? 100 : draw() % (turn == 2 ? 200 : 101));
	EACH(countdown, m.turns = turn == 0 ? 100000 : turn == 1 ? 100001 : draw() % 300);
	EACH(sort, m.count = turn == 0 ? 25 : draw() % 25);
	EACH(histogram, m.length = turn == 0 ? 127 : draw() % 127);

	begin("pointers");
	EACH(choose, m.which = turn; m.where = turn >> 2; m.offset = draw() % (turn > 12 ? 300 : 200));
	EACH(gather, for (i = 0; i < 8; i++) m.offset[i] = draw() % (turn > 12 ? 300 : 200));
	EACH(fields, m.count = draw() % 30; m.start = draw() % (turn > 12 ? 300 : 41));

	begin("bytes");
	EACH(echo, m.length = turn == 0 ? ~0u : draw() % 40);
	EACH(shift, m.from = draw() % 61; m.to = draw() % 61; m.length = draw() % 62; if (turn % 3 == 0) memcpy(m.data + m.to, m.data + m.from, 40));
	EACH(calculate, m.operation = turn % 9; if (turn % 2) m.right = (s8)m.right);
	return 0;
}
