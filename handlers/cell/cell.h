/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * cell.h: what clients of the Cell handlers need to know: messages and results. README.md has the byte tables.
 */
#ifndef CELL_H
#define CELL_H

#include "naam.h"

/* Value bytes of a record: a multiple of 8, the same for all records of a tree. */
#define VALUE_BYTES_MAX 496
/* Bytes of records in one page of a scan. */
#define PAGE_BYTES 4096

/* Results of the handlers. */
enum {
	CELL_OK = 0,
	CELL_ABSENT = 1,  /* no record has this key */
	CELL_PRESENT = 2, /* insert: a record has this key already */
	CELL_FULL = 3,    /* no tree node is left for it */
	CELL_INVALID = 4, /* insert: the tree was deployed with a size of nodes or values that it cannot have */
	CELL_BUSY = 5,    /* others wrote for too long: nothing was inserted; try again */
};

/* A record: the message of lookup and insert. A request of lookup ends behind the key; its reply is the record if the key was found.
 * A request of insert ends behind the value; it has no reply. */
struct cell_record {
	u64 key;
	u64 value[VALUE_BYTES_MAX / 8];
};

/* The message of scan: the records with the lowest keys from `key` on. A request ends behind `count`; its reply behind the last record
 * of the page, which may have fewer records than were asked for. The next page is asked for with the `key` that came back. */
struct cell_scan {
	u64 key;                   /* where the page begins; in the reply, where the next one does */
	u32 count;                 /* records that are wanted; in the reply, those that are in the page */
	u32 more;                  /* in the reply: 1 if there may be more records, 0 if the tree ends here */
	u64 page[PAGE_BYTES / 8];  /* records, ascending by key: each its key and its value */
};

#endif
