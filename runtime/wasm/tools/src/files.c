/* Commands on files and directories. */
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* rename */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct opts set; /* of the command that runs */

static char kind(const struct stat *st)
{
	return S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : S_ISREG(st->st_mode) ? '-' : '?';
}

static void long_row(const char *path, const struct stat *st)
{
	unsigned mode = mode_of(path, st);
	char text[] = "rwxrwxrwx";
	for (int i = 0; i < 9; i++)
		if (!(mode & (0400u >> i)))
			text[i] = '-';
	sayc(kind(st));
	say(S_ISLNK(st->st_mode) ? "rwxrwxrwx" : text);
	number(out, (long long)st->st_nlink, 5);
	say(" root     root     ");
	number(out, st->st_size, 9);
	long long now = time(NULL), when = st->st_mtim.tv_sec;
	say_time(now - when > 15552000 || when > now + 60 ? " %b %e  %Y " : " %b %e %H:%M ", when);
}

static void row(const char *path, const char *name)
{
	struct stat st;
	bool known = lstat(path, &st) == 0;
	if (set.set['l'] && known)
		long_row(path, &st);
	say(name);
	if (set.set['F'] && known && S_ISDIR(st.st_mode))
		sayc('/');
	if (set.set['l'] && known && S_ISLNK(st.st_mode)) {
		char to[PATH_LEN];
		ssize_t n = readlink(path, to, sizeof to);
		say(" -> ");
		put(out, to, n > 0 ? (size_t)n : 0);
	}
	sayc('\n');
}

static int list(const char *dir, bool titled)
{
	void *m = mark();
	size_t n = 0;
	char **names = names_in(dir, &n);
	if (names == NULL)
		return failed("ls", dir);
	if (titled) {
		say(dir);
		say(":\n");
	}
	if (set.set['a']) {
		row(dir, ".");
		row(path_in(dir, ".."), "..");
	}
	for (size_t i = 0; i < n && !stopped(); i++)
		if (set.set['a'] || set.set['A'] || names[i][0] != '.')
			row(path_in(dir, names[i]), names[i]);
	int code = 0;
	for (size_t i = 0; set.set['R'] && i < n && !stopped(); i++) {
		struct stat st;
		char *path = path_in(dir, names[i]);
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
			sayc('\n');
			code |= list(path, true);
		}
	}
	release(m);
	return code;
}

int ls_main(int argc, char **argv)
{
	int first = options(argc, argv, "laAdF1Rht", &set), code = 0, dirs = 0, shown = 0;
	if (first < 0)
		return 1;
	if (first == argc) {
		if (!set.set['d'])
			return list(".", set.set['R']);
		row(".", ".");
		return 0;
	}
	for (int i = first; i < argc; i++) { /* files come first */
		struct stat st;
		if (lstat(argv[i], &st) != 0) {
			code = failed("ls", argv[i]);
			argv[i] = NULL;
			continue;
		}
		if (!set.set['d'] && (!S_ISLNK(st.st_mode) || !set.set['l']) && stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			dirs++;
			continue;
		}
		row(argv[i], argv[i]);
		argv[i] = NULL;
		shown++;
	}
	for (int i = first; i < argc && dirs > 0; i++) {
		if (argv[i] == NULL)
			continue;
		if (shown++)
			sayc('\n');
		code |= list(argv[i], set.set['R'] || argc - first > 1);
	}
	return code;
}

static int copy_file(const char *who, const char *from, const char *to, const struct stat *st)
{
	struct in i;
	if (!open_in(&i, from))
		return failed(who, from);
	struct out o = { .fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666) };
	if (o.fd < 0) {
		close_in(&i);
		return failed(who, to);
	}
	while (!interrupted && !o.failed && fill(&i)) {
		put(&o, i.at, (size_t)(i.end - i.at));
		i.at = i.end;
	}
	bool ok = flush(&o);
	close(o.fd);
	free(o.buf);
	close_in(&i);
	set_mode(to, mode_of(from, st));
	return ok ? 0 : failed(who, to);
}

static int copy_tree(const char *who, const char *from, const char *to)
{
	struct stat st;
	if ((set.set['a'] || set.set['P'] ? lstat : stat)(from, &st) != 0)
		return failed(who, from);
	if (S_ISLNK(st.st_mode)) {
		char target[PATH_LEN];
		ssize_t n = readlink(from, target, sizeof target - 1);
		target[n > 0 ? n : 0] = 0;
		return symlink(target, to) == 0 ? 0 : failed(who, to);
	}
	if (!S_ISDIR(st.st_mode))
		return copy_file(who, from, to, &st);
	if (!set.set['r'])
		return complain(who, from, "is a directory (not copied)");
	if (mkdir(to, 0777) != 0 && errno != EEXIST)
		return failed(who, to);
	set_mode(to, mode_of(from, &st));
	void *m = mark();
	size_t n = 0;
	int code = 0;
	char **names = names_in(from, &n);
	if (names == NULL)
		return failed(who, from);
	for (size_t i = 0; i < n && !stopped(); i++)
		code |= copy_tree(who, path_in(from, names[i]), path_in(to, names[i]));
	release(m);
	return code;
}

static int remove_tree(const char *who, const char *path)
{
	struct stat st;
	if (lstat(path, &st) != 0)
		return set.set['f'] && errno == ENOENT ? 0 : failed(who, path);
	if (!S_ISDIR(st.st_mode))
		return unlink(path) == 0 ? 0 : failed(who, path);
	if (!set.set['r'])
		return complain(who, path, "is a directory");
	void *m = mark();
	size_t n = 0;
	int code = 0;
	char **names = names_in(path, &n);
	for (size_t i = 0; i < n && !stopped(); i++)
		code |= remove_tree(who, path_in(path, names[i]));
	release(m);
	return code || rmdir(path) == 0 ? code : failed(who, path);
}

static int move(const char *who, const char *from, const char *to)
{
	if (rename(from, to) == 0)
		return 0;
	if (errno != EXDEV)
		return failed(who, from);
	set.set['r'] = set.set['a'] = 1; /* another volume */
	int code = copy_tree(who, from, to);
	return code ? code : remove_tree(who, from);
}

/* into calls f for each source with its place in or as the last argument. */
static int into(int argc, char **argv, int first, int (*f)(const char *, const char *, const char *))
{
	if (argc - first < 2)
		return complain(argv[0], NULL, "expected a source and a destination");
	const char *to = argv[argc - 1];
	struct stat st;
	bool dir = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
	int code = 0;
	if (!dir && argc - first > 2)
		return complain(argv[0], to, "not a directory");
	for (int i = first; i < argc - 1 && !stopped(); i++) {
		size_t n = strlen(argv[i]);
		while (n > 1 && argv[i][n - 1] == '/')
			argv[i][--n] = 0;
		code |= f(argv[0], argv[i], dir ? path_in(to, base(argv[i])) : to);
	}
	return code;
}

int cp_main(int argc, char **argv)
{
	int first = options(argc, argv, "rRapPf", &set);
	set.set['r'] |= set.set['R'] | set.set['a'];
	return first < 0 ? 1 : into(argc, argv, first, copy_tree);
}

int mv_main(int argc, char **argv)
{
	int first = options(argc, argv, "f", &set);
	return first < 0 ? 1 : into(argc, argv, first, move);
}

int rm_main(int argc, char **argv)
{
	int first = options(argc, argv, "rRf", &set), code = 0;
	if (first < 0 || (first == argc && !set.set['f']))
		return first < 0 ? 1 : complain("rm", NULL, "nothing named");
	set.set['r'] |= set.set['R'];
	for (int i = first; i < argc && !stopped(); i++) {
		size_t n = strlen(argv[i]);
		while (n > 1 && argv[i][n - 1] == '/')
			argv[i][--n] = 0;
		code |= remove_tree("rm", argv[i]);
	}
	return code;
}

int mkdir_main(int argc, char **argv)
{
	int first = options(argc, argv, "pm:", &set), code = 0;
	for (int i = first; first >= 0 && i < argc; i++) {
		bool ok = set.set['p'] ? make_dirs(argv[i]) : mkdir(argv[i], 0777) == 0;
		if (!ok)
			code = failed("mkdir", argv[i]);
		else if (set.value['m'])
			set_mode(argv[i], (unsigned)strtoul(set.value['m'], NULL, 8));
	}
	return first < 0 ? 1 : code;
}

int rmdir_main(int argc, char **argv)
{
	int code = 0;
	for (int i = 1; i < argc; i++)
		if (rmdir(argv[i]) != 0)
			code = failed("rmdir", argv[i]);
	return code;
}

int touch_main(int argc, char **argv)
{
	int code = 0;
	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_WRONLY | O_CREAT, 0666);
		if (fd < 0 || futimens(fd, NULL) != 0)
			code = failed("touch", argv[i]);
		if (fd >= 0)
			close(fd);
	}
	return code;
}

int readlink_main(int argc, char **argv)
{
	int code = argc < 2;
	for (int i = 1; i < argc; i++) {
		char to[PATH_LEN];
		ssize_t n = readlink(argv[i], to, sizeof to);
		if (n < 0) {
			code = 1;
			continue;
		}
		put(out, to, (size_t)n);
		sayc('\n');
	}
	return code;
}

static const char *find_name, *find_type;
static int find_depth;

static int walk(const char *path, int depth)
{
	struct stat st;
	if (lstat(path, &st) != 0)
		return failed("find", path);
	bool named = !find_name || glob(find_name, base(path));
	if (named && (!find_type || *find_type == (kind(&st) == '-' ? 'f' : kind(&st)))) {
		say(path);
		sayc('\n');
	}
	if (!S_ISDIR(st.st_mode) || depth == find_depth)
		return 0;
	void *m = mark();
	size_t n = 0;
	int code = 0;
	char **names = names_in(path, &n);
	if (names == NULL)
		code = failed("find", path);
	for (size_t i = 0; names && i < n && !stopped(); i++)
		code |= walk(path_in(path, names[i]), depth + 1);
	release(m);
	return code;
}

int find_main(int argc, char **argv)
{
	int last = 1, code = 0;
	find_name = find_type = NULL;
	find_depth = -1;
	while (last < argc && argv[last][0] != '-')
		last++;
	for (int i = last; i < argc; i += 2) {
		if (i + 1 >= argc)
			return complain("find", argv[i], "needs a value");
		if (strcmp(argv[i], "-name") == 0)
			find_name = argv[i + 1];
		else if (strcmp(argv[i], "-type") == 0)
			find_type = argv[i + 1];
		else if (strcmp(argv[i], "-maxdepth") == 0)
			find_depth = atoi(argv[i + 1]);
		else
			return complain("find", argv[i], "unknown test");
	}
	if (last == 1)
		return walk(".", 0);
	for (int i = 1; i < last; i++)
		code |= walk(argv[i], 0);
	return code;
}
