/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * mica.c: a hash table with MICA's buckets and items, served by any number of executors at once (CRCW).
 *
 * A bucket is one line: a word with version, lock owner and chain link, and seven item words. Writers make the version odd by
 * compare-and-swap; readers read it before and again after. A record in the heap is never changed while an item word names it: a
 * writer fills a free block and commits it by writing one item word. README.md has the byte tables and argues why this is correct.
 */
#include "mica.h"

#ifndef CACHE_PRESET
#define CACHE_PRESET 0
#endif

/* 0: a store, which answers MICA_FULL and never forgets. 1: a cache, which never chains and forgets records to make room. */
const volatile u32 cache = CACHE_PRESET;
/* Value bytes that put and insert accept; at most VALUE_BYTES_MAX. */
const volatile u32 value_length_max = VALUE_BYTES_MAX;

/* Item words of a bucket. */
#define SLOTS 7

struct bucket {
	u64 word;        /* version (32 bits, odd: locked), owner while locked (16), number of the next extra bucket or 0 (16) */
	u64 item[SLOTS]; /* tag (16 bits on top), 8-byte words of the record (8), size class (8), block (32); 0: free */
};

#define LINK_SHIFT 48
#define OWNER_SHIFT 32
#define TAG_SHIFT 48
#define WORDS_SHIFT 40
#define CLASS_SHIFT 32

/* The table begins with one counter of used extra buckets for each group of main buckets; buckets follow. */
#define TABLE_HEADER_BYTES 4096
#define GROUP_SHIFT 18                 /* main buckets that share a counter */
#define GROUP_EXTRAS_SHIFT 15          /* extra buckets of one group */
#define GROUPS (TABLE_HEADER_BYTES / 8)

/* The heap begins with the count of units ever handed out; heads of the free lists follow, those of one list in lines of their own. */
#define HEAP_HEADER_BYTES 4096
#define UNIT_SHIFT 4 /* a block is so many units of 16 bytes, and is named by its first one */
#define CLASSES 21
#define UNITS_MAX 72

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__uint(min_length, TABLE_HEADER_BYTES + 8 * sizeof(struct bucket));
	__type(element, struct bucket);
} table SEC(".maps");

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__uint(min_length, HEAP_HEADER_BYTES + (UNITS_MAX << UNIT_SHIFT));
	__type(element, struct mica_item);
} heap SEC(".maps");

/* Bytes of a record before its data. */
#define ITEM_HEADER_BYTES 8
/* Words of the longest record and of the longest key. */
#define ITEM_WORDS_MAX (sizeof(struct mica_item) / 8)
#define KEY_WORDS_MAX (KEY_BYTES_MAX / 8)

typedef u64 __attribute__((may_alias)) word_t;

/* A record with the longest key and no value: as much as comparing keys needs. */
struct item_key {
	u8 key_length;
	u8 reserved_1;
	u16 value_length;
	u32 reserved_2;
	u64 data[KEY_WORDS_MAX];
};

/* The key of this message. */
struct key {
	u64 *words; /* padded with zeros; not in here, so that the rest can live in registers */
	u64 length; /* bytes */
	u64 count;  /* words */
	u64 tag;
	u64 group;  /* group of its main bucket */
	u64 bucket; /* offset of its main bucket */
	u64 main;   /* main buckets of the table */
};

/* What a search found. */
struct place {
	u64 word;    /* the main bucket's word when the search began; its version is even */
	u64 slot;    /* offset of the key's item word, else of a free one, else 0 */
	u64 item;    /* the key's item word, else 0 */
	u64 last;    /* offset of the chain's last bucket, if the key is absent */
	u64 victim;  /* cache: offset of the item word that makes room, else 0 */
	u64 evicted; /* cache: that word; 0 if the main bucket is empty */
};

/* Main buckets of the table: seven eighths of all, the rest is for chains. */
static __always_inline u64 main_buckets(void)
{
	u64 buckets = (naam_length(&table) - TABLE_HEADER_BYTES) / sizeof(struct bucket);

	return buckets - buckets / 8;
}

static __always_inline u64 mix(u64 hash, u64 word)
{
	hash = (hash ^ word) * 0xD6E8FEB86659FD93ull;
	return hash ^ hash >> 32;
}

/* Takes the key out of the message into `words`, hashes it and finds its bucket. 0 if no record has a key of this length. */
static __always_inline int take_key(struct key *key, u64 *words, u64 length, const u8 *data)
{
	const word_t *from = (const word_t *)data;
	u64 hash = length * 0x9E3779B97F4A7C15ull, index, i, last;

	if (length < KEY_BYTES_MIN || length > KEY_BYTES_MAX)
		return 0;
	last = (length - 1) / 8;
	for (i = 0; i < last; i++) {
		words[i] = from[i];
		hash = mix(hash, words[i]);
	}
	words[last] = from[last] & ~0ull >> (-length % 8 * 8);
	hash = mix(hash, words[last]) * 0xD6E8FEB86659FD93ull;
	hash ^= hash >> 29;
	key->words = words;
	key->length = length;
	key->count = last + 1;
	key->tag = hash & 0xffff ? hash & 0xffff : 1;
	key->main = main_buckets();
	index = (hash >> 32) * key->main >> 32;
	key->group = index >> GROUP_SHIFT;
	key->bucket = TABLE_HEADER_BYTES + index * sizeof(struct bucket);
	return 1;
}

/* Offset of extra bucket `number`, 1 or more, of the key's group. */
static __always_inline u64 extra_bucket(const struct key *key, u64 number)
{
	u64 index = key->main + (key->group << GROUP_EXTRAS_SHIFT) + number - 1;

	return TABLE_HEADER_BYTES + index * sizeof(struct bucket);
}

/* Offset in the heap of the block that an item word names. */
static __always_inline u64 block_offset(u64 item)
{
	return (u64)(u32)item << UNIT_SHIFT;
}

/* Bytes of the record that an item word names. A torn or stale word may say anything, a buffer holds no more than this. */
static __always_inline u32 item_bytes(u64 item)
{
	return naam_at_most(item >> WORDS_SHIFT & 0xff, ITEM_WORDS_MAX) * 8;
}

static __always_inline int same_key(const struct key *key, const struct item_key *item)
{
	u64 i;

	if (item->key_length != key->length)
		return 0;
	/*
	 * Downwards, so that the end is a constant: going up, clang would compare for equality with a bound that it only knows as a
	 * register.
	 */
	for (i = key->count - 1; item->data[i] == key->words[i]; i--)
		if (i == 0)
			return 1;
	return 0;
}

/* The slots that have this tag, one bit for each. A free slot has tag 0. Without a branch: which slot it is cannot be predicted. */
static __always_inline u64 slots_with(const struct bucket *bucket, u64 tag)
{
#define IS(slot) (((bucket->item[slot] >> TAG_SHIFT ^ tag) - 1) >> 63 << slot)
	return IS(0) | IS(1) | IS(2) | IS(3) | IS(4) | IS(5) | IS(6);
#undef IS
}

/*
 * The lowest of a set of slots, which must not be empty: multiplied by its lowest bit, the top three bits of 0x1d differ for
 * each.
 */
static __always_inline u64 lowest(u64 slots)
{
	u64 turn = ((slots & -slots) * 0x1d >> 5 & 7) * 4;

	return naam_at_most(0x34572610u >> turn & 7, SLOTS - 1);
}

/* Offset of a slot in the bucket at `at`. */
static __always_inline u64 slot_offset(u64 at, u64 slot)
{
	return at + __builtin_offsetof(struct bucket, item) + slot * 8;
}

/*
 * Cache: chooses the record that makes room. Any will do, as long as it is not always the same slot: the version turns with
 * every write.
 */
static __always_inline void choose_victim(struct place *place, u64 at, const struct bucket *bucket)
{
	u64 used = ~slots_with(bucket, 0) & ((1 << SLOTS) - 1);
	u64 start = (u64)((u32)bucket->word * 0x9E3779B1u) * SLOTS >> 32;
	u64 slot;

	if (!used)
		return;
	slot = lowest(used >> start << start ? used >> start << start : used);
	place->victim = slot_offset(at, slot);
	place->evicted = bucket->item[slot];
}

/*
 * How long a message waits and tries again: it gives up, with nothing held, long before its UDMA operations are used up, since a
 * message that ends while it holds a lock leaves it locked. A search costs some patience, and so does each look at a bucket that
 * is locked.
 */
#define PATIENCE 3000
#define PATIENCE_PER_SEARCH 32

/* What a search ends with. */
enum found {
	NOTHING,
	RECORD,
	NO_PATIENCE,
};

/* Why a handler searches. */
enum purpose {
	TO_READ,   /* the whole record */
	TO_WRITE,  /* its key, and where a new one could go */
	TO_MODIFY, /* both */
};

/*
 * Waits for the unlocking of a bucket that was locked when its word was `locked`, by swaps that change nothing: one that fails
 * lets others have the core, a read does not.
 */
static __always_inline void await(u64 at, u64 locked, u32 *patience)
{
	u64 free = (locked & ~0xffffffffffffull) | (u32)(locked + 1), old;

	for (; *patience; --*patience) {
		naam_compare_swap(&table, at, free, free, &old);
		if (old != locked)
			return;
	}
}

/*
 * Searches the bucket and its chain, and leaves in `item` the record, or only its key part. Waits while
 * a writer is at work. What it found held together only if the bucket's word is still `place->word` afterwards: a writer learns
 * that by locking, a reader by reading the word again.
 */
static __always_inline enum found find(const struct key *key, void *item, enum purpose purpose, u32 *patience, struct place *place)
{
	struct bucket bucket;
	u64 at = key->bucket;

	if (*patience < PATIENCE_PER_SEARCH)
		return NO_PATIENCE;
	*patience -= PATIENCE_PER_SEARCH;
	for (;;) {
		naam_read(&table, at, &bucket, sizeof(bucket));
		if (!(bucket.word & 1))
			break;
		if (!*patience)
			return NO_PATIENCE;
		--*patience;
		if (purpose != TO_READ)
			await(at, bucket.word, patience);
	}
	*place = (struct place){.word = bucket.word};
	if (purpose != TO_READ && cache)
		choose_victim(place, at, &bucket);
	for (;;) {
		u64 slots = slots_with(&bucket, key->tag), link = bucket.word >> LINK_SHIFT;

		for (; slots; slots &= slots - 1) {
			u64 slot = lowest(slots), word = bucket.item[slot];

			naam_read(&heap, block_offset(word), item,
				  purpose == TO_WRITE ? ITEM_HEADER_BYTES + key->count * 8 : item_bytes(word));
			if (same_key(key, item)) {
				place->slot = slot_offset(at, slot);
				place->item = word;
				return RECORD;
			}
		}
		if (purpose != TO_READ && !place->slot && slots_with(&bucket, 0))
			place->slot = slot_offset(at, lowest(slots_with(&bucket, 0)));
		place->last = at;
		if (!link)
			return NOTHING;
		at = extra_bucket(key, link);
		naam_read(&table, at, &bucket, sizeof(bucket));
	}
}

/* Locks the bucket if nobody has written to it since the search. */
static __always_inline int lock(const struct key *key, const struct place *place)
{
	u64 old;

	naam_compare_swap(&table, key->bucket, place->word, (place->word + 1) | (u64)(u16)naam_executor() << OWNER_SHIFT, &old);
	return old == place->word;
}

/* Makes the version even again, the next one. Only the lock's holder writes the word, so a plain write does. */
static __always_inline void unlock(const struct key *key, u64 word)
{
	u64 next = (word & ~0xffffffffull) | (u32)(word + 2);

	naam_write(&table, key->bucket, &next, 8);
}

/* Whether nobody has written to the bucket since the search. */
static __always_inline int unchanged(const struct key *key, const struct place *place)
{
	u64 word;

	naam_read(&table, key->bucket, &word, 8);
	return word == place->word;
}

/* Replaces the word at `slot` if nobody has written to the bucket since the search. */
static __always_inline int commit(const struct key *key, const struct place *place, u64 slot, u64 item)
{
	if (!lock(key, place))
		return 0;
	naam_write(&table, slot, &item, 8);
	unlock(key, place->word);
	return 1;
}

/*
 * Adds an extra bucket to the end of the chain, unless somebody has written to the bucket since the search. 0 if none is left.
 * Extra buckets stay where they are for good: an empty one is filled before the chain grows again.
 */
static __always_inline int grow(const struct key *key, const struct place *place)
{
	u64 word = place->word, extra_end = naam_length(&table) - sizeof(struct bucket);
	u64 counter = key->group * 8, used, old, link;
	int room;

	if (key->group >= GROUPS)
		return 0;
	if (!lock(key, place))
		return 1;
	naam_read(&table, counter, &used, 8);
	for (;;) {
		room = used < 1 << GROUP_EXTRAS_SHIFT && extra_bucket(key, used + 1) <= extra_end;
		if (!room)
			break;
		naam_compare_swap(&table, counter, used, used + 1, &old);
		if (old == used)
			break;
		used = old;
	}
	if (room) {
		link = (used + 1) << LINK_SHIFT;
		if (place->last == key->bucket)
			word |= link;
		else
			naam_write(&table, place->last, &link, 8);
	}
	unlock(key, word);
	return room;
}

/* The size class for so many units, and the units that its blocks have: all up to 8, then every 2nd, 4th and 8th. */
static __always_inline u32 class_of(u32 units)
{
	if (units <= 8)
		return units - 1;
	if (units <= 16)
		return 8 + (units - 9) / 2;
	if (units <= 32)
		return 12 + (units - 17) / 4;
	return 16 + (units - 33) / 8;
}

static __always_inline u32 class_units(u32 class)
{
	if (class < 8)
		return class + 1;
	if (class < 12)
		return 10 + (class - 8) * 2;
	if (class < 16)
		return 20 + (class - 12) * 4;
	return 40 + (class - 16) * 8;
}

/*
 * Each class has several free lists, which tags choose, so that whoever serves a request takes the same block. Who loses a list to others a few
 * times goes on to the next one: an executor far from the memory would always lose to one that is close.
 */
#ifndef LISTS
#define LISTS 8
#endif
#define LIST_WORDS 24
#define SWAPS_MAX 4

static __always_inline u64 free_list(u32 list, u32 class)
{
	return 64 + ((list % LISTS) * LIST_WORDS + class) * 8ull;
}

/* What a search for a block costs of a message's patience, and whether it lost a block to others. */
struct search {
	u32 *patience;
	int lost;
};

static __always_inline void cost(struct search *search, u32 operations)
{
	*search->patience -= operations < *search->patience ? operations : *search->patience;
}

/*
 * Takes a block of the class from a free list: from this one if it is not empty, or from whichever has one. 0 if there is none.
 * The head's tag turns with every change, so the swap fails if the block went away, and perhaps came back, while its link was read.
 */
static __always_inline u32 pop(u32 list, u32 class, int any, struct search *search)
{
	u32 lists, swaps;
	u64 head, next, old;

	for (lists = LISTS; lists && *search->patience; lists--, list++) {
		cost(search, 1);
		naam_read(&heap, free_list(list, class), &head, 8);
		for (swaps = SWAPS_MAX; (u32)head && swaps; swaps--) {
			naam_read(&heap, block_offset(head), &next, 8);
			naam_compare_swap(&heap, free_list(list, class), head, ((head >> 32) + 1) << 32 | (u32)next, &old);
			if (old == head)
				return head;
			head = old;
			search->lost = 1;
			cost(search, 2);
		}
		if (!any && !(u32)head)
			break;
	}
	return 0;
}

/* Gives back the block that an item word names. */
static __always_inline void release(u64 item)
{
	u32 class = naam_at_most(item >> CLASS_SHIFT & 0xff, CLASSES - 1), list = item >> TAG_SHIFT, swaps;
	u64 head, next, old;

	for (;; list++) {
		naam_read(&heap, free_list(list, class), &head, 8);
		for (swaps = SWAPS_MAX; swaps; swaps--) {
			next = (u32)head;
			naam_write(&heap, block_offset(item), &next, 8);
			naam_compare_swap(&heap, free_list(list, class), head, ((head >> 32) + 1) << 32 | (u32)item, &old);
			if (old == head)
				return;
			head = old;
		}
	}
}

/* Whether the heap's untouched end has room for so many units when `used` are handed out. */
static __always_inline int has_room(u64 used, u64 units)
{
	u64 length = naam_length(&heap);

	if (length > 1ull << (32 + UNIT_SHIFT))
		length = 1ull << (32 + UNIT_SHIFT);
	return used <= length >> UNIT_SHIFT && HEAP_HEADER_BYTES + ((used + units) << UNIT_SHIFT) <= length;
}

/* In place of a block: others took what there was, for as long as the message had patience. */
#define CONTENDED 1

/*
 * A block for a record of so many words, as the item word that will name it: from the tag's free list of its class, else from the
 * heap's untouched end, else from any list, of larger ones at last. 0 if there is none.
 */
static __always_inline u64 allocate(const struct key *key, u32 words, u32 *patience)
{
	u32 first = class_of((words + 1) / 2), class = first, block;
	u64 item = key->tag << TAG_SHIFT | (u64)words << WORDS_SHIFT;
	u64 units = class_units(class), used;
	struct search search = {.patience = patience};

	block = pop(key->tag, class, 0, &search);
	if (block)
		return item | (u64)class << CLASS_SHIFT | block;
	naam_read(&heap, 0, &used, 8);
	if (has_room(used, units)) {
		naam_fetch_add(&heap, 0, units, &used);
		if (has_room(used, units))
			return item | (u64)class << CLASS_SHIFT | ((HEAP_HEADER_BYTES >> UNIT_SHIFT) + used);
		/* Others were quicker. */
		naam_fetch_add(&heap, 0, -units, &used);
	}
	do {
		search.lost = 0;
		for (class = first; class < CLASSES; class++) {
			block = pop(key->tag, class, 1, &search);
			if (block)
				return item | (u64)class << CLASS_SHIFT | block;
		}
	} while (search.lost && *patience);
	return search.lost || !*patience ? CONTENDED : 0;
}

/* Forgets a record of the key's own bucket. 0 if it has none. */
static __always_inline int evict(const struct key *key, const struct place *place)
{
	if (!place->evicted)
		return 0;
	if (commit(key, place, place->victim, 0))
		release(place->evicted);
	return 1;
}

/* The record under this key: header, key and value. */
SEC("naam/get") int get(struct mica_item *message)
{
	struct place place;
	u64 words[KEY_WORDS_MAX];
	struct key key;
	u32 patience = PATIENCE;
	enum found found;

	naam_reply(0);
	if (!take_key(&key, words, message->key_length, message->data))
		return MICA_INVALID;
	do {
		found = find(&key, message, TO_READ, &patience, &place);
		if (found == NO_PATIENCE)
			return MICA_BUSY;
	} while (!unchanged(&key, &place));
	if (found == NOTHING)
		return MICA_ABSENT;
	naam_reply(naam_at_most(ITEM_HEADER_BYTES + key.count * 8 + message->value_length, sizeof(*message)));
	return MICA_OK;
}

/* Puts the message into the table as a record; over one with the same key only if `over`. */
static __always_inline int store(struct mica_item *message, int over)
{
	struct item_key item;
	struct place place;
	u64 words[KEY_WORDS_MAX];
	struct key key;
	u64 block = 0, length;
	u32 patience = PATIENCE;
	enum found found;

	naam_reply(0);
	if (message->value_length > value_length_max || message->value_length > VALUE_BYTES_MAX)
		return MICA_INVALID;
	if (!take_key(&key, words, message->key_length, message->data))
		return MICA_INVALID;
	/* Zeros behind the key are part of a record: keys are compared by words. */
	((word_t *)message->data)[key.count - 1] = words[key.count - 1];
	length = 1 + key.count + (message->value_length + 7) / 8;
	for (;;) {
		found = find(&key, &item, TO_WRITE, &patience, &place);
		if (found == RECORD && !over && !unchanged(&key, &place))
			continue;
		if (found == NO_PATIENCE || (found == RECORD && !over)) {
			if (block)
				release(block);
			return found == RECORD ? MICA_PRESENT : MICA_BUSY;
		}
		if (!place.slot && cache) {
			place.slot = place.victim;
			place.item = place.evicted;
		}
		if (!place.slot) {
			/* Nothing is held meanwhile, so that nothing more can be lost with this executor. */
			if (block)
				release(block);
			block = 0;
			if (!grow(&key, &place))
				return MICA_FULL;
			continue;
		}
		if (!block) {
			block = allocate(&key, length, &patience);
			if (block == CONTENDED)
				return MICA_BUSY;
			if (!block && cache && evict(&key, &place))
				continue;
			if (!block)
				return MICA_FULL;
			naam_write(&heap, block_offset(block), message, length * 8);
		}
		if (commit(&key, &place, place.slot, block)) {
			if (place.item)
				release(place.item);
			return MICA_OK;
		}
	}
}

/* Puts a record, whether or not one has this key already. */
SEC("naam/put") int put(struct mica_item *message)
{
	return store(message, 1);
}

/* Puts a record, unless one has this key already. */
SEC("naam/insert") int insert(struct mica_item *message)
{
	return store(message, 0);
}

/* Removes the record under this key. */
SEC("naam/delete") int delete(struct mica_item *message)
{
	struct item_key item;
	struct place place;
	u64 words[KEY_WORDS_MAX];
	struct key key;
	u32 patience = PATIENCE;
	enum found found;

	naam_reply(0);
	if (!take_key(&key, words, message->key_length, message->data))
		return MICA_INVALID;
	for (;;) {
		found = find(&key, &item, TO_WRITE, &patience, &place);
		if (found == NO_PATIENCE)
			return MICA_BUSY;
		if (found == NOTHING) {
			if (unchanged(&key, &place))
				return MICA_ABSENT;
		} else if (commit(&key, &place, place.slot, 0)) {
			release(place.item);
			return MICA_OK;
		}
	}
}

/* Adds a number to a field of a record's value; the reply tells what the field was. */
SEC("naam/read_modify_write") int read_modify_write(struct mica_add *message)
{
	struct mica_item item;
	struct place place;
	u64 words[KEY_WORDS_MAX];
	struct key key;
	u64 block = 0, length;
	u32 patience = PATIENCE;
	enum found found;

	naam_reply(0);
	if (!take_key(&key, words, message->key_length, message->key) || message->offset % 8)
		return MICA_INVALID;
	for (;;) {
		u64 field = key.count + message->offset / 8;
		word_t *data = (word_t *)item.data;
		u64 before;

		found = find(&key, &item, TO_MODIFY, &patience, &place);
		if (found != RECORD || message->offset + 8u > item.value_length) {
			if (found != NO_PATIENCE && !unchanged(&key, &place))
				continue;
			if (block)
				release(block);
			return found == NO_PATIENCE ? MICA_BUSY : found == RECORD ? MICA_INVALID : MICA_ABSENT;
		}
		length = naam_at_most(place.item >> WORDS_SHIFT & 0xff, ITEM_WORDS_MAX);
		/* Another writer may have put a record of another length since the last attempt. */
		if (block && (block >> WORDS_SHIFT & 0xff) != length) {
			release(block);
			block = 0;
		}
		if (!block)
			block = allocate(&key, length, &patience);
		if (block == CONTENDED)
			return MICA_BUSY;
		if (!block && cache && evict(&key, &place))
			continue;
		if (!block)
			return MICA_FULL;
		field = naam_at_most(field, ITEM_WORDS_MAX - 2);
		before = data[field];
		data[field] = before + message->number;
		naam_write(&heap, block_offset(block), &item, length * 8);
		if (commit(&key, &place, place.slot, block)) {
			release(place.item);
			message->number = before;
			naam_reply(16);
			return MICA_OK;
		}
	}
}

/* Main buckets that one UDMA read brings, and that one call of recover looks at. */
#define RECOVER_RUN 32
#define RECOVER_BUCKETS (1024 * RECOVER_RUN)

/*
 * Unlocks what a dead executor holds. A bucket is whole at every step of a writer, since each changes one word: so making its
 * version even is all. The one block that the dead executor had taken from the free lists, or had not given back yet, stays
 * lost.
 */
SEC("naam/recover") int recover(struct naam_recover *message)
{
	struct bucket run[RECOVER_RUN];
	u64 index = message->cursor, end = index + RECOVER_BUCKETS, main = main_buckets();
	u32 i;

	if (end > main)
		end = main;
	for (; index < end; index += RECOVER_RUN) {
		u64 at = TABLE_HEADER_BYTES + index * sizeof(struct bucket);
		u32 count = naam_at_most(end - index, RECOVER_RUN);

		naam_read(&table, at, run, count * sizeof(struct bucket));
		for (i = 0; i < count; i++) {
			u64 word = run[i].word;
			u64 old;

			if ((word & 1) && (u16)(word >> OWNER_SHIFT) == message->executor)
				naam_compare_swap(&table, at + i * sizeof(struct bucket), word,
						  (word & ~0xffffffffffffull) | (u32)(word + 1), &old);
		}
	}
	message->cursor = end;
	message->done = end == main;
	return MICA_OK;
}
