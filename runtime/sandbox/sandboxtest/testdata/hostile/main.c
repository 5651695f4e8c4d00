/*
 * A guest that means harm, one kind of it at a time, named by its first
 * argument. It says what it got, one line each. Built with wasi-libc by
 * "task hostile".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALL(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
struct address { uint8_t *buf; uint32_t len; };
struct vector { const void *buf; uint32_t len; };
CALL("sock_open") uint16_t sock_open(uint32_t family, uint32_t kind, int *fd);
CALL("sock_bind") uint16_t sock_bind(int fd, struct address *at, uint32_t port);
CALL("sock_listen") uint16_t sock_listen(int fd, uint32_t backlog);
CALL("sock_connect") uint16_t sock_connect(int fd, struct address *to, uint32_t port);
CALL("sock_send_to") uint16_t sock_send_to(int fd, struct vector *v, uint32_t n, struct address *to, uint32_t port, uint32_t flags, uint32_t *sent);
CALL("sock_getlocaladdr") uint16_t sock_local(int fd, struct address *at, uint32_t *port);
CALL("sock_accept") uint16_t sock_accept(int fd, uint32_t flags, int *conn);

enum { INET4 = 1, DATAGRAM = 1, STREAM = 2, MANY = 70000 };

static void say(const char *text, long n)
{
	char line[160], digits[24], *at = digits + sizeof digits;
	size_t len = strlen(text);
	unsigned long u = n < 0 ? -(unsigned long)n : (unsigned long)n;
	*--at = '\n';
	do
		*--at = (char)('0' + u % 10);
	while ((u /= 10) > 0);
	if (n < 0)
		*--at = '-';
	memcpy(line, text, len);
	memcpy(line + len, at, (size_t)(digits + sizeof digits - at));
	write(1, line, len + (size_t)(digits + sizeof digits - at));
}

static uint8_t loopback[4] = { 127, 0, 0, 1 };
static struct address self = { loopback, 4 };
static int fds[MANY];
static char page[1 << 16];

/* many calls one until it fails, and says how often it went. */
static int many(const char *what, int (*one)(int))
{
	int n = 0, why = 0;
	while (n < MANY && (why = one(n)) == 0)
		n++;
	say(what, n);
	say("  and then errno ", why);
	return n;
}

static int open_stream(int i) { return sock_open(INET4, STREAM, fds + i); }

static int open_listener(int i)
{
	int why = open_stream(i);
	if (why == 0 && (why = sock_listen(fds[i], 1)) != 0)
		close(fds[i]);
	return why;
}

static int open_packets(int i)
{
	int why = sock_open(INET4, DATAGRAM, fds + i);
	if (why == 0 && (why = sock_bind(fds[i], &self, 0)) != 0)
		close(fds[i]);
	return why;
}

static void close_all(int n)
{
	while (n-- > 0)
		close(fds[n]);
}

/* pairs connects to itself and fills every connection, which nobody reads. */
static void pairs(int count)
{
	int listener, n = 0;
	uint32_t port = 0;
	uint8_t raw[4];
	struct address at = { raw, sizeof raw };
	long held = 0;
	sock_open(INET4, STREAM, &listener);
	sock_listen(listener, 128);
	sock_local(listener, &at, &port);
	for (; n + 1 < count; n += 2) {
		if (open_stream(n) || sock_connect(fds[n], &self, port) || sock_accept(listener, 4, fds + n + 1))
			break;
		fcntl(fds[n], F_SETFL, O_NONBLOCK);
		for (int side = 0; side < 2; side++)
			for (ssize_t done; (done = write(fds[n + side], page, sizeof page)) > 0;)
				held += done;
	}
	say("pairs ", n / 2);
	say("bytes that nobody reads ", held);
}

static void datagrams(void)
{
	uint32_t port = 0, sent;
	uint8_t raw[4];
	struct address at = { raw, sizeof raw };
	struct vector v = { page, 60000 };
	int n = many("datagram sockets ", open_packets);
	for (int i = 0; i < n; i++) {
		sock_local(fds[i], &at, &port);
		for (int k = 0; k < 16; k++)
			sock_send_to(fds[n - 1], &v, 1, &self, port, 0, &sent);
	}
	say("sent to all of them ", n);
}

static const char *dir;
static char path[256];

static const char *in_dir(const char *name, int i)
{
	char digits[12], *at = digits + sizeof digits;
	*--at = 0;
	do
		*--at = (char)('0' + i % 10);
	while ((i /= 10) > 0);
	strcpy(path, dir);
	strcat(path, "/");
	strcat(path, name);
	return strcat(path, at);
}

static int open_file(int i)
{
	fds[i] = open(in_dir("f", 0), O_RDWR | O_CREAT, 0644);
	return fds[i] < 0 ? errno : 0;
}

static int make_file(int i)
{
	int fd = open(in_dir("i", i), O_WRONLY | O_CREAT, 0644);
	return fd < 0 ? errno : close(fd);
}

static int make_dir(int i) { return mkdir(in_dir("d", i), 0755) ? errno : 0; }
static int make_link(int i) { return symlink("x", in_dir("l", i)) ? errno : 0; }

static int fill_disk(int i)
{
	if (i == 0)
		fds[0] = open(in_dir("big", 0), O_WRONLY | O_CREAT, 0644);
	if (i % 7 == 3) { /* what is removed while it is open must not be free */
		unlink(in_dir("big", 0));
		fds[i] = open(in_dir("big", 0), O_WRONLY | O_CREAT, 0644);
	} else if (i > 0) {
		fds[i] = fds[i - 1];
	}
	return write(fds[i], page, sizeof page) == sizeof page ? 0 : errno ? errno : -1;
}

/* reach reports a file outside that it can open in any way. */
static void reach(const char *name)
{
	static const int ways[] = { O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDONLY | O_DIRECTORY };
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int fd = open(name, ways[i], 0644);
		if (fd >= 0) {
			write(1, "REACHED ", 8);
			write(1, name, strlen(name));
			say(" by way ", (long)i);
			close(fd);
		}
	}
}

static void escape(void)
{
	static const char *const names[] = { "..", "../secret", "d/../../secret", "./d/./../../secret", "out", "out/secret", "abs",
		"moved/../secret", "moved/secret", "deep/secret", "fifo", "socket", "hard" };
	chdir(dir);
	mkdir("d", 0755);
	mkdir("d/e", 0755);
	symlink("../..", "d/e/up"); /* harmless where it is made, ... */
	rename("d/e/up", "moved");  /* ... not where it ends */
	symlink("..", "out");
	symlink("/", "abs");
	symlink("d/../..", "deep");
	link("moved/secret", "hard");
	link("../secret", "hard");
	rename("../secret", "stolen");
	rename("d", "../d");
	unlink("../secret");
	rmdir("../outside");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		strcpy(path, dir);
		strcat(path, "/");
		reach(strcat(path, names[i]));
	}
	reach("/../secret");
	reach("/etc/passwd");
	reach("/dev/null");
	reach("/dev/mem");
	reach("/proc/self/mem");
	say("tried ", sizeof names / sizeof *names);
}

/* swap puts a directory and a link out of the volume in each other's place. */
static void swap(void)
{
	chdir(dir);
	mkdir("real", 0755);
	mkdir("real/x", 0755);
	symlink("../..", "real/x/up");
	rename("real/x/up", "link"); /* now it leads out */
	for (;;) {
		rename("real", "hidden");
		rename("link", "real");
		rename("real", "link");
		rename("hidden", "real");
	}
}

static void look(int times)
{
	for (int i = 0; i < times; i++) {
		in_dir("real/secret", 0);
		path[strlen(path) - 1] = 0;
		int fd = open(path, O_RDONLY);
		if (fd >= 0) {
			say("REACHED ", i);
			close(fd);
		}
		fd = open(strcat(path, "s"), O_WRONLY | O_CREAT, 0644); /* made inside, or not at all */
		if (fd >= 0)
			close(fd);
	}
	say("looked ", times);
}

/* The needle is in no module: it is put together here. */
static void needle(volatile unsigned char *to, size_t times)
{
	for (size_t k = 0; k < times; k++)
		for (int i = 0; i < 32; i++)
			to[k * 32 + (size_t)i] = (unsigned char)(i * 37 + 11) ^ 0xa5;
}

static void plant(void)
{
	enum { SIZE = 4 << 20 };
	needle((unsigned char *)page, sizeof page / 32);
	unsigned char *heap = malloc(SIZE);
	needle(heap, SIZE / 32);
	say("planted ", heap[SIZE - 1] != 0);
}

static void scan(void)
{
	long found = 0;
	unsigned char want[32];
	char *volatile heap = malloc(4 << 20);
	(void)heap;
	needle(want, 1);
	const unsigned char *end = (const unsigned char *)(__builtin_wasm_memory_size(0) << 16);
	for (const unsigned char *at = (const unsigned char *)1024; at + 32 <= end; at++)
		found += at != want && memcmp(at, want, 32) == 0;
	say("found ", found);
	say("of pages ", (long)__builtin_wasm_memory_size(0));
}

/* deeper keeps nothing in memory: what grows is the host's stack. */
__attribute__((noinline)) static unsigned deeper(unsigned n)
{
	return n == ~0u ? 1 : deeper(n + 1) * 3 + n;
}

static void grow(void)
{
	long n = 0;
	for (;;) {
		size_t old = __builtin_wasm_memory_grow(0, 1);
		if (old == (size_t)-1)
			break;
		memset((void *)(old << 16), 7, 1 << 16);
		n++;
	}
	say("grew by pages ", n);
}

static void flood(void)
{
	memset(page, 'x', sizeof page);
	for (unsigned i = 0;; i++) {
		page[i % 4096] = '\n';
		write(1 + i % 2, page, i % 3 ? sizeof page : 1);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	dir = argc > 2 ? argv[2] : "/data";
	int n = argc > 2 ? atoi(argv[2]) : 0;
	if (strcmp(what, "spin") == 0)
		for (volatile unsigned i = 0;; i++)
			;
	else if (strcmp(what, "recurse") == 0)
		say("came back with ", (long)deeper((unsigned)argc));
	else if (strcmp(what, "trap") == 0)
		__builtin_trap();
	else if (strcmp(what, "grow") == 0)
		grow();
	else if (strcmp(what, "die") == 0)
		grow(), abort();
	else if (strcmp(what, "listen") == 0)
		for (int i = 0; i < 3; i++)
			close_all(many("listeners ", open_listener));
	else if (strcmp(what, "sockets") == 0)
		close_all(many("sockets ", open_stream));
	else if (strcmp(what, "pairs") == 0)
		pairs(n);
	else if (strcmp(what, "datagrams") == 0)
		datagrams();
	else if (strcmp(what, "files") == 0)
		close_all(many("files ", open_file));
	else if (strcmp(what, "inodes") == 0)
		many("files ", make_file), many("directories ", make_dir), many("links ", make_link);
	else if (strcmp(what, "disk") == 0)
		many("times 64 KiB ", fill_disk);
	else if (strcmp(what, "escape") == 0)
		escape();
	else if (strcmp(what, "swap") == 0)
		swap();
	else if (strcmp(what, "look") == 0)
		look(2000);
	else if (strcmp(what, "plant") == 0)
		plant();
	else if (strcmp(what, "scan") == 0)
		scan();
	else if (strcmp(what, "flood") == 0)
		flood();
	else
		return 2;
	return 0;
}
