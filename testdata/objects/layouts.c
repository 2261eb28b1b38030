/* Types of every kind in a message, an element and constants. */
#include "naam.h"

enum colour { RED, GREEN = 5, BLUE };
enum offset { BELOW = -3, ABOVE = 3 };
enum wide { FAR = 0x100000000000ull };

struct point {
	s16 x, y;
};

typedef struct point corner_t;

struct message {
	u8 key[8];
	char name[16];
	u32 flags : 3;
	u32 level : 7;
	u32 : 6;
	u32 rest : 16;
	enum colour colour;
	enum offset offset;
	enum wide wide;
	_Bool on;
	s8 small;
	volatile u64 number;
	corner_t corners[2][3];
	union {
		u64 word;
		struct {
			u32 low, high;
		};
	};
	union {
		u16 a;
		u8 b[2];
	} choice;
	u32 none[0];
};

struct {
	__uint(rights, NAAM_READ);
	__type(element, struct message);
} messages SEC(".maps");

const volatile u32 limit = 7;
const volatile struct point origin = {-1, 1};
const volatile u64 weights[3] = {1, 2, 3};
static const volatile enum colour paint = BLUE;
const u32 fixed = 3;

SEC("naam/read") int read(struct message *message)
{
	message->number = limit + origin.x + weights[2] + paint;
	return naam_read(&messages, message->word, message->key, 8);
}
