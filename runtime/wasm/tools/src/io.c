/* Buffered input and output of the tools. */
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PIPE = 64 << 20 }; /* what a pipe of the shell may hold */

/* take_controls stops at what a terminal sends beside text: ^C calls off the
 * command, ^D ends its input once. What comes after is for the next command. */
static void take_controls(struct in *i)
{
	for (const char *p = i->at; p < i->end; p++) {
		if (*p != CTRL_C && *p != CTRL_D)
			continue;
		if (*p == CTRL_C) { /* what was typed before is called off too */
			interrupted = true;
			i->at = p;
		}
		i->over = true;
		i->later = p + 1;
		i->later_end = i->end;
		i->end = p;
	}
}

void resume(struct in *i)
{
	i->over = false;
	if (i->later == NULL)
		return;
	i->at = i->later;
	i->end = i->later_end;
	i->later = NULL;
	take_controls(i);
}

bool fill(struct in *i)
{
	if (i->at < i->end)
		return true;
	if (i->over || i->fd < 0)
		return false;
	if (i->buf == NULL)
		i->buf = malloc(BLOCK);
	if (tty) /* what was asked is seen before the answer is awaited */
		flush(out);
	ssize_t n;
	do
		n = read(i->fd, i->buf, BLOCK);
	while (n < 0 && errno == EINTR);
	i->at = i->end = i->buf;
	if (n <= 0) {
		i->over = true;
		return false;
	}
	i->end += n;
	if (tty && i->fd == 0)
		take_controls(i);
	return i->at < i->end;
}

int next(struct in *i)
{
	return fill(i) ? (unsigned char)*i->at++ : -1;
}

bool line(struct in *i, char **text, size_t *len)
{
	static char *kept;
	static size_t cap;
	size_t used = 0;
	bool some = false;
	while (fill(i)) {
		some = true;
		const char *nl = memchr(i->at, '\n', (size_t)(i->end - i->at));
		size_t n = (size_t)((nl ? nl : i->end) - i->at);
		if (used + n + 1 > cap) {
			cap = (used + n + 1) * 2;
			kept = realloc(kept, cap);
			if (kept == NULL)
				abort();
		}
		memcpy(kept + used, i->at, n);
		used += n;
		i->at += n + (nl != NULL);
		if (nl)
			break;
	}
	if (!some)
		return false;
	kept[used] = 0;
	*text = kept;
	*len = used;
	return true;
}

static bool write_all(struct out *o)
{
	size_t done = 0;
	while (done < o->len && !o->failed) {
		ssize_t n = write(o->fd, o->buf + done, o->len - done);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			o->failed = true;
			o->why = errno;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	o->len = 0;
	return !o->failed;
}

bool flush(struct out *o)
{
	return o->fd < 0 ? !o->failed : write_all(o);
}

void put(struct out *o, const char *text, size_t len)
{
	if (o->failed || len == 0)
		return;
	if (o->fd >= 0 && o->len + len > BLOCK)
		flush(o);
	size_t want = o->len + len;
	if (o->fd < 0 && want > MAX_PIPE) {
		o->failed = true;
		return;
	}
	if (want > o->cap) {
		o->cap = want < BLOCK ? BLOCK : want * 2;
		o->buf = realloc(o->buf, o->cap);
		if (o->buf == NULL)
			abort();
	}
	memcpy(o->buf + o->len, text, len);
	o->len = want;
	if (o->fd == 2 && !o->held)
		flush(o);
}

void puts_to(struct out *o, const char *text) { put(o, text, strlen(text)); }
void say(const char *text) { puts_to(out, text); }
void sayc(char c) { put(out, &c, 1); }

void number(struct out *o, long long n, int width)
{
	char text[32], *at = text + sizeof text;
	unsigned long long u = n < 0 ? 0ULL - (unsigned long long)n : (unsigned long long)n;
	do
		*--at = (char)('0' + u % 10);
	while ((u /= 10) > 0);
	if (n < 0)
		*--at = '-';
	int len = (int)(text + sizeof text - at);
	for (int pad = width - len; pad > 0; pad--)
		put(o, " ", 1);
	put(o, at, (size_t)len);
}

int complain(const char *who, const char *what, const char *why)
{
	flush(out);
	err->held = true; /* others write there too: a message is one write */
	puts_to(err, who);
	puts_to(err, ": ");
	if (what) {
		puts_to(err, what);
		puts_to(err, ": ");
	}
	puts_to(err, why);
	puts_to(err, "\n");
	err->held = false;
	if (err->fd == 2)
		flush(err);
	return 1;
}

int failed(const char *who, const char *what) { return complain(who, what, strerror(errno)); }

bool stopped(void) { return out->failed || interrupted; }

bool open_in(struct in *i, const char *path)
{
	*i = (struct in){ .fd = open(path, O_RDONLY) };
	struct stat st;
	if (i->fd >= 0 && fstat(i->fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		close(i->fd);
		i->fd = -1;
		errno = EISDIR;
	}
	return i->fd >= 0;
}

void close_in(struct in *i)
{
	if (i->fd > 2)
		close(i->fd);
	free(i->buf);
	*i = (struct in){ .fd = -1, .over = true };
}

/* read_ahead takes what is typed while a command does not read. */
static void read_ahead(struct in *i)
{
	if (i->buf == NULL)
		i->buf = malloc(BLOCK);
	size_t n = (size_t)(i->end - i->at);
	memmove(i->buf, i->at, n);
	ssize_t got = read(i->fd, i->buf + n, BLOCK - n);
	i->at = i->buf;
	i->end = i->buf + n + (got > 0 ? got : 0);
	i->over |= got <= 0;
	take_controls(i);
}

/* pause_for waits for a descriptor (negative: none) and for the terminal, so
 * that ^C can call the wait off. */
bool pause_for(long long milliseconds, int fd, bool writing)
{
	struct pollfd p[2] = { { .fd = fd, .events = writing ? POLLOUT : POLLIN }, { .fd = 0, .events = POLLIN } };
	struct pollfd *from = fd < 0 ? p + 1 : p;
	nfds_t count = (nfds_t)((fd >= 0) + (tty && in->fd == 0 && !in->over && in->end - in->at < BLOCK));
	flush(out);
	if (count == 0) {
		poll(p, 0, (int)milliseconds);
		return false;
	}
	p[0].revents = p[1].revents = 0;
	if (poll(from, count, (int)milliseconds) <= 0)
		return false;
	if (p[1].revents)
		read_ahead(in);
	return !interrupted && (fd < 0 || p[0].revents);
}
