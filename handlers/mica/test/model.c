/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * model.c: MICA's handlers, compiled for this machine, over a model of UDMA (`../../test/model.h`).
 *
 * It proves, for the preset it is compiled with (CACHE_PRESET):
 *   - alone, every handler does what a table of records does, for all lengths of keys and values, up to a full heap and full chains;
 *   - with many executors on few keys, counters are exact, no value is torn, nobody's own records are lost, and no block leaks;
 *   - when an executor dies at any UDMA step of any writer, `recover` frees what it held, every record is readable, and at most one
 *     block or one extra bucket is lost;
 *   - when a lock is never given back, every handler gives up in time, with nothing done.
 *
 * What it leaves to other tests: the compiled eBPF code.
 *
 * Usage: model [SEED [OPERATIONS]]
 */
#include "../mica.c"

#define WORDS_PER_TURN 64
#define LINES_ASCEND 0
#include "../../test/model.h"

#define TABLE_BYTES_MAX (1 << 20)
#define HEAP_BYTES_MAX (64 << 20)
static _Alignas(64) _Atomic u64 table_words[TABLE_BYTES_MAX / 8];
static _Alignas(64) _Atomic u64 heap_words[HEAP_BYTES_MAX / 8];
static u64 table_bytes, heap_bytes;

static _Atomic u64 *memory_of(const void *region, u64 *bytes)
{
	*bytes = region == &table ? table_bytes : heap_bytes;
	return region == &table ? table_words : region == &heap ? heap_words : 0;
}

/* ---- Records that say what they should be ---- */

/* Sets the key with this number: its length, 8 to 64 bytes, follows from the number. */
static u32 set_key(u8 *data, u8 *key_length, u64 number)
{
	u32 length = 8 + scramble(number) % 57, i;

	memset(data, 0xee, KEY_BYTES_MAX); /* what lies behind the key must not matter */
	memcpy(data, &number, 8);
	for (i = 8; i < length; i++)
		data[i] = scramble(number + i);
	*key_length = length;
	return (length + 7) / 8 * 8;
}

static u32 length_of(u64 number, u64 version)
{
	return scramble(number ^ version << 32) % 8 ? 24 + scramble(version) % 100 : scramble(number + version) % (VALUE_BYTES_MAX + 1);
}

/* Sets the value: number, version, then bytes that follow from both; shorter ones are all such bytes. */
static void set_value(u8 *value, u64 number, u64 version, u32 length)
{
	u32 i;

	for (i = 0; i < length; i++)
		value[i] = scramble(number * 31 + version * 17 + i);
	if (length >= 24) {
		memcpy(value, &number, 8);
		memcpy(value + 8, &version, 8);
	}
}

static void set_item(struct mica_item *item, u64 number, u64 version)
{
	u32 at = set_key(item->data, &item->key_length, number);

	item->value_length = length_of(number, version);
	item->reserved_1 = item->reserved_2 = 0;
	set_value(item->data + at, number, version, item->value_length);
}

static u64 busy;

/* Calls a handler, again if others kept it from its work: then it must have done nothing. */
static int call(int (*handler)(struct mica_item *), struct mica_item *item)
{
	struct mica_item request = *item;
	int result;

	for (;;) {
		steps = 0;
		reply_bytes = sizeof(*item);
		result = handler(item);
		if (result != MICA_BUSY)
			return result;
		busy++;
		*item = request;
	}
}

static int do_put(u64 number, u64 version)
{
	struct mica_item item;

	set_item(&item, number, version);
	return call(put, &item);
}

static int do_insert(u64 number, u64 version)
{
	struct mica_item item;

	set_item(&item, number, version);
	return call(insert, &item);
}

static int do_delete(u64 number)
{
	struct mica_item item;

	set_key(item.data, &item.key_length, number);
	return call(delete, &item);
}

/*
 * Gets a record and checks every byte of it. The version, or -1 if it is absent. `known` is the version that short values must
 * have.
 */
static long do_get(u64 number, u64 known)
{
	struct mica_item item, expected;
	u64 version = known;
	u32 at = set_key(item.data, &item.key_length, number);
	int result = call(get, &item);

	if (result == MICA_ABSENT)
		return -1;
	CHECK(result == MICA_OK, "get says %d", result);
	if (item.value_length >= 24)
		memcpy(&version, item.data + at + 8, 8);
	set_item(&expected, number, version);
	memset(expected.data + expected.key_length, 0, at - expected.key_length);
	CHECK(reply_bytes == 8 + at + expected.value_length, "reply of %u bytes", reply_bytes);
	CHECK(!memcmp(&item, &expected, reply_bytes), "a torn or wrong value under key %llu, version %llu", number, version);
	return version;
}

/* ---- The state of the whole table ---- */

static u64 peek_table(u64 offset)
{
	return table_words[offset / 8];
}

static void fresh(u64 table_size, u64 heap_size)
{
	/* Nobody is at work. Nothing was ever written behind the regions' ends. */
	memset((void *)table_words, 0, table_bytes);
	memset((void *)heap_words, 0, heap_bytes);
	table_bytes = table_size;
	heap_bytes = heap_size;
}

struct census {
	u64 records;
	u64 free_blocks;
	u64 units_lost;   /* handed out, but neither in use nor free */
	u64 blocks_lost;  /* at least so many, at most if one: lost units that do not touch */
	u64 extras_lost;
};

/* Counts everything, and checks that no lock is held and no block is used twice. */
static struct census take_census(void)
{
	static u8 used[HEAP_BYTES_MAX >> UNIT_SHIFT];
	struct census census = {0};
	u64 main = main_buckets(), units = heap_words[0], extras = 0, counted = 0, i, unit;
	u32 class, slot;

	memset(used, 0, sizeof(used));
	for (i = 0; i < GROUPS; i++)
		counted += table_words[i];
	for (i = 0; i < main; i++) {
		u64 at = TABLE_HEADER_BYTES + i * sizeof(struct bucket), word = peek_table(at);
		struct key key = {.main = main, .group = i >> GROUP_SHIFT};

		CHECK(!(word & 1) && !(u16)(word >> OWNER_SHIFT), "bucket %llu is locked: %llx", i, word);
		for (;;) {
			for (slot = 0; slot < SLOTS; slot++) {
				u64 item = peek_table(slot_offset(at, slot));

				if (!item)
					continue;
				census.records++;
				for (unit = 0; unit < class_units(item >> CLASS_SHIFT & 0xff); unit++)
					CHECK(!used[(u32)item + unit]++, "block %x of a record is used twice", (u32)item);
			}
			if (!(word >> LINK_SHIFT))
				break;
			extras++;
			CHECK(extras <= counted, "chains are longer than they can be");
			at = extra_bucket(&key, word >> LINK_SHIFT);
			word = peek_table(at);
		}
	}
	census.extras_lost = counted - extras;
	for (class = 0; class < CLASSES * LISTS; class++) {
		u32 block = heap_words[free_list(class / CLASSES, class % CLASSES) / 8];

		for (; block; block = heap_words[block_offset(block) / 8]) {
			census.free_blocks++;
			for (unit = 0; unit < class_units(class % CLASSES); unit++)
				CHECK(!used[block + unit]++, "free block %x is used twice", block);
		}
	}
	for (unit = 0; unit < units; unit++) {
		u64 here = (HEAP_HEADER_BYTES >> UNIT_SHIFT) + unit;

		if (!used[here]) {
			census.units_lost++;
			census.blocks_lost += unit == 0 || used[here - 1];
		}
	}
	CHECK((HEAP_HEADER_BYTES >> UNIT_SHIFT) + units <= heap_bytes >> UNIT_SHIFT, "more was handed out than there is");
	return census;
}

/* ---- Alone: a table of records ---- */

#define NUMBERS 1024
static u64 versions[NUMBERS]; /* 0: absent */

static void test_alone(long operations)
{
	u64 absent = 0, full = 0, i, records = 0;
	struct census census;
	struct mica_item item = {0};

	fresh(TABLE_HEADER_BYTES + 120 * 64, 120 << 10);
	memset(versions, 0, sizeof(versions));
	for (i = 1; i <= (u64)operations; i++) {
		u64 number = draw() % NUMBERS;
		int result;

		switch (draw() % 5) {
		case 0:
			result = do_put(number, i);
			CHECK(result == MICA_OK || result == MICA_FULL, "put says %d", result);
			full += result == MICA_FULL;
			if (result == MICA_OK)
				versions[number] = i;
			break;
		case 1:
			result = do_insert(number, i);
			full += result == MICA_FULL;
			CHECK(CACHE_PRESET || result == MICA_FULL || result == (versions[number] ? MICA_PRESENT : MICA_OK),
			      "insert says %d, version is %llu", result, versions[number]);
			if (result == MICA_OK)
				versions[number] = i;
			break;
		case 2:
			result = do_delete(number);
			CHECK(result == (versions[number] ? MICA_OK : MICA_ABSENT) || (CACHE_PRESET && result == MICA_ABSENT),
			      "delete says %d, version is %llu", result, versions[number]);
			versions[number] = 0;
			break;
		default: {
			long version = do_get(number, versions[number]);

			absent += version < 0;
			CHECK(version == (versions[number] ? (long)versions[number] : -1) || (CACHE_PRESET && version < 0),
			      "get of key %llu says version %ld, not %llu", number, version, versions[number]);
		}
		}
	}
	for (i = 0; i < NUMBERS; i++)
		records += versions[i] != 0;
	census = take_census();
	CHECK(CACHE_PRESET ? census.records <= records : census.records == records, "%llu records, not %llu", census.records, records);
	CHECK(!census.units_lost && !census.extras_lost, "lost %llu units", census.units_lost);
	CHECK(absent && (full || CACHE_PRESET), "the load never filled the table");
	for (i = 0; i < 256; i++) {
		int legal = i >= KEY_BYTES_MIN && i <= KEY_BYTES_MAX;

		memset(&item, 0x55, sizeof(item));
		item.key_length = i;
		CHECK(call(get, &item) == (legal ? MICA_ABSENT : MICA_INVALID), "key of %llu bytes", i);
		item.value_length = VALUE_BYTES_MAX + 1;
		CHECK(call(put, &item) == MICA_INVALID, "value too long");
	}
	printf("alone: %ld operations, %llu records, %llu free blocks, answered full %llu times\n", operations, census.records,
	       census.free_blocks, full);
}

/* Adds to the counter at offset 16 of a record that has only that to change. */
static int do_add(u64 number, u64 addend, u64 *before)
{
	struct mica_add add;
	int result;

	do {
		set_key(add.key, &add.key_length, number);
		add.offset = 16;
		add.number = addend;
		steps = 0;
		result = read_modify_write(&add);
		busy += result == MICA_BUSY;
	} while (result == MICA_BUSY);
	*before = add.number;
	return result;
}

/* A record whose value is number, version 0, counter and bytes that never change: 8 to 64 of them. */
static void set_counter(struct mica_item *item, u64 number)
{
	u32 at = set_key(item->data, &item->key_length, number);

	item->value_length = 32 + scramble(number) % 57;
	item->reserved_1 = item->reserved_2 = 0;
	set_value(item->data + at, number, 0, item->value_length);
	memset(item->data + at + 16, 0, 8);
}

static u64 get_counter(u64 number)
{
	struct mica_item item, expected;
	u32 at = set_key(item.data, &item.key_length, number);
	u64 counter;

	CHECK(call(get, &item) == MICA_OK, "counter %llu is gone", number);
	memcpy(&counter, item.data + at + 16, 8);
	set_counter(&expected, number);
	memset(expected.data + expected.key_length, 0, at - expected.key_length);
	memcpy(expected.data + at + 16, &counter, 8);
	CHECK(!memcmp(&item, &expected, reply_bytes), "counter %llu is torn", number);
	return counter;
}

/* ---- Many executors ---- */

#define HOT 16                 /* counters, and as many shared records that are put */
#define OWN 64                 /* records that only one executor writes */
#define FIRST_SHARED 1000
#define FIRST_OWN 2000
static u64 added[HOT];
static u64 operations_each;

static void stress(u64 self)
{
	u64 own[OWN] = {0}, i, before, hits = 0;

	for (i = 1; i <= operations_each; i++) {
		u64 key = draw() % HOT, mine = draw() % OWN, number = FIRST_OWN + self * OWN + mine;
		/* Unique versions: the writer's number is in them. */
		u64 version = i * EXECUTORS + self;
		int result;
		long seen;

		switch (draw() % 8) {
		case 0:
		case 1:
			result = do_add(key, self + 1, &before);
			CHECK(result == MICA_OK || (CACHE_PRESET && result == MICA_FULL), "add says %d", result);
			if (result == MICA_OK)
				added[key] += self + 1;
			break;
		case 2:
			get_counter(key);
			break;
		case 3:
			/* Long ones only: their bytes tell the version. */
			while (length_of(FIRST_SHARED + key, version) < 24)
				version += EXECUTORS * 1000000007ull;
			result = do_put(FIRST_SHARED + key, version);
			CHECK(result == MICA_OK, "put says %d", result);
			break;
		case 4:
			if (draw() % 4)
				hits += do_get(FIRST_SHARED + key, 0) >= 0;
			else
				do_delete(FIRST_SHARED + key);
			break;
		case 5:
			result = own[mine] ? do_put(number, version) : do_insert(number, version);
			CHECK(result == MICA_OK || (CACHE_PRESET && result == MICA_FULL), "own record: %d", result);
			if (result == MICA_OK)
				own[mine] = version;
			break;
		case 6:
			result = do_delete(number);
			CHECK(result == (own[mine] ? MICA_OK : MICA_ABSENT) || (CACHE_PRESET && result == MICA_ABSENT),
			      "delete of an own record: %d", result);
			own[mine] = 0;
			break;
		default:
			seen = do_get(number, own[mine]);
			CHECK(seen == (own[mine] ? (long)own[mine] : -1) || (CACHE_PRESET && seen < 0),
			      "own record %llu: version %ld, not %llu", number, seen, own[mine]);
			if (seen < 0)
				own[mine] = 0;
		}
	}
	CHECK(hits, "shared records were never seen");
}

static void test_many(long operations)
{
	struct mica_item item;
	struct census census;
	u64 i, total = 0;

	/* Few buckets and long chains for a store; a cache needs room for its counters, which must not be forgotten. */
	fresh(TABLE_HEADER_BYTES + (CACHE_PRESET ? 1 << 13 : 128) * 64, 16 << 20);
	for (i = 0; i < HOT; i++) {
		added[i] = 0;
		set_counter(&item, i);
		CHECK(call(insert, &item) == MICA_OK, "a counter does not fit");
	}
	operations_each = operations / EXECUTORS;
	run_together(stress);
	for (i = 0; i < HOT; i++) {
		u64 counter = get_counter(i);

		CHECK(counter == added[i], "counter %llu is %llu, not %llu", i, counter, added[i]);
		total += counter;
	}
	census = take_census();
	CHECK(!census.units_lost && !census.extras_lost, "lost %llu units and %llu extra buckets", census.units_lost, census.extras_lost);
	CHECK(total, "nothing was added");
	printf("many: %ld operations on %d executors, counters exact, %llu records, %llu free blocks, answered busy %llu times\n", operations,
	       EXECUTORS, census.records, census.free_blocks, busy);
}

/* ---- Death at every step ---- */

#define RESIDENTS 90
#define VICTIM 700

/* Units of the block that a version of the victim's record needs. */
static u64 units_of(u64 version)
{
	struct mica_item item;

	set_item(&item, VICTIM, version);
	return class_units(class_of((2 + (item.key_length + 7) / 8 + (item.value_length + 7) / 8) / 2));
}

/* Where a handler finds room, or has to make it. */
enum room {
	ROOMY,
	NO_SLOT,  /* the victim's chain is full: a store must let it grow, a cache must forget a record */
	NO_BLOCK, /* the heap is full as well, but the victim's bucket has blocks of the right size: for a cache */
};

/* The number, `from` or greater, of a record that lies in the victim's bucket and needs as large a block as its version 8. */
static u64 neighbour(u64 from)
{
	static u64 known[64], count;
	u64 words[KEY_WORDS_MAX], bucket, units = units_of(8), i;
	struct mica_item item;
	struct key key = {0};

	for (i = 0; i < count; i++)
		if (known[i] >= from)
			return known[i];
	CHECK(count < 64, "more neighbours than a chain can have");
	set_item(&item, VICTIM, 7);
	take_key(&key, words, item.key_length, item.data);
	bucket = key.bucket;
	for (;; from++) {
		set_item(&item, from, 5);
		take_key(&key, words, item.key_length, item.data);
		if (key.bucket == bucket && class_units(class_of((2 + key.count + (item.value_length + 7) / 8) / 2)) == units)
			return known[count++] = from;
	}
}

/* A table with residents, and the victim's record if `present`. Its size is always the same: `neighbour` relies on it. */
static void settle(int present, enum room room)
{
	struct mica_item item;
	u64 words[KEY_WORDS_MAX], number = 10000, i;
	struct key key = {0};
	struct place place = {0};
	u32 patience = ~0u;

	fresh(TABLE_HEADER_BYTES + 64 * 64, HEAP_HEADER_BYTES + (1 << 18));
	executor = 1;
	for (i = 0; i < RESIDENTS; i++)
		do_put(i, 5);
	while (room != ROOMY) {
		set_item(&item, VICTIM, 7);
		take_key(&key, words, item.key_length, item.data);
		steps = 0;
		find(&key, &item, TO_WRITE, &patience, &place);
		if (!place.slot)
			break;
		number = neighbour(number) + 1;
		CHECK(do_put(number - 1, 5) == MICA_OK, "no room");
	}
	if (present)
		CHECK(do_put(VICTIM, 7) == MICA_OK, "the victim's record does not fit");
	if (room == NO_BLOCK)
		heap_bytes = HEAP_HEADER_BYTES + (heap_words[0] << UNIT_SHIFT);
}

static int attempt_put(void)
{
	return do_put(VICTIM, 8);
}

static int attempt_insert(void)
{
	return do_insert(VICTIM, 8);
}

static int attempt_delete(void)
{
	return do_delete(VICTIM);
}

static int attempt_add(void)
{
	u64 before;

	return do_add(VICTIM, 1000, &before);
}

static u64 locks(void)
{
	u64 main = main_buckets(), count = 0, i;

	for (i = 0; i < main; i++)
		count += peek_table(TABLE_HEADER_BYTES + i * sizeof(struct bucket)) & 1;
	return count;
}

static void do_recover(u32 dead)
{
	struct naam_recover message = {.executor = dead};
	int calls = 0;

	do {
		steps = 0;
		CHECK(recover(&message) == MICA_OK && ++calls < 100, "recover does not end");
	} while (!message.done);
}

static void test_deaths(const char *name, int (*attempt)(void), int present, enum room room)
{
	static const char *rooms[] = {"", ", no free slot", ", no free slot, no free block"};
	u64 units_max = units_of(7) > units_of(8) ? units_of(7) : units_of(8);
	volatile u64 deaths = 0, old_seen = 0, new_seen = 0, lost = 0, locked = 0;
	volatile long at;

	for (at = 0;; at++) {
		struct census before, after;
		volatile int died = 0;
		u64 held;
		long seen[RESIDENTS];
		long version;
		u64 i;

		settle(present, room);
		for (i = 0; i < RESIDENTS; i++)
			seen[i] = do_get(i, 5);
		before = take_census();
		executor = 9;
		if (setjmp(grave) == 0) {
			death = at;
			CHECK(attempt() == MICA_OK, "%s fails", name);
		} else {
			died = 1;
		}
		death = -1;
		executor = 2;
		held = locks();
		do_recover(8);
		CHECK(locks() == held, "%s: step %ld: number 8 frees what number 9 holds", name, at);
		locked += held;
		do_recover(9);
		after = take_census();
		/* A single block; that of a forgotten record may be any. */
		CHECK(after.units_lost <= (room == ROOMY || !CACHE_PRESET ? units_max : UNITS_MAX), "%s: step %ld loses %llu units",
		      name, at, after.units_lost);
		CHECK(before.units_lost == 0 && after.blocks_lost + after.extras_lost <= (u64)died, "%s: step %ld loses %llu blocks, %llu buckets",
		      name, at, after.blocks_lost, after.extras_lost);
		lost += after.blocks_lost + after.extras_lost;
		for (i = 0; i < RESIDENTS; i++) {
			version = do_get(i, 5);
			CHECK(version == seen[i] || (CACHE_PRESET && version < 0), "%s: step %ld loses record %llu", name, at, i);
		}
		if (attempt == attempt_add) {
			struct mica_item item;
			u32 to = set_key(item.data, &item.key_length, VICTIM);
			u64 field, start;
			struct mica_item first;

			CHECK(call(get, &item) == MICA_OK, "gone");
			set_item(&first, VICTIM, 7);
			memcpy(&field, item.data + to + 16, 8);
			memcpy(&start, first.data + to + 16, 8);
			CHECK(field == start || field == start + 1000, "half an addition");
			version = field == start ? 7 : 8;
		} else {
			version = do_get(VICTIM, 0);
		}
		CHECK(version == (present ? 7 : -1) || version == (attempt == attempt_delete ? -1 : 8) || (CACHE_PRESET && version < 0),
		      "%s: step %ld leaves version %ld", name, at, version);
		old_seen += version == (present ? 7 : -1);
		new_seen += version == (attempt == attempt_delete ? -1 : 8);
		/* Everything goes on. */
		CHECK(do_put(VICTIM, 9) == MICA_OK && do_get(VICTIM, 9) == 9 && do_delete(VICTIM) == MICA_OK, "%s: step %ld blocks the table",
		      name, at);
		if (!died)
			break;
		deaths++;
	}
	CHECK(deaths && locked && old_seen && new_seen, "%s: %llu deaths, %llu times the old state, %llu times the new", name,
	      deaths, old_seen, new_seen);
	printf("deaths: %s%s%s: %llu steps, %llu lost something\n", name, present ? " over a record" : "", rooms[room], deaths, lost);
}

/* ---- A lock that nobody gives back ---- */

static void test_locked(void)
{
	struct mica_item item;
	struct mica_add add = {.offset = 16};
	u64 i, units;

	fresh(TABLE_HEADER_BYTES + 8 * 64, 1 << 16);
	CHECK(do_put(VICTIM, 7) == MICA_OK, "the record does not fit");
	units = heap_words[0];
	for (i = 0; i < main_buckets(); i++)
		table_words[(TABLE_HEADER_BYTES + i * 64) / 8] += 1 | 9ull << OWNER_SHIFT;
	set_item(&item, VICTIM, 8);
	set_key(add.key, &add.key_length, VICTIM);
	for (i = 0; i < 5; i++) {
		steps = 0;
		CHECK((i == 0   ? get(&item)
		       : i == 1 ? put(&item)
		       : i == 2 ? insert(&item)
		       : i == 3 ? delete(&item)
				: read_modify_write(&add)) == MICA_BUSY,
		      "not busy");
		CHECK(steps > 1000 && steps < STEPS_MAX * 3 / 4 + 100, "gave up after %ld steps", steps);
	}
	do_recover(9);
	CHECK(heap_words[0] == units && !take_census().units_lost && do_get(VICTIM, 7) == 7, "something was done");
	printf("locked: all handlers give up in time\n");
}

int main(int argc, char **argv)
{
	u64 seed = argc > 1 ? strtoull(argv[1], 0, 0) : 1;
	long operations = argc > 2 ? atol(argv[2]) : 1000000;

	printf("preset %s, seed %llu\n", CACHE_PRESET ? "cache" : "store", seed);
	random_state = scramble(seed) | 1;
	executor = 1;
	CHECK(length_of(VICTIM, 7) >= 24 && length_of(VICTIM, 8) >= 24 && length_of(VICTIM, 9) >= 24, "the victim's versions are readable");
	test_alone(operations / 4);
	test_many(operations);
	test_deaths("put", attempt_put, 0, ROOMY);
	test_deaths("put", attempt_put, 1, ROOMY);
	test_deaths("put", attempt_put, 0, NO_SLOT);
	test_deaths("insert", attempt_insert, 0, ROOMY);
	test_deaths("insert", attempt_insert, 0, NO_SLOT);
	test_deaths("delete", attempt_delete, 1, ROOMY);
	test_deaths("read_modify_write", attempt_add, 1, ROOMY);
	if (CACHE_PRESET) {
		test_deaths("put", attempt_put, 0, NO_BLOCK);
		test_deaths("put", attempt_put, 1, NO_BLOCK);
		test_deaths("insert", attempt_insert, 0, NO_BLOCK);
	}
	test_locked();
	printf("ok\n");
	return 0;
}
