/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * naam.h: all that a handler sees of the world.
 *
 * A handler is a small function that is bound to a message. It runs at the client, on the SmartNIC or on a host core, wherever the
 * message is served best just now, and gives the same result at each of these places. It may touch its message, its stack and
 * read-only data directly, and memory of the server only through the UDMA calls below, which resemble one-sided RDMA.
 *
 *	#include "naam.h"
 *
 *	struct {
 *		__uint(rights, NAAM_READ | NAAM_ATOMIC);
 *		__type(element, u64);
 *	} counters SEC(".maps");
 *
 *	struct add {
 *		u64 index;
 *		u64 value;
 *	};
 *
 *	SEC("naam/add") int add(struct add *message)
 *	{
 *		return naam_fetch_add(&counters, message->index * 8, message->value, &message->value);
 *	}
 *
 * Write plain sequential C: every UDMA call may suspend the message and resume it later, perhaps on another core, and the
 * next line goes on as if nothing had happened. `naamc build` compiles the file and proves that the handler stays inside its message, its
 * stack and its regions. What it cannot prove it refuses, with the line and the reason. `naamc build FILE.c -o FILE.naam` brings
 * this file along and calls clang with the flags under which handlers verify best. Nothing else is needed: no libbpf, no kernel headers.
 *
 * Compiled for anything but BPF, the helpers are ordinary undefined functions: a test program defines them over its own memory and
 * runs the same C natively.
 */
#ifndef NAAM_H
#define NAAM_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;

_Static_assert(sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(u64) == 8, "sizes that messages and regions rely on");

/* Places a handler or a region: SEC("naam/NAME") before a handler, SEC(".maps") behind a region. */
#define SEC(name) __attribute__((section(name), used))

/* A function that becomes part of its caller. Functions without it work as well, but not recursion. */
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/*
 * Regions: registered memory of a server, named here and bound to real memory when the bundle is deployed. They are declared as
 * libbpf users declare maps:
 *
 *	struct {
 *		__uint(rights, NAAM_READ | NAAM_WRITE);	the rights that this file's handlers use
 *		__uint(min_length, 1 << 20);		optional: a shorter region is not bound
 *		__type(element, struct bucket);		optional: what it holds, for tools that print it
 *	} buckets SEC(".maps");
 *
 * A region's address is a handle: it is passed to helpers, possibly after a choice between several, and to nothing else.
 */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name

#define NAAM_READ 1   /* naam_read */
#define NAAM_WRITE 2  /* naam_write */
#define NAAM_ATOMIC 4 /* naam_compare_swap, naam_fetch_add */

/* What UDMA calls answer, negated, if they did not succeed. The access then took no effect, and its destination reads as zeros. */
#ifndef EFAULT
#define EFAULT 14 /* the access lies (partly) outside the region */
#endif
#ifndef EINVAL
#define EINVAL 22 /* an atomic at an offset that is not a multiple of 8 */
#endif

#ifdef __bpf__
#define NAAM_HELPER(number, result, name, ...) static result (*const name)(__VA_ARGS__) = (result (*)(__VA_ARGS__))number
#else
#define NAAM_HELPER(number, result, name, ...) extern result name(__VA_ARGS__)
#endif

/*
 * UDMA: the four calls that reach a region. `offset` and `length` are bytes. All return 0, -EFAULT or -EINVAL; a length of 0 succeeds.
 *
 * - Operations of one message take effect in program order: reads acquire, writes release, atomics are sequentially consistent.
 * - An aligned 8-byte word is never torn. A longer transfer is a run of such words, and another message may write in between. Words of
 *   one aligned 64-byte line are read in ascending order or at once; of several lines nothing is promised. So structures carry
 *   versions: a word that is read before a copy and again after it, or one in each line.
 * - Each call is a suspension point: locals and message survive it, whatever the place where the message goes on.
 */

/* Copies region bytes to stack or message. */
NAAM_HELPER(1, long, naam_read, const void *region, u64 offset, void *destination, u32 length);

/* Copies stack, message or read-only bytes to the region. */
NAAM_HELPER(2, long, naam_write, const void *region, u64 offset, const void *source, u32 length);

/* Atomically: *old = word; if (word == expected) word = desired. It has swapped if *old == expected. Loop on it to wait for a lock. */
NAAM_HELPER(3, long, naam_compare_swap, const void *region, u64 offset, u64 expected, u64 desired, u64 *old);

/* Atomically: *old = word; word += addend. */
NAAM_HELPER(4, long, naam_fetch_add, const void *region, u64 offset, u64 addend, u64 *old);

/* Bytes of the region. It stays the same while the bundle is deployed, so layouts may be computed from it. */
NAAM_HELPER(5, u64, naam_length, const void *region);

/* Only the first `length` bytes of the message go back; without this call all of them do. At most the size of the message. */
NAAM_HELPER(6, void, naam_reply, u32 length);

/* Local memory of a length that is known only at run time; for constant lengths assignments and loops do. Source and
 * destination of a copy may overlap. */
NAAM_HELPER(7, void, naam_copy, void *to, const void *from, u32 length);
NAAM_HELPER(8, void, naam_fill, void *to, u32 byte, u32 length);

/* Compares bytes from the first on, as unsigned: negative, 0 or positive as `a` is before, equal to or behind `b`. */
NAAM_HELPER(9, long, naam_compare, const void *a, const void *b, u32 length);

/* The number, 1 to 65,535, of the executor that runs this message: what a lock word should hold, so that `recover` can find the locks
 * of a dead one. It binds the message to its executor, and no reply may depend on it. */
NAAM_HELPER(10, u32, naam_executor, void);

/*
 * naam_at_most(value, max): the smaller of both, as unsigned 64-bit numbers.
 *
 * It is what to use where `naamc` says that a length or an index may be too large and you know that it is not. A plain
 * `if (n > max) n = max;` is often moved, merged or deleted by the compiler, which knows more than it leaves in the code;
 * this one stays where it is written. It costs two instructions.
 */
static __always_inline u64 naam_at_most(u64 value, u64 max)
{
#ifdef __bpf__
	asm("if %0 <= %1 goto +1\n\t"
	    "%0 = %1"
	    : "+r"(value)
	    : "r"(max));
	return value;
#else
	return value <= max ? value : max;
#endif
}

/*
 * The message of the one handler with a name of its own:
 *
 *	SEC("naam/recover") int recover(struct naam_recover *message)
 *
 * After an executor has died it is called, again and again, until it sets `done`: it releases what that executor held. Other
 * executors go on working meanwhile. One call should issue no more than some thousand UDMA operations. A place that is started again
 * calls it before it serves; of a client that ran handlers itself and is gone, a place that runs does.
 */
struct naam_recover {
	u32 executor; /* who died */
	u32 done;     /* set to 1 when nothing is left */
	u64 cursor;   /* 0 at first, then whatever the last call left here */
};

#endif
