/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * model.c: Cell's handlers, compiled for this machine, over a model of UDMA (`../../test/model.h`).
 *
 * It proves, for the sizes it is compiled with (NODE_BYTES, VALUE_BYTES):
 *   - alone, every handler does what a sorted map does, up to a full region;
 *   - with many executors on few leaves, no value is torn, a scan is sorted and misses nothing that was there when it began, no record is
 *     lost, and no tree node leaks;
 *   - no tree node is handed out twice;
 *   - when an executor dies at any UDMA step of an insert, or in the middle of a write, readers go on, `recover` frees what it held, every
 *     record is there, and at most one tree node is lost;
 *   - when a lock is never given back, readers go on, and writers give up in time, with nothing done;
 *   - a torn inner tree node, whatever it counts, leads to no place that is no tree node.
 *
 * What it leaves to other tests: the compiled eBPF code.
 *
 * Usage: model [SEED [OPERATIONS]]
 */
#include "../cell.c"

#define WORDS_PER_TURN 256
#define LINES_ASCEND 1
#include "../../test/model.h"

#define TREE_BYTES_MAX (64 << 20)
static _Alignas(64) _Atomic u64 tree_words[TREE_BYTES_MAX / 8];
static u64 tree_bytes;

static _Atomic u64 *memory_of(const void *region, u64 *bytes)
{
	*bytes = tree_bytes;
	return region == &tree ? tree_words : 0;
}

/* ---- Records that say what they should be ---- */

#define RECORD_WORDS (1 + VALUE_BYTES / 8)

/* A record: every word of its value follows from key and writer, which the first word names. */
static void set_record(u64 *record, u64 key, u64 writer)
{
	u32 i;

	record[0] = key;
	record[1] = writer;
	for (i = 2; i < RECORD_WORDS; i++)
		record[i] = scramble(key * 31 + writer * 17 + i);
}

static void check_record(const u64 *record)
{
	u64 expected[RECORD_WORDS];

	set_record(expected, record[0], record[1]);
	CHECK(!memcmp(record, expected, sizeof(expected)), "a torn record under key %llu", record[0]);
}

static u64 busy;

/* Others were in the way. Not for ever, unless the tree leads in a circle. */
static void try_again(int *tries)
{
	busy++;
	CHECK(++*tries < 200, "it is always busy");
}

static int do_insert(u64 key, u64 writer)
{
	struct cell_record message;
	int result, tries = 0;

	for (;;) {
		memset(&message, 0xee, sizeof(message));
		set_record(&message.key, key, writer);
		steps = 0;
		result = insert(&message);
		if (result != CELL_BUSY)
			break;
		try_again(&tries);
	}
	CHECK(result != CELL_INVALID && reply_bytes == 0, "insert says %d", result);
	return result;
}

/* The writer of the record under a key, 0 if there is none, or -1 if others were in the way. */
static long try_lookup(u64 key)
{
	struct cell_record message;
	int result;

	memset(&message, 0xee, sizeof(message));
	message.key = key;
	steps = 0;
	result = lookup(&message);
	if (result != CELL_OK)
		return result == CELL_BUSY ? -1 : 0;
	CHECK(reply_bytes == RECORD_WORDS * 8 && message.key == key, "a reply of %u bytes", reply_bytes);
	check_record(&message.key);
	return message.value[0];
}

static u64 do_lookup(u64 key)
{
	long writer;
	int tries = 0;

	while ((writer = try_lookup(key)) < 0)
		try_again(&tries);
	return writer;
}

/* A page; checks that it is sorted and whole. */
static void do_scan(u64 key, u32 count, struct cell_scan *page)
{
	u64 last = 0;
	u32 i;
	int tries = 0;

	for (;;) {
		memset(page, 0xee, sizeof(*page));
		page->key = key;
		page->count = count;
		steps = 0;
		if (scan(page) == CELL_OK)
			break;
		try_again(&tries);
	}
	CHECK(page->count <= count && reply_bytes == 16 + page->count * RECORD_WORDS * 8, "a page of %u bytes", reply_bytes);
	for (i = 0; i < page->count; i++) {
		const u64 *record = &page->page[i * RECORD_WORDS];

		CHECK(record[0] >= key && (!i || record[0] > last), "key %llu follows %llu", record[0], last);
		check_record(record);
		last = record[0];
	}
	CHECK(!page->more || page->key > last || !page->count, "the next page begins with %llu after %llu", page->key, last);
}

/* ---- The state of the whole tree ---- */

static void fresh(u64 nodes)
{
	/* Nobody is at work. Nothing was ever written behind the region's end. */
	memset((void *)tree_words, 0, tree_bytes);
	tree_bytes = HEADER_BYTES + nodes * NODE_BYTES;
	CHECK(tree_bytes <= TREE_BYTES_MAX, "the region is too large");
}

static void peek(u64 number, struct node *node)
{
	memcpy(node, (void *)&tree_words[node_offset(number) / 8], NODE_BYTES);
}

struct census {
	u64 records;
	u64 nodes;
	u64 unknown; /* tree nodes that their parents do not know */
	u64 lost;    /* handed out, but neither in use nor free */
	u64 levels;
};

/* Counts everything, and checks that no lock is held, fences meet, keys are sorted, and no tree node is used twice. */
static struct census take_census(void)
{
	static u8 used[TREE_BYTES_MAX / NODE_BYTES];
	struct census census = {0};
	u64 root = tree_words[ROOT / 8], first = (u32)root, known[2] = {1, 0}, number;
	int level;

	memset(used, 0, sizeof(used));
	census.levels = (root >> 32 & 0xff) + 1;
	for (level = census.levels - 1; level >= 0; level--) {
		u64 low = 0, chain = 0, below = 0;
		struct node node;

		known[1] = 0;
		for (number = first;; number = (u32)node.words[directory(node.words[0]) + LINK]) {
			u64 from, count, i, previous = 0;

			CHECK(!used[number]++, "tree node %llu is used twice", number);
			peek(number, &node);
			CHECK(!(node.words[0] & 1) && !(u16)(node.words[0] >> OWNER_SHIFT), "tree node %llu is locked", number);
			CHECK(whole(&node, node.words[0]), "lines of tree node %llu differ", number);
			CHECK((int)level_of(node.words[0]) == level && node.words[LOW] == low, "tree node %llu does not follow", number);
			from = directory(node.words[0]);
			count = entries(&node, from);
			for (i = 0; i < count; i++) {
				u64 at = slot(&node, from, i), key = node.words[at];

				CHECK(key >= low && (!i || key > previous), "tree node %llu is not sorted", number);
				CHECK(!(u32)node.words[from + LINK] || key < node.words[from + HIGH], "key %llu is too high", key);
				previous = key;
				if (level) {
					known[1]++;
					if (!below++)
						first = (u32)node.words[next_word(at)];
				} else {
					u64 record[RECORD_WORDS], word;

					for (word = 0; word < RECORD_WORDS; word++, at = next_word(at))
						record[word] = node.words[at];
					check_record(record);
					census.records++;
				}
			}
			chain++;
			low = node.words[from + HIGH];
			if (!(u32)node.words[from + LINK])
				break;
		}
		census.nodes += chain;
		/* A child that is not in the chain would be handed out and not used. */
		CHECK(known[0] <= chain, "parents know %llu tree nodes of %llu", known[0], chain);
		census.unknown += chain - known[0];
		known[0] = known[1];
	}
	for (number = (u32)tree_words[FREE_LIST / 8]; number; number = (u32)tree_words[node_offset(number) / 8])
		CHECK(!used[number]++, "free tree node %llu is used", number);
	for (number = 0; number <= tree_words[NODES_USED / 8]; number++)
		census.lost += !used[number];
	return census;
}

/* ---- Alone: a sorted map ---- */

#define NUMBERS 4096
static u64 writers[NUMBERS]; /* 0: absent */

static u64 key_of(u64 number)
{
	return number < 64 ? number : number > NUMBERS - 64 ? ~0ull - (NUMBERS - 1 - number) : number << 40;
}

static void test_alone(long operations)
{
	u64 number, full = 0, records = 0, i;
	struct cell_scan page;
	struct census census;

	fresh(600);
	memset(writers, 0, sizeof(writers));
	for (i = 1; i <= (u64)operations; i++) {
		int result;

		if (i % 4096 == 0)
			CHECK(!take_census().unknown, "a parent does not know a tree node");
		number = draw() % NUMBERS;
		switch (draw() % 8) {
		case 0:
		case 1:
			result = do_insert(key_of(number), i);
			full += result == CELL_FULL;
			CHECK(result == CELL_FULL || result == (writers[number] ? CELL_PRESENT : CELL_OK), "insert says %d", result);
			if (result == CELL_OK)
				writers[number] = i;
			break;
		case 2: {
			u32 count = draw() % 90, at;

			do_scan(key_of(number), count, &page);
			for (at = 0; number < NUMBERS && at < page.count; number++) {
				if (!writers[number])
					continue;
				CHECK(page.page[at * RECORD_WORDS] == key_of(number) && page.page[at * RECORD_WORDS + 1] == writers[number],
				      "a scan misses key %llu", key_of(number));
				at++;
			}
			CHECK(at == page.count, "a scan finds what is not there");
			for (; !page.more && number < NUMBERS; number++)
				CHECK(!writers[number], "a scan ends before key %llu", key_of(number));
			break;
		}
		default:
			CHECK(do_lookup(key_of(number)) == writers[number], "lookup of key %llu", key_of(number));
		}
	}
	for (number = 0; number < NUMBERS; number++)
		records += writers[number] != 0;
	census = take_census();
	CHECK(census.records == records && !census.lost && !census.unknown, "%llu records, not %llu; %llu tree nodes lost, %llu unknown",
	      census.records, records, census.lost, census.unknown);
	printf("alone: %ld operations, %llu records on %llu levels, answered full %llu times\n", operations, records, census.levels, full);
}

/* ---- Many executors ---- */

#define RESIDENTS 8
#define RANGE (RESIDENTS * 16) /* keys; every 16th is there from the beginning */
static u64 inserted_by[RANGE]; /* 0: nobody has been told that it is there */
static u64 operations_each;

static void stress(u64 self)
{
	u64 i, scanned = 0;

	for (i = 1; i <= operations_each; i++) {
		u64 number = draw() % RANGE, known = inserted_by[number], writer;
		struct cell_scan page;
		int result;

		switch (draw() % 8) {
		case 0:
		case 1:
		case 2:
			result = do_insert(number, i * EXECUTORS + self + 1);
			CHECK(result == (known ? CELL_PRESENT : result) && result != CELL_FULL, "insert says %d", result);
			if (result == CELL_OK) {
				CHECK(!inserted_by[number], "key %llu was inserted twice", number);
				inserted_by[number] = i * EXECUTORS + self + 1;
			}
			break;
		case 3:
		case 4:
		case 5:
			writer = do_lookup(number);
			CHECK(!known || writer == known, "key %llu is by %llu, not %llu", number, writer, known);
			break;
		default: {
			u64 before[RANGE], at, end;
			u32 index = 0;

			memcpy(before, inserted_by, sizeof(before));
			do_scan(number, 40, &page);
			end = page.more ? page.key : RANGE;
			for (at = number; at < end; at++) {
				int met = index < page.count && page.page[index * RECORD_WORDS] == at;

				CHECK(met || !before[at], "a scan from %llu misses key %llu", number, at);
				CHECK(!met || !before[at] || page.page[index * RECORD_WORDS + 1] == before[at], "key %llu is another's", at);
				index += met;
			}
			CHECK(index == page.count, "a scan goes beyond its end");
			scanned += index;
		}
		}
	}
	CHECK(scanned, "nothing was scanned");
}

static void test_many(long operations)
{
	u64 rounds = operations / 750 + 1, round, i, records, unknown = 0;
	struct census census = {0};

	operations_each = operations / EXECUTORS / rounds;
	for (round = 0; round < rounds; round++) {
		fresh(2 * RANGE);
		executor = 1;
		for (i = 0; i < RANGE; i++)
			inserted_by[i] = 0;
		for (i = 0; i < RANGE; i += 16) {
			CHECK(do_insert(i, ~0ull >> 1) == CELL_OK, "a resident does not fit");
			inserted_by[i] = ~0ull >> 1;
		}
		run_together(stress);
		for (i = 0, records = 0; i < RANGE; i++) {
			records += inserted_by[i] != 0;
			CHECK(do_lookup(i) == inserted_by[i], "key %llu is lost", i);
		}
		census = take_census();
		CHECK(census.records == records && !census.lost, "%llu records, not %llu, %llu tree nodes lost", census.records, records,
		      census.lost);
		unknown += census.unknown;
	}
	CHECK(!unknown, "%llu tree nodes are not known to their parents", unknown);
	printf("many: %ld operations on %d executors, %llu records on %llu levels, answered busy %llu times\n", operations, EXECUTORS,
	       census.records, census.levels, busy);
}

/* ---- The free list ---- */

#define HELD 3
static u8 in_use[EXECUTORS * HELD + 2];

static void give_back(u64 *number)
{
	in_use[*number] = 0;
	release(*number);
	*number = 0;
}

/* Takes tree nodes and gives them back, a few at a time. */
static void juggle(u64 self)
{
	u64 mine[HELD] = {0}, i;

	(void)self; /* all do the same */
	for (i = 0; i < operations_each; i++) {
		u64 *number = &mine[draw() % HELD];

		steps = 0;
		if (*number) {
			give_back(number);
		} else {
			*number = allocate();
			CHECK(*number && *number < sizeof(in_use) && !in_use[*number]++, "tree node %llu has two owners", *number);
		}
	}
	for (i = 0; i < HELD; i++)
		if (mine[i])
			give_back(&mine[i]);
}

static void test_free_list(long operations)
{
	u64 number, count = 0;

	/* Exactly as many as all can hold, beside the root. */
	fresh(EXECUTORS * HELD + 1);
	operations_each = operations / EXECUTORS;
	run_together(juggle);
	for (number = (u32)tree_words[FREE_LIST / 8]; number; number = (u32)tree_words[node_offset(number) / 8])
		CHECK(++count <= EXECUTORS * HELD, "the free list is a circle");
	CHECK(count == tree_words[NODES_USED / 8], "%llu tree nodes of %llu are left", count, tree_words[NODES_USED / 8]);
	printf("free list: %ld operations, %llu tree nodes\n", operations, count);
}

/* ---- Death at every step ---- */

static u64 locks(void)
{
	u64 count = 0, number;

	for (number = 0; number <= tree_words[NODES_USED / 8]; number++) {
		u64 word = tree_words[node_offset(number) / 8];

		count += (word & 1) && (u16)(word >> OWNER_SHIFT);
	}
	return count;
}

static void do_recover(u32 dead)
{
	struct naam_recover message = {.executor = dead};
	int calls = 0;

	do {
		steps = 0;
		CHECK(recover(&message) == CELL_OK && ++calls < 100, "recover does not end");
	} while (!message.done);
}

/* Inserts key after key, and lets the executor die at every step of every insert. */
static void test_deaths(void)
{
	static u64 saved[TREE_BYTES_MAX / 8];
	volatile u64 deaths = 0, locked = 0, lost = 0, old_seen = 0, new_seen = 0, unread = 0;
	volatile u64 number;
	u64 saved_bytes;

	fresh(400);
	for (number = 0; number < 120; number++) {
		volatile u64 key = number * 37 % 127 * 4;
		volatile long at;
		struct census before = take_census();

		saved_bytes = tree_bytes;
		memcpy(saved, (void *)tree_words, tree_bytes);
		for (at = 0;; at++) {
			volatile int died = 0;
			struct census after;
			u64 held, i, found;

			memcpy((void *)tree_words, saved, saved_bytes);
			executor = 9;
			torn_death = at & 1;
			if (setjmp(grave) == 0) {
				death = at / 2;
				CHECK(do_insert(key, 5) == CELL_OK, "insert fails");
			} else {
				died = 1;
			}
			death = -1;
			executor = 2;
			held = locks();
			/* Readers go on before anybody has recovered, but for leaves whose lines were being written. */
			for (i = 0; i < number; i += 5) {
				long seen = try_lookup(i * 37 % 127 * 4);

				CHECK(seen == 5 || (seen < 0 && held), "step %ld hides record %llu", at, i);
				unread += seen < 0;
			}
			do_recover(8);
			CHECK(locks() == held, "step %ld: number 8 frees what number 9 holds", at);
			do_recover(9);
			CHECK(!locks(), "step %ld leaves a lock", at);
			after = take_census();
			found = do_lookup(key);
			CHECK(after.records == before.records + (found == 5), "step %ld: %llu records", at, after.records);
			CHECK(after.lost <= (u64)died, "step %ld loses %llu tree nodes", at, after.lost);
			for (i = 0; i < number; i++)
				CHECK(do_lookup(i * 37 % 127 * 4) == 5, "step %ld loses record %llu", at, i);
			locked += held;
			lost += after.lost;
			old_seen += !found;
			new_seen += found == 5;
			/* Everything goes on. */
			found = do_insert(key, 6);
			CHECK(found == CELL_OK || found == CELL_PRESENT, "step %ld blocks the tree", at);
			for (i = 0; i < 40; i++)
				CHECK(do_insert(i * 12 + 1, 6) == CELL_OK, "step %ld blocks the tree", at);
			CHECK(take_census().lost == after.lost, "step %ld loses more", at);
			if (!died && !torn_death)
				break;
			deaths += died;
		}
		memcpy((void *)tree_words, saved, saved_bytes);
		CHECK(do_insert(key, 5) == CELL_OK, "insert fails");
	}
	CHECK(deaths && locked && lost && old_seen && new_seen, "%llu deaths, %llu locks, %llu lost, old %llu, new %llu", deaths, locked, lost,
	      old_seen, new_seen);
	printf("deaths: %llu steps of %llu inserts, %llu held a lock, %llu lost a tree node, %llu lookups had to wait for recover\n", deaths,
	       number, locked, lost, unread);
}

/* ---- A lock that nobody gives back ---- */

static void test_locked(void)
{
	struct cell_record message;
	struct cell_scan page;
	u64 i, used;

	fresh(200);
	for (i = 0; i < 100; i++)
		CHECK(do_insert(i, 7) == CELL_OK, "a record does not fit");
	used = tree_words[NODES_USED / 8];
	for (i = 0; i <= used; i++)
		tree_words[node_offset(i) / 8] += 1 | 9ull << OWNER_SHIFT;
	for (i = 0; i < 100; i++)
		CHECK(do_lookup(i) == 7, "a lock hides a record");
	do_scan(0, 1000, &page);
	CHECK(page.count > 0, "a lock hides all records");
	set_record(&message.key, 1000, 7);
	steps = 0;
	CHECK(insert(&message) == CELL_BUSY, "not busy");
	CHECK(steps > 500 && steps < STEPS_MAX * 3 / 4 + 100, "gave up after %ld steps", steps);
	/* Lines in the middle of a commit: readers have to give up, too. */
	for (i = 0; i <= used; i++)
		tree_words[node_offset(i) / 8 + LINE_WORDS] += 2;
	steps = 0;
	CHECK(try_lookup(50) == -1 && steps < STEPS_MAX * 3 / 4 + 100, "lookup gave up after %ld steps", steps);
	do_recover(9);
	CHECK(tree_words[NODES_USED / 8] == used && take_census().records == 100 && do_lookup(50) == 7, "something was done");
	printf("locked: all handlers give up in time\n");
}

/* ---- An inner tree node that is read torn ---- */

/*
 * Counts entries whose bytes of the directory were never written. Behind the lowest key's number lies no tree node but zeros, as an empty leaf
 * has them: who takes it for a child finds its key nowhere, and puts records where nobody finds them.
 */
static void test_torn(void)
{
	struct cell_record message;
	u64 number = 0, key = 0, from, *words, whole, count;

	fresh(TREE_BYTES_MAX / NODE_BYTES - 8);
	for (; !number; key++) {
		struct node root;

		CHECK(do_insert(1ull << 56 | key << 2, 5) == CELL_OK, "a record does not fit");
		peek((u32)tree_words[ROOT / 8], &root);
		if ((tree_words[ROOT / 8] >> 32 & 0xff) != 2)
			continue;
		from = directory(root.words[0]);
		number = (u32)root.words[next_word(slot(&root, from, entries(&root, from) - 1))];
	}
	words = (u64 *)&tree_words[node_offset(number) / 8];
	from = directory(words[0]);
	count = entries((struct node *)words, from);
	key = 1ull << 56 | (key - 1) << 2;
	CHECK((u32)words[LOW] > tree_words[NODES_USED / 8] && node_offset((u32)words[LOW] + 1) <= tree_bytes, "%u is no tree node to be",
	      (u32)words[LOW]);
	whole = words[from + LINK];
	words[from + LINK] = (whole & ~(0xffull << 32)) | (count + 8) << 32;
	for (number = count; number < count + 8; number++)
		*order((struct node *)words, from, number) = 0;
	CHECK(try_lookup(key) == -1, "a torn tree node hides a record");
	set_record(&message.key, key + 1, 5);
	steps = 0;
	CHECK(insert(&message) == CELL_BUSY, "a torn tree node takes a record away");
	words[from + LINK] = whole;
	CHECK(do_lookup(key) == 5 && !do_lookup(key + 1) && do_insert(key + 1, 5) == CELL_OK && do_lookup(key + 1) == 5, "nothing is left");
	CHECK(!take_census().lost, "a tree node is lost");
	printf("torn: an inner tree node leads nowhere else\n");
}

int main(int argc, char **argv)
{
	u64 seed = argc > 1 ? strtoull(argv[1], 0, 0) : 1;
	long operations = argc > 2 ? atol(argv[2]) : 400000;

	printf("tree nodes of %d bytes, values of %d, seed %llu\n", NODE_BYTES, VALUE_BYTES, seed);
	random_state = scramble(seed) | 1;
	executor = 1;
	test_alone(operations / 2);
	test_many(operations);
	test_free_list(operations);
	test_deaths();
	test_locked();
	test_torn();
	printf("ok\n");
	return 0;
}
