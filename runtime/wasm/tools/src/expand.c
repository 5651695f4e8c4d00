/* What words stand for: variables, commands, arithmetic, patterns. */
#include "sh.h"

#include <stdlib.h>
#include <string.h>

/* field is one word while it grows. Characters that were quoted are marked
 * with a backslash, for patterns; they lose it at the end. */
struct field {
	struct out text;
	bool any, pattern;
};

struct fields {
	struct field now;
	struct word *first, **last;
	bool split; /* unquoted results are split, and patterns replaced by files */
};

static void add(struct fields *f, char c, bool quoted)
{
	if (quoted && strchr("*?[]\\", c))
		put(&f->now.text, "\\", 1);
	f->now.pattern |= !quoted && (c == '*' || c == '?' || c == '[');
	put(&f->now.text, &c, 1);
	f->now.any = true;
}

static char *plain(const char *text)
{
	char *to = copy(text, strlen(text)), *p = to;
	for (; *text; text++) {
		if (*text == '\\' && text[1] && strchr("*?[]\\", text[1]))
			text++;
		*p++ = *text;
	}
	*p = 0;
	return to;
}

static void emit(struct fields *f, const char *text)
{
	struct word *w = take(sizeof *w);
	w->text = (char *)text;
	*f->last = w;
	f->last = &w->next;
}

/* files replaces a pattern by the paths that match it, a directory at a time. */
static bool files(struct fields *f, const char *dir, const char *pattern)
{
	size_t n = strcspn(pattern, "/"), count = 0;
	char *part = copy(pattern, n);
	const char *rest = pattern + n + strspn(pattern + n, "/");
	bool found = false;
	if (n == 0)
		return files(f, "/", rest);
	if (strpbrk(part, "*?[") == NULL) {
		char *path = *dir ? path_in(dir, plain(part)) : plain(part);
		struct stat st;
		if (*rest)
			return files(f, path, rest);
		if (lstat(path, &st) == 0)
			emit(f, path);
		return lstat(path, &st) == 0;
	}
	char **names = names_in(*dir ? dir : ".", &count);
	for (size_t i = 0; names && i < count; i++) {
		if ((names[i][0] == '.' && *part != '.') || !glob(part, names[i]))
			continue;
		char *path = *dir ? path_in(dir, names[i]) : names[i];
		if (*rest)
			found |= files(f, path, rest);
		else {
			emit(f, path);
			found = true;
		}
	}
	return found;
}

static void end_field(struct fields *f)
{
	if (f->now.any) {
		char *text = copy(f->now.text.buf ? f->now.text.buf : "", f->now.text.len);
		if (!f->split || !f->now.pattern || !files(f, "", text))
			emit(f, plain(text));
	}
	f->now.text.len = 0;
	f->now.any = f->now.pattern = false;
}

static void value(struct fields *f, const char *text, bool quoted)
{
	const char *ifs = variable("IFS");
	if (ifs == NULL)
		ifs = " \t\n";
	f->now.any |= quoted;
	for (; *text; text++) {
		if (!quoted && f->split && strchr(ifs, *text))
			end_field(f);
		else
			add(f, *text, quoted || !f->split);
	}
}

static const char *digits(long long n)
{
	struct out o = { .fd = -1 };
	number(&o, n, 0);
	char *text = copy(o.buf, o.len);
	free(o.buf);
	return text;
}

/* special is the value of $?, $#, $1 and their like; NULL for other names. */
static const char *special(const char *name)
{
	if (name[1] && !(name[0] >= '0' && name[0] <= '9'))
		return NULL;
	switch (*name) {
	case '?': return digits(last_code);
	case '#': return digits(arg_count);
	case '$': return "1";
	case '!': case '-': return "";
	}
	if (*name < '0' || *name > '9')
		return NULL;
	int i = atoi(name);
	return i == 0 ? shell_name : i <= arg_count ? arg_list[i - 1] : NULL;
}

static const char *get(const char *name)
{
	const char *v = special(name);
	return v || !name_char(*name, true) ? v : variable(name);
}

static void all_args(struct fields *f, bool apart, bool quoted)
{
	for (int i = 0; i < arg_count; i++) {
		if (i > 0 && (apart || !quoted) && f->split)
			end_field(f);
		else if (i > 0)
			add(f, ' ', true);
		value(f, arg_list[i], quoted);
	}
}

static void walk(struct fields *f, const char *p, bool quoted);

/* trimmed removes the part of v that matches: # from the front, % from the
 * end, doubled as much as possible. */
static const char *trimmed(const char *v, char op, bool longest, const char *pattern)
{
	size_t n = strlen(v);
	for (size_t k = 0; k <= n; k++) {
		size_t take_out = longest ? n - k : k;
		char *part = op == '#' ? copy(v, take_out) : copy(v + n - take_out, take_out);
		if (glob(pattern, part))
			return op == '#' ? v + take_out : copy(v, n - take_out);
	}
	return v;
}

static char *pattern_of(const char *text)
{
	struct fields f = { .now.text.fd = -1 };
	f.last = &f.first;
	walk(&f, text, false);
	char *result = copy(f.now.text.buf ? f.now.text.buf : "", f.now.text.len);
	free(f.now.text.buf);
	return result;
}

/* braces is ${...}. */
static void braces(struct fields *f, char *text, bool quoted)
{
	bool length = *text == '#' && text[1];
	text += length;
	size_t n = 0;
	if (name_char(*text, true))
		while (name_char(text[n], false))
			n++;
	else
		for (n = 1; text[0] >= '0' && text[0] <= '9' && text[n] >= '0' && text[n] <= '9';)
			n++;
	char *name = copy(text, n), *op = text + n;
	if ((*name == '@' || *name == '*') && !length) {
		all_args(f, *name == '@', quoted);
		return;
	}
	const char *v = get(name);
	if (length) {
		value(f, digits(v ? (long long)strlen(v) : 0), quoted);
		return;
	}
	if (*op == '#' || *op == '%') {
		bool longest = op[1] == *op;
		value(f, trimmed(v ? v : "", *op, longest, pattern_of(op + 1 + longest)), quoted);
		return;
	}
	bool colon = *op == ':';
	op += colon;
	bool missing = v == NULL || (colon && *v == 0);
	switch (*op) {
	case '+':
		if (!missing)
			walk(f, op + 1, quoted);
		return;
	case '-':
	case '=':
	case '?':
		if (!missing)
			break;
		if (*op == '=')
			set_variable(name, expand_one(op + 1), false);
		else if (*op == '?')
			complain("sh", name, op[1] ? expand_one(op + 1) : "not set");
		walk(f, *op == '?' ? "" : op + 1, quoted);
		return;
	}
	value(f, v ? v : "", quoted);
}

static const char *closing(const char *p, char open, char close)
{
	int depth = 1;
	for (; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (*p == '\'')
			p += 1 + strcspn(p + 1, "'");
		else if (*p == open)
			depth++;
		else if (*p == close && --depth == 0)
			break;
	}
	return p;
}

/* dollar expands what begins with $ and returns what follows. */
static const char *dollar(struct fields *f, const char *p, bool quoted)
{
	const char *end = p;
	if (p[0] == '(' && p[1] == '(') {
		for (int depth = 0; *end; end++) {
			depth += (*end == '(') - (*end == ')');
			if (depth == 0)
				break;
		}
		value(f, digits(arithmetic(expand_here(copy(p + 2, (size_t)(end - p) - 3)))), quoted);
		return *end ? end + 1 : end;
	}
	if (*p == '(') {
		end = closing(p + 1, '(', ')');
		value(f, capture(copy(p + 1, (size_t)(end - p) - 1)), quoted);
		return *end ? end + 1 : end;
	}
	if (*p == '{') {
		end = closing(p + 1, '{', '}');
		braces(f, copy(p + 1, (size_t)(end - p) - 1), quoted);
		return *end ? end + 1 : end;
	}
	if (*p == '@' || *p == '*') {
		all_args(f, *p == '@', quoted);
		return p + 1;
	}
	if (name_char(*p, true))
		while (name_char(*end, false))
			end++;
	else if (*p && strchr("?#$!-0123456789", *p))
		end++;
	else
		return add(f, '$', quoted), p;
	const char *v = get(copy(p, (size_t)(end - p)));
	value(f, v ? v : "", quoted);
	return end;
}

static const char *backquoted(struct fields *f, const char *p, bool quoted)
{
	size_t n = strcspn(p, "`");
	value(f, capture(copy(p, n)), quoted);
	return p + n + (p[n] == '`');
}

/* walk expands a word. quoted: it stands within double quotes. */
static void walk(struct fields *f, const char *p, bool quoted)
{
	while (*p) {
		char c = *p++;
		if (c == '$') {
			p = dollar(f, p, quoted);
		} else if (c == '`') {
			p = backquoted(f, p, quoted);
		} else if (c == '\\' && *p) {
			if (quoted && !strchr("$`\"\\\n", *p))
				add(f, '\\', true);
			if (*p != '\n')
				add(f, *p, true);
			p++;
		} else if (c == '\'' && !quoted) {
			for (f->now.any = true; *p && *p != '\''; p++)
				add(f, *p, true);
			p += *p == '\'';
		} else if (c == '"') {
			f->now.any = true;
			quoted = !quoted;
		} else {
			add(f, c, quoted);
		}
	}
}

static const char *home(const char *text)
{
	if (*text != '~' || (text[1] && text[1] != '/'))
		return text;
	const char *dir = variable("HOME");
	return join(dir ? dir : "/", text + 1, "");
}

struct word *expand(const struct word *words)
{
	struct fields f = { .now.text.fd = -1, .split = true };
	f.last = &f.first;
	for (; words; words = words->next) {
		walk(&f, home(words->text), false);
		end_field(&f);
	}
	free(f.now.text.buf);
	return f.first;
}

char *expand_one(const char *text) { return plain(pattern_of(home(text))); }

bool match_pattern(const char *pattern, const char *text) { return glob(pattern_of(pattern), text); }

char *expand_here(const char *text)
{
	struct fields f = { .now.text.fd = -1 };
	f.last = &f.first;
	while (*text) {
		char c = *text++;
		if (c == '$')
			text = dollar(&f, text, true);
		else if (c == '`')
			text = backquoted(&f, text, true);
		else if (c == '\\' && *text && strchr("$`\\\n", *text))
			*text == '\n' ? (void)0 : add(&f, *text, true), text++;
		else
			add(&f, c, true);
	}
	char *result = plain(copy(f.now.text.buf ? f.now.text.buf : "", f.now.text.len));
	free(f.now.text.buf);
	return result;
}
