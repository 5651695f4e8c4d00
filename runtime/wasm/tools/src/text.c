/* Commands on text: what comes in as lines or bytes and goes out so. */
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* each calls f for standard input or for every file that is named. */
static int each(int argc, char **argv, int first, int (*f)(struct in *, const char *, bool))
{
	int code = 0;
	if (first >= argc)
		return f(in, "-", false);
	for (int i = first; i < argc && !stopped(); i++) {
		struct in file;
		if (strcmp(argv[i], "-") == 0) {
			code |= f(in, "-", argc - first > 1);
		} else if (!open_in(&file, argv[i])) {
			code |= failed(argv[0], argv[i]);
		} else {
			code |= f(&file, argv[i], argc - first > 1);
			close_in(&file);
		}
	}
	return code;
}

static int cat_one(struct in *i, const char *name, bool many)
{
	(void)name, (void)many;
	while (!stopped() && fill(i)) {
		put(out, i->at, (size_t)(i->end - i->at));
		i->at = i->end;
		if (i->fd == 0)
			flush(out);
	}
	return 0;
}

int cat_main(int argc, char **argv)
{
	struct opts o;
	int first = options(argc, argv, "u", &o);
	return first < 0 ? 1 : each(argc, argv, first, cat_one);
}

/* escapes writes text with \n and the like replaced; false: \c, stop here. */
static bool escapes(const char *p)
{
	static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
	for (; *p; p++) {
		if (*p != '\\' || p[1] == 0) {
			sayc(*p);
			continue;
		}
		p++;
		const char *f = strchr(from, *p);
		if (*p == 'c')
			return false;
		if (f) {
			sayc(to[f - from]);
		} else if (*p >= '0' && *p <= '7') {
			int n = 0, digits = *p == '0' ? 4 : 3;
			for (; digits-- > 0 && *p >= '0' && *p <= '7'; p++)
				n = n * 8 + *p - '0';
			p--;
			sayc((char)n);
		} else {
			sayc('\\');
			sayc(*p);
		}
	}
	return true;
}

int echo_main(int argc, char **argv)
{
	bool newline = true, escape = false;
	int i = 1;
	for (; i < argc && argv[i][0] == '-' && argv[i][1] && strspn(argv[i] + 1, "neE") == strlen(argv[i] + 1); i++) {
		newline &= strchr(argv[i], 'n') == NULL;
		escape |= strchr(argv[i], 'e') != NULL;
	}
	for (int first = i; i < argc; i++) {
		if (i > first)
			sayc(' ');
		if (!escape)
			say(argv[i]);
		else if (!escapes(argv[i]))
			return 0;
	}
	if (newline)
		sayc('\n');
	return 0;
}

int printf_main(int argc, char **argv)
{
	if (argc < 2)
		return complain("printf", NULL, "no format given");
	int at = 2, before;
	do {
		before = at;
		for (const char *p = argv[1]; *p;) {
			size_t n = strcspn(p, "%");
			void *m = mark();
			if (!escapes(copy(p, n)))
				return 0;
			release(m);
			p += n;
			if (*p == 0)
				break;
			int width = 0;
			bool zero = false, left = false;
			for (p++; *p == '0' || *p == '-'; p++)
				*p == '0' ? (zero = true) : (left = true);
			for (; *p >= '0' && *p <= '9'; p++)
				width = width * 10 + *p - '0';
			const char *arg = at < argc && *p != '%' ? argv[at++] : "";
			int pad = width - (int)strlen(arg);
			for (int i = 0; *p != '%' && !left && i < pad; i++)
				sayc(zero && *p == 'd' ? '0' : ' ');
			switch (*p) {
			case '%': sayc('%'); break;
			case 's': say(arg); break;
			case 'b': escapes(arg); break;
			case 'c': put(out, arg, arg[0] != 0); break;
			case 'd': case 'i': case 'u': *arg ? say(arg) : sayc('0'); break;
			default: return complain("printf", argv[1], "unknown conversion");
			}
			for (int i = 0; *p != '%' && left && i < pad; i++)
				sayc(' ');
			p++;
		}
	} while (at < argc && at > before);
	return 0;
}

static struct opts set; /* of the command that runs */
static long long amount;
static bool from_start, by_bytes;

/* count_option reads -n N, -c N and the old -N. */
static int count_option(int argc, char **argv, const char *flags)
{
	amount = 10;
	from_start = by_bytes = false;
	if (argc > 1 && argv[1][0] == '-' && argv[1][1] >= '0' && argv[1][1] <= '9') {
		amount = atoll(argv[1] + 1);
		memset(&set, 0, sizeof set);
		return 2;
	}
	int first = options(argc, argv, flags, &set);
	const char *value = set.value['n'];
	if (set.set['c']) {
		by_bytes = true;
		value = set.value['c'];
	}
	if (value) {
		from_start = *value == '+';
		amount = atoll(value + (*value == '+' || *value == '-'));
	}
	return first;
}

static void title(const char *name, bool many)
{
	if (!many)
		return;
	say("==> ");
	say(name);
	say(" <==\n");
}

static int head_one(struct in *i, const char *name, bool many)
{
	title(name, many);
	for (long long left = amount; left > 0 && !stopped() && fill(i);) {
		const char *end = i->end;
		if (by_bytes) {
			end = i->end - i->at > left ? i->at + left : i->end;
			left -= end - i->at;
		} else {
			for (end = i->at; end < i->end && left > 0; end++)
				left -= *end == '\n';
		}
		put(out, i->at, (size_t)(end - i->at));
		i->at = end;
	}
	return 0;
}

int head_main(int argc, char **argv)
{
	int first = count_option(argc, argv, "n:c:");
	return first < 0 ? 1 : each(argc, argv, first, head_one);
}

/* skip passes over the first amount-1 units and copies what follows. */
static void skip(struct in *i)
{
	for (long long left = amount - 1; left > 0 && fill(i); i->at++)
		left -= by_bytes || *i->at == '\n';
	cat_one(i, NULL, false);
}

static int tail_one(struct in *i, const char *name, bool many)
{
	title(name, many);
	if (from_start) {
		skip(i);
	} else {
		struct out all = { .fd = -1 };
		while (!stopped() && fill(i)) {
			put(&all, i->at, (size_t)(i->end - i->at));
			i->at = i->end;
		}
		size_t at = all.len;
		for (long long left = amount; at > 0; at--) {
			if (by_bytes ? left-- == 0 : all.buf[at - 1] == '\n' && at < all.len && --left == 0)
				break;
		}
		if (amount > 0)
			put(out, all.buf + at, all.len - at);
		free(all.buf);
	}
	while (set.set['f'] && i->fd > 2 && !stopped()) { /* files only: there is no other end */
		i->over = false;
		cat_one(i, NULL, false);
		flush(out);
		pause_for(300, -1, false);
	}
	return 0;
}

int tail_main(int argc, char **argv)
{
	int first = count_option(argc, argv, "n:c:fF");
	set.set['f'] |= set.set['F'];
	return first < 0 ? 1 : each(argc, argv, first, tail_one);
}

static struct regex *pattern;
static bool matched;

static bool matches(const char *text, size_t len)
{
	const char *fixed = set.value['e'];
	if (!set.set['F'])
		return regex_matches(pattern, text, set.set['i'], set.set['x']);
	size_t n = strlen(fixed);
	for (size_t at = 0; at + n <= len; at++)
		if ((set.set['i'] ? strncasecmp : strncmp)(text + at, fixed, n) == 0 && (!set.set['x'] || n == len))
			return true;
	return false;
}

static int grep_one(struct in *i, const char *name, bool many)
{
	long long count = 0, row = 0;
	char *text;
	size_t len;
	while (!stopped() && line(i, &text, &len)) {
		row++;
		if (matches(text, len) == (set.set['v'] != 0))
			continue;
		matched = true;
		count++;
		if (set.set['q'] || set.set['l'])
			break;
		if (set.set['c'])
			continue;
		if (many && !set.set['h']) {
			say(name);
			sayc(':');
		}
		if (set.set['n']) {
			number(out, row, 0);
			sayc(':');
		}
		put(out, text, len);
		sayc('\n');
	}
	if (set.set['l'] && count > 0) {
		say(name);
		sayc('\n');
	} else if (set.set['c'] && !set.set['q']) {
		if (many) {
			say(name);
			sayc(':');
		}
		number(out, count, 0);
		sayc('\n');
	}
	return 0;
}

int grep_main(int argc, char **argv)
{
	int first = options(argc, argv, "e:EFivnclqhxs", &set);
	if (first >= 0 && !set.set['e'] && first < argc)
		set.value['e'] = argv[first++];
	if (first < 0 || set.value['e'] == NULL)
		return first < 0 ? 2 : 2 * complain("grep", NULL, "no pattern given");
	void *m = mark();
	if (!set.set['F'] && (pattern = regex(set.value['e'], set.set['E'])) == NULL)
		return 2 * complain("grep", set.value['e'], "not a regular expression");
	matched = false;
	int code = each(argc, argv, first, grep_one);
	release(m);
	return code ? 2 : !matched;
}

static long long totals[3];

static void counts(const long long *n, const char *name)
{
	bool all = !set.set['l'] && !set.set['w'] && !set.set['c'];
	const char *which = "lwc";
	bool any = false;
	for (int i = 0; i < 3; i++)
		if (all || set.set[(int)which[i]]) {
			number(out, n[i], all ? 8 : 0);
			any = true;
		}
	if (any && name) {
		sayc(' ');
		say(name);
	}
	sayc('\n');
}

static int wc_one(struct in *i, const char *name, bool many)
{
	long long n[3] = { 0 };
	bool word = false;
	(void)many;
	for (int c; (c = next(i)) >= 0 && !stopped(); n[2]++) {
		bool space = c == ' ' || (c >= 9 && c <= 13);
		n[0] += c == '\n';
		n[1] += !space && !word;
		word = !space;
	}
	for (int k = 0; k < 3; k++)
		totals[k] += n[k];
	counts(n, strcmp(name, "-") ? name : NULL);
	return 0;
}

int wc_main(int argc, char **argv)
{
	int first = options(argc, argv, "lwc", &set);
	memset(totals, 0, sizeof totals);
	int code = first < 0 ? 1 : each(argc, argv, first, wc_one);
	if (first >= 0 && argc - first > 1)
		counts(totals, "total");
	return code;
}

static char **lines;
static size_t lines_used;

static int collect(struct in *i, const char *name, bool many)
{
	char *text;
	size_t len;
	(void)name, (void)many;
	while (!stopped() && line(i, &text, &len)) {
		if ((lines_used & (lines_used + 1)) == 0) {
			char **grown = take((lines_used * 2 + 2) * sizeof *lines);
			memcpy(grown, lines, lines_used * sizeof *lines);
			lines = grown;
		}
		lines[lines_used++] = copy(text, len);
	}
	return 0;
}

static int order(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	int by = 0;
	if (set.set['n']) {
		long long m = atoll(x), n = atoll(y);
		by = m < n ? -1 : m > n;
	}
	if (by == 0)
		by = strcmp(x, y);
	return set.set['r'] ? -by : by;
}

int sort_main(int argc, char **argv)
{
	int first = options(argc, argv, "nru", &set);
	if (first < 0)
		return 2;
	lines = take(sizeof *lines);
	lines_used = 0;
	int code = each(argc, argv, first, collect);
	qsort(lines, lines_used, sizeof *lines, order);
	for (size_t i = 0; i < lines_used; i++) {
		if (set.set['u'] && i > 0 && strcmp(lines[i], lines[i - 1]) == 0)
			continue;
		say(lines[i]);
		sayc('\n');
	}
	return code;
}

int uniq_main(int argc, char **argv)
{
	int first = options(argc, argv, "c", &set);
	if (first < 0)
		return 1;
	lines = take(sizeof *lines);
	lines_used = 0;
	int code = each(argc, argv, first, collect);
	for (size_t i = 0, same; i < lines_used; i += same) {
		for (same = 1; i + same < lines_used && strcmp(lines[i], lines[i + same]) == 0;)
			same++;
		if (set.set['c']) {
			number(out, (long long)same, 7);
			sayc(' ');
		}
		say(lines[i]);
		sayc('\n');
	}
	return code;
}

/* wanted reports whether position n is in a list such as 1,3-5,7-. */
static bool wanted(const char *list, long n)
{
	while (*list) {
		char *end;
		long low = strtol(list, &end, 10), high = low;
		if (*end == '-') {
			const char *after = end + 1;
			high = strtol(after, &end, 10);
			if (end == after)
				high = n;
		}
		if (n >= (low ? low : 1) && n <= high)
			return true;
		list = *end ? end + 1 : end;
	}
	return false;
}

static int cut_one(struct in *i, const char *name, bool many)
{
	char *text;
	size_t len;
	char delimiter = set.value['d'] ? set.value['d'][0] : '\t';
	(void)name, (void)many;
	while (!stopped() && line(i, &text, &len)) {
		long n = 1;
		bool some = false;
		if (set.value['f'] && memchr(text, delimiter, len) == NULL) {
			put(out, text, set.set['s'] ? 0 : len);
			if (set.set['s'])
				continue;
		}
		for (char *p = text; set.value['f'] && memchr(text, delimiter, len) && p <= text + len; n++) {
			char *end = memchr(p, delimiter, (size_t)(text + len - p));
			end = end ? end : text + len;
			if (wanted(set.value['f'], n)) {
				if (some)
					sayc(delimiter);
				put(out, p, (size_t)(end - p));
				some = true;
			}
			p = end + 1;
		}
		for (size_t k = 0; set.value['c'] && k < len; k++)
			if (wanted(set.value['c'], (long)k + 1))
				sayc(text[k]);
		sayc('\n');
	}
	return 0;
}

int cut_main(int argc, char **argv)
{
	int first = options(argc, argv, "d:f:c:s", &set);
	if (first < 0 || (!set.value['f'] && !set.value['c']))
		return first < 0 ? 1 : complain("cut", NULL, "expected a list of fields (-f) or characters (-c)");
	return each(argc, argv, first, cut_one);
}

/* members expands a set such as a-z\n to its characters. */
static size_t members(const char *text, char to[256])
{
	size_t n = 0;
	for (; *text && n < 256; text++) {
		char c = *text;
		if (c == '\\' && text[1]) {
			const char *at = strchr("nrt", *++text);
			c = at ? "\n\r\t"[at - "nrt"] : *text;
		}
		if (text[1] == '-' && text[2]) {
			for (int k = (unsigned char)c; k <= (unsigned char)text[2] && n < 256; k++)
				to[n++] = (char)k;
			text += 2;
		} else {
			to[n++] = c;
		}
	}
	return n;
}

int tr_main(int argc, char **argv)
{
	int first = options(argc, argv, "ds", &set), last = -1;
	char from[256], to[256];
	if (first < 0 || first + (set.set['d'] || set.set['s'] ? 1 : 2) > argc)
		return first < 0 ? 1 : complain("tr", NULL, "expected two sets of characters");
	size_t n = members(argv[first], from), m = first + 1 < argc ? members(argv[first + 1], to) : 0;
	for (int c; (c = next(in)) >= 0 && !stopped();) {
		const char *at = memchr(from, c, n);
		if (at && set.set['d'])
			continue;
		if (at && m > 0)
			c = (unsigned char)to[(size_t)(at - from) < m ? (size_t)(at - from) : m - 1];
		if (at && set.set['s'] && c == last)
			continue;
		last = c;
		sayc((char)c);
	}
	return 0;
}

int tee_main(int argc, char **argv)
{
	int first = options(argc, argv, "a", &set), code = 0;
	if (first < 0)
		return 1;
	struct out *files = take((size_t)(argc + 1) * sizeof *files);
	for (int i = first; i < argc; i++) {
		files[i].fd = open(argv[i], O_WRONLY | O_CREAT | (set.set['a'] ? O_APPEND : O_TRUNC), 0666);
		if (files[i].fd < 0) {
			code = failed("tee", argv[i]);
			files[i].failed = true;
		}
	}
	while (!stopped() && fill(in)) {
		size_t n = (size_t)(in->end - in->at);
		put(out, in->at, n);
		for (int i = first; i < argc; i++)
			put(files + i, in->at, n);
		in->at = in->end;
	}
	for (int i = first; i < argc; i++) {
		if (files[i].fd < 0)
			continue;
		flush(files + i);
		close(files[i].fd);
		free(files[i].buf);
	}
	return code;
}
