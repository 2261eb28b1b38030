/* An object without a handler. */
#include "naam.h"

u64 twice(u64 a)
{
	return a * 2;
}
