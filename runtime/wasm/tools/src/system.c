/* Commands about the pod and small ones for scripts. */
#include "tools.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* The size of the terminal, which WASI has no call for: columns in the lower 16
 * bits, rows in the upper ones. */
__attribute__((import_module("wasi_snapshot_preview1"), import_name("wherry_tty_size")))
uint16_t tty_size(uint32_t *size);

int true_main(int argc, char **argv) { return (void)argc, (void)argv, 0; }
int false_main(int argc, char **argv) { return (void)argc, (void)argv, 1; }

static int print_env(void)
{
	for (char **e = environ; e && *e; e++) {
		say(*e);
		sayc('\n');
	}
	return 0;
}

int printenv_main(int argc, char **argv)
{
	int code = 0;
	if (argc < 2)
		return print_env();
	for (int i = 1; i < argc; i++) {
		const char *value = getenv(argv[i]);
		if (value == NULL) {
			code = 1;
			continue;
		}
		say(value);
		sayc('\n');
	}
	return code;
}

/* env sets variables for good: what follows is the last thing that runs
 * before they are put back. */
int env_main(int argc, char **argv)
{
	int i = 1, code = 0;
	char **before = environ;
	size_t n = 0;
	while (environ && environ[n])
		n++;
	environ = take((n + (size_t)argc + 1) * sizeof *environ);
	if (i < argc && strcmp(argv[i], "-i") == 0)
		i++;
	else
		memcpy(environ, before, n * sizeof *environ);
	for (; i < argc && strchr(argv[i], '='); i++) {
		size_t name = (size_t)(strchr(argv[i], '=') - argv[i]) + 1, at = 0;
		while (environ[at] && strncmp(environ[at], argv[i], name) != 0)
			at++;
		environ[at] = argv[i];
	}
	const struct tool *t = i < argc ? find_tool(argv[i]) : NULL;
	if (i >= argc)
		code = print_env();
	else if (t)
		code = t->run(argc - i, argv + i);
	else
		code = 126 + complain("env", argv[i], "not found");
	environ = before;
	return code;
}

int ps_main(int argc, char **argv)
{
	(void)argc, (void)argv;
	say("  PID USER     COMMAND");
	say(processes);
	sayc('\n');
	return 0;
}

int id_main(int argc, char **argv)
{
	if (argc > 1 && (argv[1][1] == 'u' || argv[1][1] == 'g'))
		say(strchr(argv[1], 'n') ? "root\n" : "0\n");
	else
		say("uid=0(root) gid=0(root) groups=0(root)\n");
	return 0;
}

int whoami_main(int argc, char **argv) { return (void)argc, (void)argv, say("root\n"), 0; }

int hostname_main(int argc, char **argv)
{
	(void)argc, (void)argv;
	const char *name = getenv("HOSTNAME");
	say(name ? name : "localhost");
	sayc('\n');
	return 0;
}

int uname_main(int argc, char **argv)
{
	const char *host = getenv("HOSTNAME");
	const char *flags = argc > 1 ? argv[1] : "-s";
	bool all = strchr(flags, 'a') != NULL, first = true;
	static const struct { char flag; const char *text; } parts[] = {
		{ 's', "Wherry" }, { 'n', NULL }, { 'r', "wasip1" }, { 'm', "wasm32" },
	};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (!all && !strchr(flags, parts[i].flag))
			continue;
		if (!first)
			sayc(' ');
		say(parts[i].text ? parts[i].text : host ? host : "localhost");
		first = false;
	}
	sayc('\n');
	return 0;
}

int pwd_main(int argc, char **argv)
{
	char cwd[PATH_LEN];
	(void)argc, (void)argv;
	if (getcwd(cwd, sizeof cwd) == NULL)
		return failed("pwd", NULL);
	say(cwd);
	sayc('\n');
	return 0;
}

int sleep_main(int argc, char **argv)
{
	double seconds = 0;
	if (argc < 2)
		return complain("sleep", NULL, "no time given");
	for (int i = 1; i < argc; i++) {
		const char *end = argv[i];
		double n = 0, part = 1;
		for (; *end >= '0' && *end <= '9'; end++)
			n = n * 10 + *end - '0';
		if (*end == '.')
			for (end++; *end >= '0' && *end <= '9'; end++)
				n += (part /= 10) * (*end - '0');
		if (end == argv[i] && strncmp(end, "inf", 3) != 0)
			return complain("sleep", argv[i], "not a time");
		seconds += end == argv[i] ? 1e9 : n * (*end == 'm' ? 60 : *end == 'h' ? 3600 : *end == 'd' ? 86400 : 1);
	}
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double until = (double)now.tv_sec + (double)now.tv_nsec / 1e9 + seconds;
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
		double left = (until - (double)now.tv_sec - (double)now.tv_nsec / 1e9) * 1000;
		if (left <= 0)
			break;
		pause_for(left < 1 ? 1 : left > 1e9 ? 1000000000 : (long long)left, -1, false);
	} while (!interrupted);
	return 0;
}

/* stty knows the size of the terminal; its line discipline is the runtime's and
 * does not change. */
int stty_main(int argc, char **argv)
{
	uint32_t size = 0;
	if (argc != 2 || strcmp(argv[1], "size") != 0)
		return complain("stty", NULL, "only \"stty size\" is known here");
	if (tty_size(&size) != 0)
		return complain("stty", NULL, "standard input is not a terminal");
	number(out, size >> 16, 0);
	sayc(' ');
	number(out, size & 0xffff, 0);
	sayc('\n');
	return 0;
}

static void two(int n, char fill)
{
	if (n < 10)
		sayc(fill);
	number(out, n, 0);
}

void say_time(const char *format, long long when)
{
	static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = when;
	struct tm tm;
	gmtime_r(&t, &tm);
	for (const char *p = format; *p; p++) {
		if (*p != '%' || p[1] == 0) {
			sayc(*p);
			continue;
		}
		switch (*++p) {
		case 'a': put(out, days + tm.tm_wday * 3, 3); break;
		case 'b': case 'h': put(out, months + tm.tm_mon * 3, 3); break;
		case 'd': two(tm.tm_mday, '0'); break;
		case 'e': two(tm.tm_mday, ' '); break;
		case 'H': two(tm.tm_hour, '0'); break;
		case 'M': two(tm.tm_min, '0'); break;
		case 'S': two(tm.tm_sec, '0'); break;
		case 'm': two(tm.tm_mon + 1, '0'); break;
		case 'y': two(tm.tm_year % 100, '0'); break;
		case 'Y': number(out, tm.tm_year + 1900, 0); break;
		case 'F': say_time("%Y-%m-%d", when); break;
		case 'T': say_time("%H:%M:%S", when); break;
		case 's': number(out, when, 0); break;
		case 'Z': say("UTC"); break;
		case 'z': say("+0000"); break;
		case 'n': sayc('\n'); break;
		case '%': sayc('%'); break;
		default: put(out, p - 1, 2);
		}
	}
}

int date_main(int argc, char **argv)
{
	const char *format = "%a %b %e %H:%M:%S UTC %Y";
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '+')
			format = argv[i] + 1;
		else if (strcmp(argv[i], "-u") != 0)
			return complain("date", argv[i], "unknown option");
	}
	say_time(format, time(NULL));
	sayc('\n');
	return 0;
}

int basename_main(int argc, char **argv)
{
	if (argc < 2)
		return complain("basename", NULL, "no path given");
	char *path = argv[1];
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		path[--n] = 0;
	const char *last = n == 1 ? path : base(path);
	size_t len = strlen(last), suffix = argc > 2 ? strlen(argv[2]) : 0;
	if (suffix > 0 && suffix < len && strcmp(last + len - suffix, argv[2]) == 0)
		len -= suffix;
	put(out, last, len);
	sayc('\n');
	return 0;
}

int dirname_main(int argc, char **argv)
{
	if (argc < 2)
		return complain("dirname", NULL, "no path given");
	char *slash = strrchr(argv[1], '/');
	while (slash > argv[1] && slash[1] == 0) {
		*slash = 0;
		slash = strrchr(argv[1], '/');
	}
	if (slash)
		put(out, argv[1], slash == argv[1] ? 1 : (size_t)(slash - argv[1]));
	else
		sayc('.');
	sayc('\n');
	return 0;
}

int which_main(int argc, char **argv)
{
	int code = argc < 2;
	for (int i = 1; i < argc; i++) {
		if (find_tool(argv[i]) == NULL) {
			code = 1;
			continue;
		}
		say("/bin/");
		say(base(argv[i]));
		sayc('\n');
	}
	return code;
}

int xargs_main(int argc, char **argv)
{
	struct opts o;
	int first = options(argc, argv, "n:r", &o), code = 0, used = 0;
	if (first < 0)
		return 1;
	static char *fallback[] = { "echo", NULL };
	char **words = first < argc ? argv + first : fallback;
	int fixed = first < argc ? argc - first : 1, most = o.value['n'] ? atoi(o.value['n']) : 1000;
	const struct tool *t = find_tool(words[0]);
	if (t == NULL || most < 1)
		return t ? complain("xargs", "-n", "not a number") : 126 + complain("xargs", words[0], "not found");
	char **call = take((size_t)(fixed + most + 1) * sizeof *call), *text;
	memcpy(call, words, (size_t)fixed * sizeof *call);
	size_t len;
	bool ran = false;
	while (!stopped() && line(in, &text, &len)) {
		char *rest = copy(text, len), *word;
		while ((word = strtok_r(rest, " \t", &rest)) != NULL) {
			call[fixed + used++] = word;
			if (used < most)
				continue;
			code |= t->run(fixed + used, call);
			ran = true;
			used = 0;
		}
	}
	call[fixed + used] = NULL;
	if (used > 0 || (!ran && !o.set['r']))
		code |= t->run(fixed + used, call);
	return code ? 123 : 0;
}

static char **words; /* of test */
static int words_left;

static bool peek(const char *word) { return words_left > 0 && strcmp(*words, word) == 0; }

static const char *shift_word(void) { return words_left > 0 ? words_left--, *words++ : ""; }

static bool unary(char op, const char *arg)
{
	struct stat st;
	switch (op) {
	case 'z': return *arg == 0;
	case 'n': return *arg != 0;
	case 't': return tty;
	case 'h':
	case 'L': return lstat(arg, &st) == 0 && S_ISLNK(st.st_mode);
	}
	if (stat(arg, &st) != 0)
		return false;
	switch (op) {
	case 'd': return S_ISDIR(st.st_mode);
	case 'f': return S_ISREG(st.st_mode);
	case 's': return st.st_size > 0;
	case 'x': return mode_of(arg, &st) & 0111;
	}
	return true; /* -e -r -w */
}

static int binary(const char *a, const char *op, const char *b)
{
	static const char *const names[] = { "-eq", "-ne", "-lt", "-le", "-gt", "-ge" };
	if (strcmp(op, "=") == 0 || strcmp(op, "==") == 0)
		return strcmp(a, b) == 0;
	if (strcmp(op, "!=") == 0)
		return strcmp(a, b) != 0;
	long long m = atoll(a), n = atoll(b);
	bool answers[] = { m == n, m != n, m < n, m <= n, m > n, m >= n };
	for (int i = 0; i < 6; i++)
		if (strcmp(op, names[i]) == 0)
			return answers[i];
	return -1;
}

static bool any(void);

static bool one(void)
{
	if (peek("!") && words_left > 1)
		return shift_word(), !one();
	if (peek("(") && words_left > 2) {
		shift_word();
		bool yes = any();
		shift_word();
		return yes;
	}
	const char *a = shift_word();
	if (words_left >= 2) {
		int yes = binary(a, words[0], words[1]);
		if (yes >= 0)
			return shift_word(), shift_word(), yes;
	}
	if (a[0] == '-' && a[1] && a[2] == 0 && strchr("zntefdsrwxhL", a[1]) && words_left > 0)
		return unary(a[1], shift_word());
	return *a != 0;
}

static bool both(void)
{
	bool yes = one();
	while (peek("-a")) {
		shift_word();
		yes &= one();
	}
	return yes;
}

static bool any(void)
{
	bool yes = both();
	while (peek("-o")) {
		shift_word();
		yes |= both();
	}
	return yes;
}

int test_main(int argc, char **argv)
{
	if (argv[0][strlen(argv[0]) - 1] == '[' && (argc < 2 || strcmp(argv[--argc], "]") != 0))
		return 1 + complain("[", NULL, "missing ]");
	words = argv + 1;
	words_left = argc - 1;
	bool yes = words_left > 0 && any();
	if (words_left > 0)
		return 1 + complain("test", *words, "unknown operand");
	return !yes;
}
