/* Arithmetic of $((...)). */
#include "sh.h"

#include <stdlib.h>
#include <string.h>

static const char *at;

static const struct {
	const char *text;
	int level;
} operators[] = { { "||", 1 }, { "&&", 2 }, { "==", 3 }, { "!=", 3 }, { "<=", 4 }, { ">=", 4 }, { "<", 4 }, { ">", 4 },
	{ "+", 5 }, { "-", 5 }, { "*", 6 }, { "/", 6 }, { "%", 6 } };

static void blanks(void) { at += strspn(at, " \t\n"); }

static long long above(int level);

static long long operand(void)
{
	blanks();
	switch (*at) {
	case '-': return at++, -operand();
	case '+': return at++, operand();
	case '!': return at++, !operand();
	case '(': {
		at++;
		long long n = above(0);
		blanks();
		at += *at == ')';
		return n;
	}
	}
	if (name_char(*at, true)) {
		size_t n = 0;
		while (name_char(at[n], false))
			n++;
		const char *v = variable(copy(at, n));
		at += n;
		return v ? atoll(v) : 0;
	}
	char *end;
	long long n = strtoll(at, &end, 0);
	if (end == at && *at)
		end = (char *)at + strlen(at); /* nothing that is understood follows */
	at = end;
	return n;
}

static long long apply(const char *op, long long a, long long b)
{
	if ((*op == '/' || *op == '%') && b == 0)
		return complain("sh", NULL, "divide by zero"), 0;
	switch (*op) {
	case '|': return a || b;
	case '&': return a && b;
	case '=': return a == b;
	case '!': return a != b;
	case '<': return op[1] ? a <= b : a < b;
	case '>': return op[1] ? a >= b : a > b;
	case '+': return a + b;
	case '-': return a - b;
	case '*': return a * b;
	case '/': return b == -1 ? -a : a / b;
	default: return b == -1 ? 0 : a % b;
	}
}

/* above reads an expression of operators that bind tighter than level. */
static long long above(int level)
{
	long long n = operand();
	for (;;) {
		size_t i = 0, count = sizeof operators / sizeof *operators;
		blanks();
		while (i < count && strncmp(at, operators[i].text, strlen(operators[i].text)) != 0)
			i++;
		if (i == count || operators[i].level <= level)
			return n;
		at += strlen(operators[i].text);
		n = apply(operators[i].text, n, above(operators[i].level));
	}
}

long long arithmetic(const char *text)
{
	const char *before = at;
	at = text;
	long long n = above(0);
	at = before;
	return n;
}
