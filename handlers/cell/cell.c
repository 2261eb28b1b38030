/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * cell.c: a B-link tree in the style of Cell: one UDMA read brings a tree node, whose lines say whether they belong together.
 *
 * A tree node has two directories, of which its version says which one counts. A writer locks the node, fills a free slot and the other
 * directory, and commits by one word: the next version. So a tree node is whole at every step, and readers wait for nobody. README.md has
 * the byte tables and argues why this is correct.
 */
#include "cell.h"

#ifndef NODE_BYTES
#define NODE_BYTES 1024
#define VALUE_BYTES 64
#endif

/* Bytes of a tree node: 512, 1024 or 2048. */
const volatile u32 node_bytes = NODE_BYTES;
/* Bytes of a record's value: a multiple of 8, at most VALUE_BYTES_MAX, so few that a leaf has room for three records. */
const volatile u32 value_bytes = VALUE_BYTES;

#define NODE_WORDS_MAX 256
#define LINE_WORDS 8
/* Words of a line without its version. */
#define LINE_PAYLOAD 7
/* Records that a leaf must have room for. */
#define LEAF_RECORDS_MIN 3
/* Levels of a tree at most: its tree nodes are at least half full, and so many levels would be more than can be numbered. */
#define LEVELS_MAX 16

/* The region begins with the words that belong to no tree node, each in a line of its own. */
#define HEADER_BYTES 4096
#define ROOT 0        /* offset: number of the root (32 bits), its level (8) */
#define NODES_USED 64 /* offset: tree nodes that were ever handed out, beside the first */
#define FREE_LIST 128 /* offset: number of the first free tree node or 0 (32 bits), tag that turns with every change (32) */

struct {
	__uint(rights, NAAM_READ | NAAM_WRITE | NAAM_ATOMIC);
	__uint(min_length, HEADER_BYTES + NODE_WORDS_MAX * 8);
	__type(element, u64);
} tree SEC(".maps");

/*
 * A tree node. The first word of every line is its version: that of the tree node when the line was last written. In the first line it
 * is the tree node's word: version (32 bits, odd: locked), owner while locked (16), level (8; 0: leaf).
 */
struct node {
	u64 words[NODE_WORDS_MAX];
};

#define OWNER_SHIFT 32
#define LEVEL_SHIFT 48
#define LOW 1 /* word: no key of the tree node is below this one */

/* Words of a directory: */
#define LINK 1  /* number of the next tree node to the right or 0 (32 bits), entries (8) */
#define HIGH 2  /* if there is a next one: the first key that is not here but there */
#define ORDER 3 /* from here on a byte for each entry, in the order of the keys: the word that its slot begins with */
#define ORDER_BYTES_1 40 /* in the first line */
#define ORDER_BYTES_2 56 /* in the second line, if there is one */
#define ENTRIES_MAX (ORDER_BYTES_1 + ORDER_BYTES_2)

/* Lines of a directory. */
static __always_inline u64 directory_lines(void)
{
	return node_bytes > 1024 ? 2 : 1;
}

/* First word of the directory that counts at this version; that of the other one for the next version. */
static __always_inline u64 directory(u32 version)
{
	return LINE_WORDS + (version >> 1 & 1) * directory_lines() * LINE_WORDS;
}

/* First word of the slots. */
static __always_inline u64 slots(void)
{
	return (1 + 2 * directory_lines()) * LINE_WORDS;
}

/* Words of an entry: its key, and a value or the number of a child. */
static __always_inline u64 entry_words(u32 level)
{
	return level ? 2 : 1 + value_bytes / 8;
}

/* Words of all slots together. */
static __always_inline u64 slot_words(void)
{
	return (node_bytes / 8 - slots()) / LINE_WORDS * LINE_PAYLOAD;
}

/* Entries that a tree node has room for. */
static __always_inline u64 capacity(u32 level)
{
	return naam_at_most(slot_words() / entry_words(level), directory_lines() == 2 ? ENTRIES_MAX : ORDER_BYTES_1);
}

static __always_inline u64 node_offset(u64 number)
{
	return HEADER_BYTES + number * node_bytes;
}

/* The version at which a tree node was last whole: it is, whether or not a writer is at work. */
static __always_inline u32 committed(u64 word)
{
	return (u32)word & ~1u;
}

static __always_inline u32 level_of(u64 word)
{
	return word >> LEVEL_SHIFT & 0xff;
}

static __always_inline u64 entries(const struct node *node, u64 directory)
{
	return naam_at_most(node->words[directory + LINK] >> 32 & 0xff, ENTRIES_MAX);
}

/* A number that should be that of a word: of a torn tree node it may be any. */
static __always_inline u64 word_number(u64 word)
{
	return word & (node_bytes / 8 - 1);
}

/* The byte of the directory's order for entry `index`: the second line's version is skipped. */
static __always_inline u8 *order(struct node *node, u64 directory, u64 index)
{
	return (u8 *)&node->words[directory + ORDER] + index + ((index + 256 - ORDER_BYTES_1) >> 8 << 3);
}

/* The word that the slot of entry `index` begins with: its key. */
static __always_inline u64 slot(struct node *node, u64 directory, u64 index)
{
	return word_number(*order(node, directory, index));
}

/* The word behind this one, versions skipped. */
static __always_inline u64 next_word(u64 word)
{
	return word_number(word + 1 + (word % LINE_WORDS + 1) / LINE_WORDS);
}

/* How many keys of the tree node are not above `key`. */
static __always_inline u64 search(struct node *node, u64 directory, u64 key)
{
	u64 low = 0, high = entries(node, directory);

	while (low < high) {
		u64 middle = (low + high) / 2;

		if (node->words[slot(node, directory, middle)] <= key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Whether all lines behind the first are of one version, and so were read as they were when it was committed, or later. */
static __always_inline int whole(const struct node *node, u32 version)
{
	u64 others = 0, i;

	for (i = LINE_WORDS; i < node_bytes / 8; i += LINE_WORDS)
		others |= node->words[i] ^ version;
	return !others;
}

/* How a descent ends. */
enum found {
	FOUND,
	NO_PATIENCE,
	NO_LEVEL, /* the tree has no such level */
	UNKNOWN,  /* writers: the way led right, so a parent does not know the tree node to the right of the one that was read */
};

enum purpose {
	TO_READ,
	TO_WRITE,
};

/* A descent. */
struct path {
	u64 number; /* of the tree node that was read last; NO_NUMBER: go down from the root */
	u64 root;   /* word of the root when the descent began */
	u32 level;  /* of that tree node */
};

#define NO_NUMBER ~0ull

/*
 * How many tree nodes a message reads before it gives up, with nothing held: long before its UDMA operations are used up, since a
 * message that ends while it holds a lock leaves it locked. There are at most three operations for each.
 */
#define PATIENCE 1000

/*
 * Waits for the unlocking of a tree node whose word was `locked`, by swaps that change nothing: one that fails lets others have the
 * core, a read does not.
 */
static __always_inline void await(u64 at, u64 locked, u32 *patience)
{
	u64 free = (locked & 0xffull << LEVEL_SHIFT) | (u32)(locked + 1), old;

	for (; *patience; --*patience) {
		naam_compare_swap(&tree, at, free, free, &old);
		if (old != locked)
			return;
	}
}

/*
 * Reads the tree node of `level` whose keys are around `key`: from `path->number` to the right, or from the root down. Its lines belong
 * together; they were current if the tree node's version is still the same afterwards, which a reader learns by reading the word again,
 * a writer by locking. For writers it is not locked.
 *
 * Tree nodes above that level may be torn: a wrong turn there ends at a tree node that does not have the key, and is taken anew. So it
 * must lead to a tree node: where a slot has a child, there never was anything else.
 */
static __always_inline enum found descend(u64 key, u32 level, enum purpose purpose, struct path *path, struct node *node, u32 *patience)
{
	for (;;) {
		u64 word, right, from, count, at;

		if (!*patience)
			return NO_PATIENCE;
		--*patience;
		if (path->number == NO_NUMBER) {
			naam_read(&tree, ROOT, &path->root, 8);
			path->number = (u32)path->root;
			path->level = path->root >> 32 & 0xff;
			if (path->level < level)
				return NO_LEVEL;
		}
		if (naam_read(&tree, node_offset(path->number), node, node_bytes)) {
			path->number = NO_NUMBER;
			continue;
		}
		word = node->words[0];
		from = directory(committed(word));
		if (path->level == level && !whole(node, committed(word)))
			continue;
		if (level_of(word) != path->level || key < node->words[LOW]) {
			path->number = NO_NUMBER;
			continue;
		}
		right = (u32)node->words[from + LINK];
		if (right && key >= node->words[from + HIGH]) {
			if (purpose == TO_WRITE && path->level < (path->root >> 32 & 0xff))
				return UNKNOWN;
			path->number = right;
			continue;
		}
		if (path->level == level) {
			if (purpose == TO_READ || !(word & 1))
				return FOUND;
			await(node_offset(path->number), word, patience);
			continue;
		}
		count = search(node, from, key);
		path->number = NO_NUMBER;
		/* A torn directory may count bytes that were never written, and so begin before the slots. */
		at = count ? slot(node, from, count - 1) : 0;
		if (at >= slots()) {
			path->number = (u32)node->words[next_word(at)];
			path->level--;
		}
	}
}

/* Whether nobody has committed to the tree node since it was read. */
static __always_inline int unchanged(const struct path *path, u32 version)
{
	u64 word;

	naam_read(&tree, node_offset(path->number), &word, 8);
	return committed(word) == version;
}

/* The record under this key. */
SEC("naam/lookup") int lookup(struct cell_record *message)
{
	struct node node;
	struct path path = {.number = NO_NUMBER};
	u32 patience = PATIENCE, version;
	u64 key = message->key, from, count, at, i;
	int hit;

	naam_reply(0);
	do {
		if (descend(key, 0, TO_READ, &path, &node, &patience) != FOUND)
			return CELL_BUSY;
		version = committed(node.words[0]);
		from = directory(version);
		count = search(&node, from, key);
		at = count ? slot(&node, from, count - 1) : 0;
		hit = count && node.words[at] == key;
		for (i = 0; i < value_bytes / 8; i++) {
			at = next_word(at);
			message->value[i] = node.words[at];
		}
	} while (!unchanged(&path, version));
	if (!hit)
		return CELL_ABSENT;
	naam_reply(8 + value_bytes);
	return CELL_OK;
}

/* A page of the records from a key on. */
SEC("naam/scan") int scan(struct cell_scan *message)
{
	struct node node;
	struct path path = {.number = NO_NUMBER};
	u32 patience = PATIENCE, version;
	u64 key = message->key, room = PAGE_BYTES / 8 / entry_words(0), wanted = message->count, taken = 0;

	naam_reply(0);
	if (wanted > room)
		wanted = room;
	message->more = 1;
	while (taken < wanted) {
		u64 from, count, index, next, right, filled = taken, to = taken * entry_words(0);

		if (descend(key, 0, TO_READ, &path, &node, &patience) != FOUND)
			return CELL_BUSY;
		version = committed(node.words[0]);
		from = directory(version);
		count = entries(&node, from);
		right = (u32)node.words[from + LINK];
		next = node.words[from + HIGH];
		for (index = key ? search(&node, from, key - 1) : 0; index < count; index++) {
			u64 at = slot(&node, from, index), i;

			if (filled == wanted) {
				next = node.words[at];
				break;
			}
			for (i = 0; i < entry_words(0); i++) {
				message->page[naam_at_most(to++, PAGE_BYTES / 8 - 1)] = node.words[at];
				at = next_word(at);
			}
			filled++;
		}
		if (!unchanged(&path, version))
			continue;
		taken = filled;
		key = next;
		if (index == count) {
			path.number = right;
			if (!right) {
				message->more = 0;
				break;
			}
		}
	}
	message->key = key;
	message->count = taken;
	naam_reply(16 + naam_at_most(taken * entry_words(0) * 8, PAGE_BYTES));
	return CELL_OK;
}

/* Locks the tree node if nobody has committed to it, or locked it, since it was read. */
static __always_inline int lock(u64 at, u64 word)
{
	u64 old;

	naam_compare_swap(&tree, at, word, (word + 1) | (u64)(u16)naam_executor() << OWNER_SHIFT, &old);
	return old == word;
}

static __always_inline void set_versions(struct node *node, u32 version)
{
	u64 i;

	for (i = LINE_WORDS; i < node_bytes / 8; i += LINE_WORDS)
		node->words[i] = version;
}

/*
 * Commits what a writer has prepared in free slots and in the directory of the next version, and unlocks. The versions of lines are
 * written after everything else, so that whoever reads a line's version reads no older words behind it.
 */
static __always_inline void commit(u64 at, struct node *node, u64 word)
{
	u32 version = (u32)word + 2;
	u64 next = (word & 0xffull << LEVEL_SHIFT) | version;

	naam_write(&tree, at + LINE_WORDS * 8, &node->words[LINE_WORDS], node_bytes - LINE_WORDS * 8);
	set_versions(node, version);
	naam_write(&tree, at + LINE_WORDS * 8, &node->words[LINE_WORDS], node_bytes - LINE_WORDS * 8);
	naam_write(&tree, at, &next, 8);
}

/* The word that slot `index` begins with. */
static __always_inline u64 slot_at(u64 index, u32 level)
{
	u64 payload = index * entry_words(level);

	return word_number(slots() + payload / LINE_PAYLOAD * LINE_WORDS + 1 + payload % LINE_PAYLOAD);
}

/* The word that a slot begins with which no entry is in; there must be one. */
static __always_inline u64 free_slot(struct node *node, u64 directory, u32 level)
{
	u64 used[NODE_WORDS_MAX / 64] = {0}, count = entries(node, directory), i, at;

	for (i = 0; i < count; i++) {
		at = slot(node, directory, i);
		used[at / 64] |= 1ull << at % 64;
	}
	for (i = 0; i < count; i++) {
		at = slot_at(i, level);
		if (!(used[at / 64] >> at % 64 & 1))
			return at;
	}
	return slot_at(count, level);
}

/*
 * Makes a directory out of `count` entries of another one, from `first` on, with the slot at `extra` put in as entry `place`, if that is
 * one of them.
 */
static __always_inline void arrange(struct node *node, u64 to, u64 from, u64 first, u64 count, u64 place, u64 extra)
{
	u64 i;

	count = naam_at_most(count, ENTRIES_MAX);
	for (i = 0; i < count; i++) {
		u64 index = naam_at_most(first + i - (i > place), ENTRIES_MAX - 1);

		*order(node, to, i) = i == place ? extra : *order(node, from, index);
	}
}

/* What is to be inserted at a level above the leaves. */
struct separator {
	u64 key;
	u64 child;
};

/* Takes a tree node from the free list, else from the region's untouched end. 0 if there is none. */
static __always_inline u64 allocate(void)
{
	u64 head, next, old, used, end = (naam_length(&tree) - HEADER_BYTES) / node_bytes;

	naam_read(&tree, FREE_LIST, &head, 8);
	while ((u32)head) {
		naam_read(&tree, node_offset((u32)head), &next, 8);
		naam_compare_swap(&tree, FREE_LIST, head, ((head >> 32) + 1) << 32 | (u32)next, &old);
		if (old == head)
			return (u32)head;
		head = old;
	}
	if (end > 1ull << 32)
		end = 1ull << 32;
	naam_read(&tree, NODES_USED, &used, 8);
	while (used + 1 < end) {
		naam_compare_swap(&tree, NODES_USED, used, used + 1, &old);
		if (old == used)
			return used + 1;
		used = old;
	}
	return 0;
}

/* Gives back a tree node that nothing refers to. */
static __always_inline void release(u64 number)
{
	u64 head, next, old;

	naam_read(&tree, FREE_LIST, &head, 8);
	for (;;) {
		next = (u32)head;
		naam_write(&tree, node_offset(number), &next, 8);
		naam_compare_swap(&tree, FREE_LIST, head, ((head >> 32) + 1) << 32 | (u32)number, &old);
		if (old == head)
			return;
		head = old;
	}
}

/* The highest level at which something is to be inserted. */
static __always_inline u32 highest(u32 pending)
{
	u32 level = LEVELS_MAX - 1;

	while (level && !(pending >> level & 1))
		level--;
	return level;
}

/* What is to be inserted at a level: the record, or what a level above the leaves should know. */
struct entry {
	u64 key;
	u64 child;        /* above the leaves */
	const u64 *value; /* in a leaf */
};

/* Puts an entry into a free slot and into the directory of the next version. */
static __always_inline void add(struct node *node, u64 from, u64 to, u64 place, u32 level, const struct entry *entry)
{
	u64 begin = free_slot(node, from, level), count = entries(node, from), at = begin, i;

	node->words[at] = entry->key;
	if (level)
		node->words[next_word(at)] = entry->child;
	for (i = 0; !level && i < value_bytes / 8; i++) {
		at = next_word(at);
		node->words[at] = entry->value[i];
	}
	node->words[to + LINK] = (u32)node->words[from + LINK] | (count + 1) << 32;
	node->words[to + HIGH] = node->words[from + HIGH];
	arrange(node, to, from, 0, count + 1, place, begin);
}

/*
 * Makes of a full tree node in memory the one that will be to the right of it: the upper half of its entries, in their slots. Its
 * version is one whose directory is the other one, so that the lower half stays as it is.
 */
static __always_inline u64 make_right(struct node *node, u64 from, u64 to, u64 half)
{
	u64 separator = node->words[slot(node, from, half)], count = entries(node, from);
	u32 version = (~(u32)node->words[0] & 2);

	node->words[to + LINK] = (u32)node->words[from + LINK] | (count - half) << 32;
	node->words[to + HIGH] = node->words[from + HIGH];
	arrange(node, to, from, half, count - half, ~0ull, 0);
	node->words[0] = (node->words[0] & 0xffull << LEVEL_SHIFT) | version;
	node->words[LOW] = separator;
	set_versions(node, version);
	return separator;
}

/* Makes a root over the old one and the tree node that was split from it. 0 if it is not the root any more. */
static __always_inline int grow(struct node *node, u64 number, u64 root, const struct separator *separator)
{
	u32 level = (root >> 32 & 0xff) + 1;
	u64 first = slot_at(0, level), second = slot_at(1, level), old;

	naam_fill(node, 0, sizeof(*node));
	node->words[0] = (u64)level << LEVEL_SHIFT;
	node->words[LINE_WORDS + LINK] = 2ull << 32;
	*order(node, LINE_WORDS, 0) = first;
	*order(node, LINE_WORDS, 1) = second;
	node->words[next_word(first)] = (u32)root;
	node->words[second] = separator->key;
	node->words[next_word(second)] = separator->child;
	naam_write(&tree, node_offset(number), node, node_bytes);
	naam_compare_swap(&tree, ROOT, root, (u64)level << 32 | number, &old);
	return old == root;
}

/* Whether tree nodes can be as this tree was deployed. */
static __always_inline int possible(void)
{
	return (node_bytes == 512 || node_bytes == 1024 || node_bytes == 2048) && value_bytes % 8 == 0 && value_bytes <= VALUE_BYTES_MAX &&
	       capacity(0) >= LEAF_RECORDS_MIN;
}

/* Inserts a record, unless one has this key already. */
SEC("naam/insert") int insert(struct cell_record *message)
{
	struct separator separators[LEVELS_MAX];
	struct node node;
	struct path path = {0};
	u64 held = 0; /* a tree node that was taken and that nothing refers to yet */
	u32 patience = PATIENCE, pending = 1, level;

	naam_reply(0);
	if (!possible())
		return CELL_INVALID;
	for (;;) {
		u64 key, word, at, from, to, count, place, half;
		enum found found;

		level = highest(pending);
		key = level ? separators[level].key : message->key;
		path.number = NO_NUMBER;
		found = descend(key, level, TO_WRITE, &path, &node, &patience);
		if (found == NO_PATIENCE) {
			if (held)
				release(held);
			return CELL_BUSY;
		}
		if (found == NO_LEVEL) {
			if (!held)
				held = allocate();
			if (!held || grow(&node, held, path.root, &separators[level])) {
				held = 0;
				pending &= ~(1u << level);
			}
			continue;
		}
		word = node.words[0];
		at = node_offset(path.number);
		from = directory(committed(word));
		to = directory(committed(word) + 2);
		if (found == UNKNOWN) {
			level = naam_at_most(path.level + 1, LEVELS_MAX - 1);
			separators[level].key = node.words[from + HIGH];
			separators[level].child = (u32)node.words[from + LINK];
			if (whole(&node, committed(word)) && unchanged(&path, committed(word)))
				pending |= 1u << level;
			continue;
		}
		count = entries(&node, from);
		place = search(&node, from, key);
		if (place && node.words[slot(&node, from, place - 1)] == key) {
			if (!unchanged(&path, committed(word)))
				continue;
			pending &= ~(1u << level);
			if (level)
				continue;
			if (held)
				release(held);
			return CELL_PRESENT;
		}
		if (count < capacity(level)) {
			add(&node, from, to, place, level, &(struct entry){key, separators[level].child, message->value});
			if (!lock(at, word))
				continue;
			commit(at, &node, word);
			pending &= ~(1u << level);
			if (level)
				continue;
			if (held)
				release(held);
			return CELL_OK;
		}
		if (!held) {
			held = allocate();
			if (!held && !level)
				return CELL_FULL;
			if (!held)
				pending &= ~(1u << level);
			continue;
		}
		/* Whoever appends to the tree leaves full tree nodes behind. */
		half = place == count && !(u32)node.words[from + LINK] ? count - 1 : count / 2;
		key = make_right(&node, from, to, half);
		naam_write(&tree, node_offset(held), &node, node_bytes);
		if (!lock(at, word))
			continue;
		node.words[to + LINK] = held | half << 32;
		node.words[to + HIGH] = key;
		arrange(&node, to, from, 0, half, ~0ull, 0);
		set_versions(&node, committed(word));
		commit(at, &node, word);
		level = naam_at_most(level + 1, LEVELS_MAX - 1);
		separators[level] = (struct separator){key, held};
		pending |= 1u << level;
		held = 0;
	}
}

/* Tree nodes whose words one call of recover looks at. */
#define RECOVER_NODES 1024

/*
 * Unlocks what a dead executor holds. Its tree nodes are whole as they were before: what it had prepared does not count yet. Only
 * versions of lines may be newer, so all of them are set to one that nobody has used; the same directory counts for it. What the dead
 * executor had split is found by links to the right until somebody who inserts comes by and lets the parent know.
 */
SEC("naam/recover") int recover(struct naam_recover *message)
{
	struct node node;
	u64 index = message->cursor, end = index + RECOVER_NODES, used, word, mine, old;

	naam_read(&tree, NODES_USED, &used, 8);
	/* A word of the region: it may say anything. */
	if (used > (naam_length(&tree) - HEADER_BYTES) / node_bytes)
		used = (naam_length(&tree) - HEADER_BYTES) / node_bytes;
	if (end > used + 1)
		end = used + 1;
	for (; index < end; index++) {
		u64 at = node_offset(index);
		u32 version;

		naam_read(&tree, at, &word, 8);
		if (!(word & 1) || (u16)(word >> OWNER_SHIFT) != message->executor)
			continue;
		/* From now on it is this executor's, if that should die, too. */
		mine = (word & ~(0xffffull << OWNER_SHIFT)) | (u64)(u16)naam_executor() << OWNER_SHIFT;
		naam_compare_swap(&tree, at, word, mine, &old);
		if (old != word)
			continue;
		version = committed(word) + 4;
		naam_read(&tree, at, &node, node_bytes);
		set_versions(&node, version);
		naam_write(&tree, at + LINE_WORDS * 8, &node.words[LINE_WORDS], node_bytes - LINE_WORDS * 8);
		word = (word & 0xffull << LEVEL_SHIFT) | version;
		naam_write(&tree, at, &word, 8);
	}
	message->cursor = end;
	message->done = end == used + 1;
	return CELL_OK;
}
