/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * mica.h: what clients of the MICA handlers need to know: messages and results. README.md has the byte tables.
 */
#ifndef MICA_H
#define MICA_H

#include "naam.h"

/* Key bytes of a record. */
#define KEY_BYTES_MIN 8
#define KEY_BYTES_MAX 64
/* Value bytes of a record. */
#define VALUE_BYTES_MAX 1024

/* Results of the handlers. */
enum {
	MICA_OK = 0,
	MICA_ABSENT = 1,  /* no record has this key */
	MICA_PRESENT = 2, /* insert: a record has this key already */
	MICA_FULL = 3,    /* no block or bucket is left for it */
	MICA_INVALID = 4, /* a length or an offset that no record has */
	MICA_BUSY = 5,    /* others wrote, or held the lock, for too long: nothing was done; try again */
};

/*
 * A record: the message of get, put, insert and delete, and at the same time its form in the heap, so nothing is ever repacked.
 * `data` holds the key, zeros up to a multiple of 8 bytes, then the value. A request ends behind the last byte that matters: get and
 * delete behind the key, put and insert behind the value. The reply of a get that found its key is the record, all others have no body.
 */
struct mica_item {
	u8 key_length;
	u8 reserved_1;
	u16 value_length;
	u32 reserved_2;
	u8 data[KEY_BYTES_MAX + VALUE_BYTES_MAX] __attribute__((aligned(8)));
};

/* The message of read_modify_write: adds `number` to the little-endian u64 at `offset` in the value, a multiple of 8. The reply ends behind
 * `number`, then the field as it was before. */
struct mica_add {
	u8 key_length;
	u8 reserved_1;
	u16 offset;
	u32 reserved_2;
	u64 number;
	u8 key[KEY_BYTES_MAX] __attribute__((aligned(8)));
};

#endif
