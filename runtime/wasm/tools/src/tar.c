/* tar: archives in the ustar format with GNU and pax long names, as kubectl
 * cp reads and writes them. */
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[8], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};

enum { UNIT = sizeof(struct header) };

static bool verbose, keep_time;
static int strip;
static char **excluded;
static int excluded_count;

static void octal(char *to, int digits, unsigned long long n)
{
	for (to[digits] = 0; digits-- > 0; n >>= 3)
		to[digits] = (char)('0' + (n & 7));
}

static unsigned long long from_octal(const char *text, size_t len)
{
	unsigned long long n = 0;
	if (*text & 0x80) { /* base 256, for what does not fit */
		for (size_t i = 1; i < len; i++)
			n = n << 8 | (unsigned char)text[i];
		return n;
	}
	for (size_t i = 0; i < len && text[i]; i++)
		if (text[i] >= '0' && text[i] <= '7')
			n = n << 3 | (unsigned)(text[i] - '0');
	return n;
}

static unsigned checksum(const struct header *h)
{
	unsigned sum = 0;
	for (size_t i = 0; i < UNIT; i++) {
		size_t at = offsetof(struct header, checksum);
		sum += i >= at && i < at + 8 ? ' ' : ((const unsigned char *)h)[i];
	}
	return sum;
}

static void pad(struct out *to, unsigned long long size)
{
	static const char zeros[UNIT];
	put(to, zeros, (size_t)((UNIT - size % UNIT) % UNIT));
}

static void write_header(struct out *to, struct header *h)
{
	memcpy(h->magic, "ustar\00000", 8);
	strcpy(h->user, "root");
	strcpy(h->group, "root");
	octal(h->uid, 7, 0);
	octal(h->gid, 7, 0);
	octal(h->checksum, 6, checksum(h));
	h->checksum[7] = ' ';
	put(to, (char *)h, UNIT);
}

/* long_name announces a name that does not fit, in GNU's way. */
static void long_name(struct out *to, char type, const char *name)
{
	struct header h = { .name = "././@LongLink", .type = type };
	size_t len = strlen(name) + 1;
	octal(h.mode, 7, 0);
	octal(h.size, 11, len);
	octal(h.mtime, 11, 0);
	write_header(to, &h);
	put(to, name, len);
	pad(to, len);
}

static int add(struct out *to, const char *path)
{
	struct stat st;
	struct in file = { .fd = -1 };
	char target[PATH_LEN] = "";
	if (lstat(path, &st) != 0)
		return failed("tar", path);
	for (int i = 0; i < excluded_count; i++)
		if (strcmp(path, excluded[i]) == 0)
			return 0;
	bool dir = S_ISDIR(st.st_mode), link = S_ISLNK(st.st_mode);
	struct header h = { .type = dir ? '5' : link ? '2' : '0' };
	const char *name = path + strspn(path, "/"); /* archives hold no absolute paths */
	if (dir)
		name = path_in(*name ? name : ".", "");
	if (link) {
		ssize_t n = readlink(path, target, sizeof target - 1);
		target[n > 0 ? n : 0] = 0;
	}
	if (!dir && !link && !open_in(&file, path))
		return failed("tar", path);
	if (strlen(name) > sizeof h.name)
		long_name(to, 'L', name);
	if (strlen(target) > sizeof h.link)
		long_name(to, 'K', target);
	strncpy(h.name, name, sizeof h.name);
	strncpy(h.link, target, sizeof h.link);
	unsigned long long size = dir || link ? 0 : (unsigned long long)st.st_size, left = size;
	octal(h.mode, 7, link ? 0777 : mode_of(path, &st));
	octal(h.size, 11, size);
	octal(h.mtime, 11, (unsigned long long)(st.st_mtim.tv_sec > 0 ? st.st_mtim.tv_sec : 0));
	write_header(to, &h);
	if (verbose) {
		puts_to(err, name);
		puts_to(err, "\n");
	}
	while (left > 0 && !to->failed && fill(&file)) {
		size_t n = (size_t)(file.end - file.at);
		n = n > left ? (size_t)left : n;
		put(to, file.at, n);
		file.at += n;
		left -= n;
	}
	for (; left > 0 && !to->failed; left--) /* it has shrunk meanwhile */
		put(to, "", 1);
	pad(to, size);
	close_in(&file);
	if (!dir)
		return 0;
	void *m = mark();
	size_t n = 0;
	int code = 0;
	char **names = names_in(path, &n);
	if (names == NULL)
		return failed("tar", path);
	for (size_t i = 0; i < n && !to->failed && !interrupted; i++)
		code |= add(to, path_in(path, names[i]));
	release(m);
	return code;
}

static int create(struct out *to, int argc, char **argv, int first)
{
	static const char end[2 * UNIT];
	int code = 0;
	for (int i = first; i < argc; i++) {
		if (strcmp(argv[i], "-C") == 0 && i + 1 < argc) {
			if (chdir(argv[++i]) != 0)
				return failed("tar", argv[i]);
			continue;
		}
		size_t n = strlen(argv[i]);
		while (n > 1 && argv[i][n - 1] == '/')
			argv[i][--n] = 0;
		code |= add(to, argv[i]);
	}
	put(to, end, sizeof end);
	return flush(to) ? code : failed("tar", NULL);
}

/* get reads exactly len bytes, or fewer at the end. */
static size_t get(struct in *from, char *to, size_t len)
{
	size_t done = 0;
	while (done < len && fill(from)) {
		size_t n = (size_t)(from->end - from->at);
		n = n > len - done ? len - done : n;
		if (to)
			memcpy(to + done, from->at, n);
		from->at += n;
		done += n;
	}
	return done;
}

static char *text_of(struct in *from, unsigned long long size)
{
	if (size > 1 << 20)
		return NULL;
	char *text = take((size_t)size + 1);
	size_t n = get(from, text, (size_t)size);
	get(from, NULL, (size_t)((UNIT - size % UNIT) % UNIT));
	return n == size ? text : NULL;
}

struct names {
	char *name, *link; /* what an earlier header has announced, or NULL */
	long long size;    /* -1: the header's */
};

/* pax takes the records "LEN key=value\n" that matter here. */
static void pax(char *text, struct names *n)
{
	while (*text) {
		char *key;
		unsigned long len = strtoul(text, &key, 10);
		if (len < 3 || len > strlen(text) || *key != ' ')
			return;
		text[len - 1] = 0;
		if (strncmp(++key, "path=", 5) == 0)
			n->name = key + 5;
		else if (strncmp(key, "linkpath=", 9) == 0)
			n->link = key + 9;
		else if (strncmp(key, "size=", 5) == 0)
			n->size = atoll(key + 5);
		text += len;
	}
}

/* inside drops what would lead out of the place of extraction. */
static char *inside(char *name)
{
	for (int i = 0; i < strip; i++) {
		char *slash = strchr(name, '/');
		if (slash == NULL)
			return NULL;
		name = slash + 1;
	}
	name += strspn(name, "/");
	for (char *p = name; (p = strstr(p, "..")) != NULL; p += 2)
		if ((p == name || p[-1] == '/') && (p[2] == 0 || p[2] == '/'))
			return NULL;
	return *name ? name : NULL;
}

static void parents(char *name)
{
	char *slash = strrchr(name, '/');
	if (slash == NULL || slash == name)
		return;
	*slash = 0;
	make_dirs(name);
	*slash = '/';
}

static int extract_file(struct in *from, char *name, unsigned long long size, const struct header *h)
{
	parents(name);
	unlink(name);
	struct out to = { .fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666) };
	int code = to.fd < 0 ? failed("tar", name) : 0;
	unsigned long long left = size;
	while (left > 0 && !interrupted && fill(from)) {
		size_t n = (size_t)(from->end - from->at);
		n = n > left ? (size_t)left : n;
		if (to.fd >= 0)
			put(&to, from->at, n);
		from->at += n;
		left -= n;
	}
	get(from, NULL, (size_t)((UNIT - size % UNIT) % UNIT));
	if (to.fd < 0)
		return code;
	if (!flush(&to))
		code = failed("tar", name);
	time_t when = (time_t)from_octal(h->mtime, sizeof h->mtime);
	struct timespec times[2] = { { .tv_sec = when }, { .tv_sec = when } };
	if (keep_time)
		futimens(to.fd, times);
	close(to.fd);
	free(to.buf);
	set_mode(name, (unsigned)from_octal(h->mode, sizeof h->mode) & 0777);
	return left > 0 ? complain("tar", name, "the archive ends too early") : code;
}

static int entry(struct in *from, struct header *h, const struct names *n, bool show)
{
	unsigned long long size = n->size >= 0 ? (unsigned long long)n->size : from_octal(h->size, sizeof h->size);
	char *full = n->name, *name;
	if (full == NULL && h->prefix[0] && memcmp(h->magic, "ustar\0", 6) == 0)
		full = path_in(copy(h->prefix, strnlen(h->prefix, sizeof h->prefix)), copy(h->name, strnlen(h->name, sizeof h->name)));
	else if (full == NULL)
		full = copy(h->name, strnlen(h->name, sizeof h->name));
	name = inside(full);
	if (show || (verbose && name)) {
		puts_to(show ? out : err, show ? full : name);
		puts_to(show ? out : err, "\n");
	}
	if (h->type == '5' && name && !show) {
		size_t len = strlen(name);
		while (len > 1 && name[len - 1] == '/')
			name[--len] = 0;
		if (strcmp(name, ".") != 0 && !make_dirs(name))
			return failed("tar", name);
		if (strcmp(name, ".") != 0)
			set_mode(name, (unsigned)from_octal(h->mode, sizeof h->mode) & 0777);
		return 0;
	}
	if ((h->type == '2' || h->type == '1') && name && !show) {
		char *target = n->link ? n->link : copy(h->link, strnlen(h->link, sizeof h->link));
		parents(name);
		unlink(name);
		return (h->type == '2' ? symlink(target, name) : link(target, name)) == 0 ? 0 : failed("tar", name);
	}
	bool file = h->type == '0' || h->type == 0 || h->type == '7';
	if (file && name && !show)
		return extract_file(from, name, size, h);
	for (unsigned long long left = size + (UNIT - size % UNIT) % UNIT; left > 0;) {
		size_t got = get(from, NULL, left > 1 << 20 ? 1 << 20 : (size_t)left);
		if (got == 0)
			break;
		left -= got;
	}
	return name || show || strip ? 0 : complain("tar", full, "not extracted: the name leads out of the directory");
}

static int extract(struct in *from, bool show)
{
	struct header h;
	struct names n = { .size = -1 };
	int code = 0;
	bool any = false;
	void *m = mark();
	while (!interrupted && get(from, (char *)&h, UNIT) == UNIT) {
		if (h.name[0] == 0 && h.checksum[0] == 0)
			return code;
		any = true;
		if (from_octal(h.checksum, sizeof h.checksum) != checksum(&h))
			return complain("tar", NULL, "this does not look like a tar archive");
		unsigned long long size = from_octal(h.size, sizeof h.size);
		if (h.type == 'L' || h.type == 'K' || h.type == 'x' || h.type == 'g') {
			char *text = text_of(from, size);
			if (text == NULL)
				return complain("tar", NULL, "the archive ends too early");
			if (h.type == 'x')
				pax(text, &n);
			else if (h.type != 'g')
				*(h.type == 'L' ? &n.name : &n.link) = text;
			continue;
		}
		code |= entry(from, &h, &n, show);
		n = (struct names){ .size = -1 };
		release(m);
	}
	return any || code ? code : complain("tar", NULL, "empty archive");
}

int tar_main(int argc, char **argv)
{
	char act = 0;
	const char *file = "-", *dir = NULL;
	int i = 1, rest = 0;
	char **names = take((size_t)(argc + 1) * sizeof *names);
	verbose = false;
	keep_time = true;
	strip = excluded_count = 0;
	excluded = take((size_t)(argc + 1) * sizeof *excluded);
	for (; i < argc; i++) {
		if (strncmp(argv[i], "--strip-components=", 19) == 0) {
			strip = atoi(argv[i] + 19);
		} else if (strncmp(argv[i], "--exclude=", 10) == 0) {
			excluded[excluded_count++] = argv[i] + 10;
		} else if (strncmp(argv[i], "--", 2) == 0 && argv[i][2]) {
			continue; /* --no-same-owner and its like: there are no owners here */
		} else if (act && argv[i][0] != '-') {
			names[rest++] = argv[i];
		} else if (strcmp(argv[i], "--") != 0) {
			for (const char *p = argv[i] + (argv[i][0] == '-'); *p; p++) {
				switch (*p) {
				case 'c': case 'x': case 't': act = *p; break;
				case 'v': verbose = true; break;
				case 'm': keep_time = false; break;
				case 'p': case 'o': case 'h': break;
				case 'f': case 'C':
					if (i + 1 >= argc && !p[1])
						return complain("tar", argv[i], "option needs a value");
					const char *value = p[1] ? p + 1 : argv[++i];
					*(*p == 'f' ? &file : &dir) = value;
					p = value + strlen(value) - 1;
					break;
				case 'z': return complain("tar", NULL, "compressed archives are not spoken here");
				default: return complain("tar", argv[i], "unknown option");
				}
			}
		}
	}
	struct in from = { .fd = -1 }, *source = in;
	struct out to = { .fd = -1 }, *sink = out;
	bool plain = strcmp(file, "-") == 0;
	if (act == 0)
		return complain("tar", NULL, "one of c, x, t is needed");
	if (!plain && act == 'c') {
		to.fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
		sink = &to;
	} else if (!plain && open_in(&from, file)) {
		source = &from;
	}
	if (!plain && (act == 'c' ? to.fd : from.fd) < 0)
		return failed("tar", file);
	char cwd[PATH_LEN]; /* the shell goes on where it was */
	if (getcwd(cwd, sizeof cwd) == NULL || (dir && chdir(dir) != 0))
		return failed("tar", dir);
	int code = act == 'c' ? create(sink, rest, names, 0) : extract(source, act == 't');
	chdir(cwd);
	if (to.fd >= 0)
		close(to.fd);
	free(to.buf);
	if (source == &from)
		close_in(&from);
	return code ? 2 : 0;
}
