/* Patterns of file names and regular expressions. The C library's would be
 * half of the module, most of it tables of Unicode. */
#include "tools.h"

#include <string.h>

/* bracket matches c against the set after [ and returns what follows the ],
 * or NULL when there is none. */
static const char *bracket(const char *p, unsigned char c, bool fold, bool *yes)
{
	static const char *const classes[] = { "alpha:]", "digit:]", "alnum:]", "space:]", "upper:]", "lower:]" };
	bool not = *p == '!' || *p == '^', first = true;
	*yes = false;
	for (p += not; *p && (*p != ']' || first); first = false) {
		if (p[0] == '[' && p[1] == ':') {
			bool alpha = (c | 32) >= 'a' && (c | 32) <= 'z', digit = c >= '0' && c <= '9', upper = alpha && c < 'a';
			bool is[] = { alpha, digit, alpha || digit, c == ' ' || (c >= 9 && c <= 13), upper, alpha && !upper };
			size_t i = 0;
			while (i < 6 && strncmp(p + 2, classes[i], 7) != 0)
				i++;
			if (i < 6) {
				*yes |= is[i];
				p += 9;
				continue;
			}
		}
		unsigned char low = (unsigned char)*p++, high = low;
		if (*p == '-' && p[1] && p[1] != ']') {
			high = (unsigned char)p[1];
			p += 2;
		}
		*yes |= c >= low && c <= high;
		if (fold && (c | 32) >= 'a' && (c | 32) <= 'z')
			*yes |= (c ^ 32) >= low && (c ^ 32) <= high;
	}
	*yes ^= not;
	return *p ? p + 1 : NULL;
}

bool glob(const char *p, const char *text)
{
	for (; *p; p++, text++) {
		bool yes;
		const char *after;
		if (*p == '*') {
			while (p[1] == '*')
				p++;
			for (;; text++) {
				if (glob(p + 1, text))
					return true;
				if (*text == 0)
					return false;
			}
		}
		if (*text == 0)
			return false;
		if (*p == '[' && (after = bracket(p + 1, (unsigned char)*text, false, &yes)) != NULL) {
			if (!yes)
				return false;
			p = after - 1;
			continue;
		}
		if (*p == '\\' && p[1])
			p++;
		else if (*p == '?')
			continue;
		if (*p != *text)
			return false;
	}
	return *text == 0;
}

/* A regular expression is a list of these. */
struct regex {
	enum { CHARACTER, ANY, SET, BEGIN, END, WORD, EITHER, REPEAT } type;
	char c;
	const char *set;
	struct regex *left, *right; /* EITHER's parts; what REPEAT repeats is left */
	int least, most;
	struct regex *next;
};

/* What is to be matched after the list at hand. */
struct after {
	const struct regex *next;
	const struct regex *repeat; /* or once more, after count rounds */
	int count;
	const char *from;
	const struct after *up;
};

static bool extended, fold, bad;
static const char *at, *begin;

static struct regex *make(int type)
{
	struct regex *r = take(sizeof *r);
	r->type = type;
	return r;
}

/* is reports whether an operator comes next; basic expressions escape it. */
static bool is(char op)
{
	return extended ? *at == op : at[0] == '\\' && at[1] == op;
}

static void skip(void) { at += extended ? 1 : 2; }

static struct regex *alternatives(void);

static struct regex *atom(bool first)
{
	struct regex *r;
	if (is('(')) {
		skip();
		r = make(EITHER);
		r->left = alternatives();
		bad |= !is(')');
		if (!bad)
			skip();
		return r;
	}
	switch (*at) {
	case '.': return at++, make(ANY);
	case '^':
		if (extended || first)
			return at++, make(BEGIN);
		break;
	case '$':
		if (extended || at[1] == 0 || (at[1] == '\\' && (at[2] == ')' || at[2] == '|')))
			return at++, make(END);
		break;
	case '[': {
		bool yes;
		r = make(SET);
		r->set = ++at;
		at = bracket(at, 0, false, &yes);
		if (at == NULL) {
			bad = true;
			at = "";
		}
		return r;
	}
	case '\\':
		at++;
		bad |= *at == 0;
		if (*at == 'w' || *at == 's' || *at == 'd') {
			r = make(SET);
			r->set = *at == 'w' ? "[:alnum:]_]" : *at == 's' ? "[:space:]]" : "[:digit:]]";
			return at++, r;
		}
		if (*at == 'b' || *at == '<' || *at == '>')
			return at++, make(WORD);
		break;
	}
	r = make(CHARACTER);
	r->c = *at;
	at += *at != 0;
	return r;
}

/* bounds reads {m,n}. */
static void bounds(struct regex *r)
{
	skip();
	for (r->least = 0; *at >= '0' && *at <= '9'; at++)
		r->least = r->least * 10 + *at - '0';
	r->most = r->least;
	if (*at == ',')
		for (at++, r->most = -1; *at >= '0' && *at <= '9'; at++)
			r->most = (r->most < 0 ? 0 : r->most) * 10 + *at - '0';
	bad |= !is('}');
	if (!bad)
		skip();
}

static struct regex *repeated(bool first)
{
	struct regex *r = atom(first);
	for (;;) {
		bool star = *at == '*' && r->type != BEGIN;
		if (!star && !is('+') && !is('?') && !is('{'))
			return r;
		struct regex *many = make(REPEAT);
		many->left = r;
		r = many;
		r->least = !star && is('+');
		r->most = !star && is('?') ? 1 : -1;
		if (star)
			at++;
		else if (is('{'))
			bounds(r);
		else
			skip();
	}
}

static struct regex *alternatives(void)
{
	struct regex *list = NULL, **last = &list;
	while (!bad && *at && !is('|') && !is(')')) {
		*last = repeated(list == NULL);
		last = &(*last)->next;
	}
	if (!is('|') || bad)
		return list;
	skip();
	struct regex *either = make(EITHER);
	either->left = list;
	either->right = alternatives();
	either->least = 1; /* it has two parts */
	return either;
}

struct regex *regex(const char *pattern, bool is_extended)
{
	extended = is_extended;
	bad = false;
	at = pattern;
	struct regex *top = make(EITHER);
	top->left = alternatives();
	return bad || *at ? NULL : top;
}

static bool word_char(char c) { return c == '_' || ((c | 32) >= 'a' && (c | 32) <= 'z') || (c >= '0' && c <= '9'); }

static char lower(char c) { return fold && c >= 'A' && c <= 'Z' ? (char)(c | 32) : c; }

/* single matches what stands for one character. */
static bool single(const struct regex *r, char c)
{
	bool yes = true;
	if (c == 0)
		return false;
	if (r->type == SET)
		bracket(r->set, (unsigned char)c, fold, &yes);
	else if (r->type == CHARACTER)
		yes = lower(r->c) == lower(c);
	return yes;
}

static bool match(const struct regex *r, const char *s, const struct after *k);

static bool again(const struct regex *r, int count, const char *s, const struct after *k)
{
	if (r->left->type <= SET) { /* no recursion for each character of a line */
		int n = 0;
		while ((r->most < 0 || n < r->most) && single(r->left, s[n]))
			n++;
		for (; n >= r->least; n--)
			if (match(r->next, s + n, k))
				return true;
		return false;
	}
	struct after more = { .repeat = r, .count = count + 1, .from = s, .up = k };
	if ((r->most < 0 || count < r->most) && match(r->left, s, &more))
		return true;
	return count >= r->least && match(r->next, s, k);
}

static bool match(const struct regex *r, const char *s, const struct after *k)
{
	for (; r; r = r->next) {
		struct after then = { .next = r->next, .up = k };
		switch (r->type) {
		case BEGIN:
			if (s != begin)
				return false;
			break;
		case END:
			if (*s)
				return false;
			break;
		case WORD:
			if ((s > begin && word_char(s[-1])) == word_char(*s))
				return false;
			break;
		case EITHER:
			return match(r->left, s, &then) || (r->least && match(r->right, s, &then));
		case REPEAT:
			return again(r, 0, s, k);
		default:
			if (!single(r, *s))
				return false;
			s++;
		}
	}
	if (k == NULL)
		return true;
	if (k->repeat == NULL)
		return match(k->next, s, k->up);
	return s == k->from ? match(k->repeat->next, s, k->up) : again(k->repeat, k->count, s, k->up);
}

bool regex_matches(const struct regex *r, const char *text, bool ignore_case, bool whole)
{
	static const struct regex end = { .type = END };
	struct after last = { .next = &end };
	fold = ignore_case;
	begin = text;
	for (;; text++) {
		if (match(r, text, whole ? &last : NULL))
			return true;
		if (*text == 0 || whole)
			return false;
	}
}
