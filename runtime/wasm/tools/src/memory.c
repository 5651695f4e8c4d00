/* Memory that is given back by whole commands, like a stack. */
#include "tools.h"

#include <stdlib.h>
#include <string.h>

static struct chunk {
	struct chunk *below;
} *top;

void *take(size_t size)
{
	struct chunk *c = calloc(1, sizeof *c + size);
	if (c == NULL) {
		complain("sh", NULL, "out of memory");
		exit(137);
	}
	c->below = top;
	top = c;
	return c + 1;
}

char *copy(const char *text, size_t len)
{
	char *to = take(len + 1);
	memcpy(to, text, len);
	return to;
}

char *join(const char *a, const char *b, const char *c)
{
	size_t la = strlen(a), lb = strlen(b), lc = strlen(c);
	char *to = take(la + lb + lc + 1);
	memcpy(to, a, la);
	memcpy(to + la, b, lb);
	memcpy(to + la + lb, c, lc);
	return to;
}

void *mark(void) { return top; }

void release(void *to)
{
	while (top != to) {
		struct chunk *c = top;
		top = c->below;
		free(c);
	}
}
