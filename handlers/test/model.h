/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * model.h: UDMA as it is promised and no more, for handlers that are compiled for this machine, and what their model tests share.
 *
 * Words of 8 bytes are atomic. The words of a read within one aligned 64-byte line are read in ascending order; lines, the words of longer
 * reads and those of writes in a random one. Executors take turns, which change at random between words: a seed repeats a whole run. One may
 * die before an operation, or in the middle of a write.
 *
 * Included after the handlers. The test defines
 *   WORDS_PER_TURN   about how many words and operations there are to each turn
 *   LINES_ASCEND     1 if the words of each line ascend in longer reads, too
 *   memory_of        the words of a region, and how many bytes it has
 */
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define CHECK(condition, ...)                                                                                                    \
	do {                                                                                                                     \
		if (!(condition)) {                                                                                              \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                                          \
			fprintf(stderr, __VA_ARGS__);                                                                            \
			fprintf(stderr, "\n");                                                                                   \
			exit(1);                                                                                                 \
		}                                                                                                                \
	} while (0)

#define STEPS_MAX 4096 /* UDMA operations of one message */

static u64 random_state;
static u32 executor;
static u32 reply_bytes;
static long steps;      /* UDMA operations of this handler so far */
static long death = -1; /* the step before which, or in the middle of which, it dies, if any */
static int torn_death;  /* whether it dies in the middle: of a write only */
static jmp_buf grave;

static _Atomic u64 *memory_of(const void *region, u64 *bytes);

static u64 draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545F4914F6CDD1Dull >> 16;
}

static u64 scramble(u64 x)
{
	x ^= x >> 31;
	x *= 0x7FB5D329728EA185ull;
	return x ^ x >> 27;
}

/* ---- Executors that take turns ---- */

#define EXECUTORS 8
#define STACK_BYTES (256 << 10)

static struct turn {
	ucontext_t context;
	u32 executor, reply_bytes;
	long steps;
	int done;
} turns[EXECUTORS];
static ucontext_t together; /* where all of them began */
static u32 current, working; /* whose turn it is, and how many work: none if this is no such run */
static u32 slow;             /* who has no turns for a while, so that much happens between two of its words */
static void (*work)(u64 number);

static void give_turn(void)
{
	struct turn *from = &turns[current];

	if (!working)
		return;
	from->executor = executor;
	from->reply_bytes = reply_bytes;
	from->steps = steps;
	if (draw() % 32 == 0)
		slow = draw() % EXECUTORS;
	do
		current = draw() % EXECUTORS;
	while (turns[current].done || (current == slow && working > 1));
	executor = turns[current].executor;
	reply_bytes = turns[current].reply_bytes;
	steps = turns[current].steps;
	if (from != &turns[current])
		swapcontext(&from->context, &turns[current].context);
}

static void take_turns(void)
{
	work(current);
	turns[current].done = 1;
	if (--working)
		give_turn();
	setcontext(&together);
}

static void prepare(u32 number)
{
	static u8 stacks[EXECUTORS][STACK_BYTES];
	struct turn *turn = &turns[number];

	*turn = (struct turn){.executor = number + 1};
	CHECK(!getcontext(&turn->context), "no context");
	turn->context.uc_stack.ss_sp = stacks[number];
	turn->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&turn->context, take_turns, 0);
}

/* Runs a piece of work on all executors, numbers 1 and so on, until each has done it. */
static void run_together(void (*piece)(u64 number))
{
	work = piece;
	for (working = 0; working < EXECUTORS; working++)
		prepare(working);
	current = 0;
	executor = 1;
	swapcontext(&together, &turns[0].context);
}

static void turn_at_random(void)
{
	if (working && draw() % WORDS_PER_TURN == 0)
		give_turn();
}

/* ---- UDMA as it is promised ---- */

static int dying(void)
{
	return steps == death;
}

static void step(void)
{
	turn_at_random();
	if (dying() && !torn_death)
		longjmp(grave, 1);
	CHECK(++steps < STEPS_MAX, "a handler does not end");
	if (steps % 64 == 0)
		give_turn(); /* as an executor's does end */
}

static _Atomic u64 *words_of(const void *region, u64 offset, u64 length)
{
	u64 bytes;
	_Atomic u64 *words = memory_of(region, &bytes);

	CHECK(words, "not a region");
	CHECK(offset % 8 == 0 && length % 8 == 0, "handlers move whole words, not %llu at %llu", length, offset);
	if (offset > bytes || length > bytes - offset)
		return 0;
	return words + offset / 8;
}

static void read_word(_Atomic u64 *words, u64 *to, u32 word)
{
	to[word] = atomic_load_explicit(&words[word], memory_order_acquire);
	turn_at_random();
}

/* Reads so many words from the beginning of a line: line after line, from a random one, in steps that reach all. */
static void read_lines(_Atomic u64 *words, u64 *to, u32 count)
{
	u32 lines = (count + 7) / 8, stride = lines % 5 ? 5 : 1, first = draw() % lines, i, word;

	for (i = 0; i < lines; i++) {
		u32 line = (first + i * stride) % lines;

		for (word = line * 8; word < line * 8 + 8 && word < count; word++)
			read_word(words, to, word);
	}
}

long naam_read(const void *region, u64 offset, void *destination, u32 length)
{
	_Atomic u64 *words = words_of(region, offset, length);
	u32 count = length / 8, i, first;

	step();
	if (!words) {
		memset(destination, 0, length);
		return -EFAULT;
	}
	if (LINES_ASCEND && count > 1) {
		CHECK(offset % 64 == 0, "a read of several words begins within a line");
		read_lines(words, destination, count);
		return 0;
	}
	first = offset % 64 + length > 64 ? draw() % count : 0;
	for (i = 0; i < count; i++)
		read_word(words, destination, (first + i) % count);
	return 0;
}

long naam_write(const void *region, u64 offset, const void *source, u32 length)
{
	_Atomic u64 *words = words_of(region, offset, length);
	const u64 *from = source;
	u32 count = length / 8, i, first;
	int last = dying() && torn_death;

	step();
	if (!words)
		return -EFAULT;
	first = draw() % count;
	for (i = 0; i < count; i++) {
		if (last && draw() % 2)
			continue;
		atomic_store_explicit(&words[(first + i) % count], from[(first + i) % count], memory_order_release);
		turn_at_random();
	}
	if (last)
		longjmp(grave, 1);
	return 0;
}

long naam_compare_swap(const void *region, u64 offset, u64 expected, u64 desired, u64 *old)
{
	_Atomic u64 *word = words_of(region, offset, 8);

	step();
	*old = 0;
	if (!word)
		return -EFAULT;
	*old = expected;
	if (!atomic_compare_exchange_strong(word, old, desired))
		give_turn();
	return 0;
}

long naam_fetch_add(const void *region, u64 offset, u64 addend, u64 *old)
{
	_Atomic u64 *word = words_of(region, offset, 8);

	step();
	*old = 0;
	if (!word)
		return -EFAULT;
	*old = atomic_fetch_add(word, addend);
	return 0;
}

u64 naam_length(const void *region)
{
	u64 bytes;

	CHECK(memory_of(region, &bytes), "not a region");
	return bytes;
}

void naam_reply(u32 length)
{
	reply_bytes = length;
}

void naam_fill(void *to, u32 byte, u32 length)
{
	memset(to, byte, length);
}

u32 naam_executor(void)
{
	return executor;
}
