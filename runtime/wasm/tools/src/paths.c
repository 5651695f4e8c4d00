/* Paths, directories and modes. */
#include "tools.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/libc-find-relpath.h>

/* WASI knows no modes. These two calls are Wherry's own: the mode bits of a
 * file that is named relative to a directory's descriptor. */
__attribute__((import_module("wasi_snapshot_preview1"), import_name("wherry_path_mode_get")))
uint16_t path_mode_get(int fd, const char *path, size_t len, uint32_t *mode);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("wherry_path_mode_set")))
uint16_t path_mode_set(int fd, const char *path, size_t len, uint32_t mode);

char *path_in(const char *dir, const char *name)
{
	size_t n = strlen(dir);
	return join(dir, n > 0 && dir[n - 1] == '/' ? "" : "/", name);
}

const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* locate finds the directory's descriptor and the path below it. */
static int locate(const char *path, char *rel, size_t len)
{
	char cwd[PATH_LEN];
	const char *prefix;
	if (path[0] != '/') {
		if (getcwd(cwd, sizeof cwd) == NULL)
			return -1;
		path = path_in(cwd, path);
	}
	return __wasilibc_find_relpath(path, &prefix, &rel, len);
}

unsigned mode_of(const char *path, const struct stat *st)
{
	char rel[PATH_LEN];
	uint32_t mode = S_ISDIR(st->st_mode) ? 0755 : 0644;
	void *m = mark();
	char *at = rel;
	int fd = locate(path, at, sizeof rel);
	if (fd >= 0)
		path_mode_get(fd, rel, strlen(rel), &mode);
	release(m);
	return mode & 07777;
}

void set_mode(const char *path, unsigned mode)
{
	char rel[PATH_LEN];
	void *m = mark();
	int fd = locate(path, rel, sizeof rel);
	if (fd >= 0)
		path_mode_set(fd, rel, strlen(rel), mode);
	release(m);
}

bool make_dirs(char *path)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		bool ok = mkdir(path, 0777) == 0 || errno == EEXIST || errno == EROFS || errno == EPERM;
		*p = '/';
		if (!ok)
			return false;
	}
	struct stat st;
	return mkdir(path, 0777) == 0 || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

char **names_in(const char *dir, size_t *count)
{
	DIR *d = opendir(dir);
	if (d == NULL)
		return NULL;
	size_t n = 0, cap = 0;
	char **names = take(sizeof *names), **grown;
	struct dirent *e;
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 32;
			grown = take((cap + 1) * sizeof *names);
			memcpy(grown, names, n * sizeof *names);
			names = grown;
		}
		names[n++] = copy(e->d_name, strlen(e->d_name));
	}
	closedir(d);
	qsort(names, n, sizeof *names, by_name);
	*count = n;
	return names;
}

int options(int argc, char **argv, const char *flags, struct opts *o)
{
	memset(o, 0, sizeof *o);
	int i = 1;
	for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
		if (strcmp(argv[i], "--") == 0)
			return i + 1;
		for (const char *p = argv[i] + 1; *p; p++) {
			const char *f = *p == ':' || *p < 0 ? NULL : strchr(flags, *p);
			if (f == NULL)
				return complain(argv[0], argv[i], "unknown option"), -1;
			o->set[(int)*p] = 1;
			if (f[1] != ':')
				continue;
			o->value[(int)*p] = p[1] ? p + 1 : i + 1 < argc ? argv[++i] : NULL;
			if (o->value[(int)*p] == NULL)
				return complain(argv[0], argv[i], "option needs a value"), -1;
			break;
		}
	}
	return i;
}
