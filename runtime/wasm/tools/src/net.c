/* Commands that use the network, over the WasmEdge socket extension. */
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CALL(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))
struct address { uint8_t *buf; uint32_t len; };
struct sockaddr_wire { uint32_t family, len; uint8_t *data; };
struct info {
	uint16_t flags;
	uint8_t family, kind;
	uint32_t protocol, addrlen;
	struct sockaddr_wire *addr;
	char *canonical;
	uint32_t canonical_len;
	struct info *next;
};
CALL("sock_open") uint16_t sock_open(uint32_t family, uint32_t kind, int *fd);
CALL("sock_connect") uint16_t sock_connect(int fd, struct address *to, uint32_t port);
CALL("sock_getaddrinfo") uint16_t sock_addrinfo(const char *name, uint32_t name_len, const char *service, uint32_t service_len,
	struct info *hints, struct info **results, uint32_t max, uint32_t *count);

enum { INET4 = 1, STREAM = 2, MAX_ADDRESSES = 8 };

/* look finds the IPv4 addresses of a name; their number, or -1 with errno. */
static int look(const char *name, uint8_t found[MAX_ADDRESSES][4])
{
	static struct info list[MAX_ADDRESSES];
	static struct sockaddr_wire addrs[MAX_ADDRESSES];
	static uint8_t data[MAX_ADDRESSES][32];
	struct info hints = { .family = INET4, .kind = STREAM }, *results = list;
	uint32_t count = 0;
	for (int i = 0; i < MAX_ADDRESSES; i++) {
		addrs[i] = (struct sockaddr_wire){ .len = sizeof data[i], .data = data[i] };
		list[i] = (struct info){ .addr = addrs + i, .next = i + 1 < MAX_ADDRESSES ? list + i + 1 : NULL };
	}
	errno = sock_addrinfo(name, (uint32_t)strlen(name), "80", 2, &hints, &results, MAX_ADDRESSES, &count);
	if (errno)
		return -1;
	for (uint32_t i = 0; i < count; i++)
		memcpy(found[i], data[i] + 2, 4);
	return (int)count;
}

static void say_ip(const uint8_t ip[4])
{
	for (int i = 0; i < 4; i++) {
		if (i)
			sayc('.');
		number(out, ip[i], 0);
	}
}

int nslookup_main(int argc, char **argv)
{
	uint8_t found[MAX_ADDRESSES][4];
	if (argc < 2)
		return complain("nslookup", NULL, "no name given");
	int n = look(argv[1], found);
	if (n <= 0)
		return complain("nslookup", argv[1], "can't resolve");
	say("Name:\t");
	say(argv[1]);
	for (int i = 0; i < n; i++) {
		say("\nAddress: ");
		say_ip(found[i]);
	}
	sayc('\n');
	return 0;
}

struct url {
	char *host, *path;
	int port;
};

static bool parse(const char *text, struct url *u)
{
	if (strncmp(text, "http://", 7) == 0)
		text += 7;
	else if (strstr(text, "://"))
		return false;
	size_t n = strcspn(text, "/?#");
	u->host = copy(text, n);
	u->path = text[n] == '/' ? copy(text + n, strcspn(text + n, "#")) : join("/", copy(text + n, strcspn(text + n, "#")), "");
	u->port = 80;
	char *colon = strrchr(u->host, ':');
	if (colon) {
		*colon = 0;
		u->port = atoi(colon + 1);
	}
	return *u->host && u->port > 0 && u->port < 65536;
}

static int dial(const struct url *u)
{
	uint8_t found[MAX_ADDRESSES][4];
	int n = look(u->host, found), fd;
	if (n <= 0)
		return errno = errno ? errno : ENOENT, -1;
	for (int i = 0; i < n; i++) {
		struct address to = { .buf = found[i], .len = 4 };
		if ((errno = sock_open(INET4, STREAM, &fd)))
			return -1;
		if ((errno = sock_connect(fd, &to, (uint32_t)u->port)) == 0)
			return fd;
		close(fd);
	}
	return -1;
}

static long long until; /* when wget gives up; seconds of the monotonic clock */

static long long seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* more is fill for a socket, with the time limit and ^C. */
static bool more(struct in *i)
{
	if (i->at < i->end)
		return true;
	long long left = (until - seconds()) * 1000;
	if (i->over || left <= 0 || !pause_for(left, i->fd, false))
		return false;
	return fill(i);
}

static char *head_line(struct in *i)
{
	struct out text = { .fd = -1 };
	while (more(i)) {
		char c = *i->at++;
		if (c == '\n')
			break;
		if (c != '\r')
			put(&text, &c, 1);
	}
	char *kept = copy(text.buf ? text.buf : "", text.len);
	free(text.buf);
	return kept;
}

/* body copies what the headers announce; false: it broke off. */
static bool body(struct in *i, struct out *to, long long length, bool chunked)
{
	for (;;) {
		if (chunked) {
			length = strtoll(head_line(i), NULL, 16);
			if (length == 0)
				return true;
		}
		while (length != 0 && !interrupted && !to->failed && more(i)) {
			long long n = i->end - i->at;
			if (length > 0 && n > length)
				n = length;
			put(to, i->at, (size_t)n);
			i->at += n;
			length -= length > 0 ? n : 0;
			if (to->fd == 1)
				flush(to);
		}
		if (!chunked)
			return length <= 0 && !interrupted && (length == 0 || i->over);
		if (length > 0)
			return false;
		head_line(i);
	}
}

static int save(const char *who, const struct opts *o, const struct url *u, struct in *i, long long length, bool chunked)
{
	const char *name = o->value['O'];
	struct out file = { .fd = -1 };
	if (name && strcmp(name, "-") == 0)
		return body(i, out, length, chunked) ? 0 : complain(who, u->host, "the answer broke off");
	if (name == NULL) {
		char *path = copy(u->path, strcspn(u->path, "?"));
		name = *base(path) ? base(path) : "index.html";
	}
	file.fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (file.fd < 0)
		return failed(who, name);
	bool ok = body(i, &file, length, chunked), kept = flush(&file);
	close(file.fd);
	free(file.buf);
	if (!kept)
		return failed(who, name);
	if (!o->set['q'])
		complain(who, name, "saved");
	return ok ? 0 : complain(who, u->host, "the answer broke off");
}

static int fetch(const char *who, const char *text, const struct opts *o, int redirects)
{
	struct url u;
	if (!parse(text, &u))
		return complain(who, text, "not an address: only http:// is spoken here");
	int fd = dial(&u);
	if (fd < 0)
		return complain(who, join("can't connect to ", u.host, ""), strerror(errno));
	struct out ask = { .fd = fd };
	puts_to(&ask, o->set['P'] ? "POST " : "GET ");
	puts_to(&ask, u.path);
	puts_to(&ask, " HTTP/1.1\r\nHost: ");
	puts_to(&ask, u.host);
	if (u.port != 80) {
		puts_to(&ask, ":");
		number(&ask, u.port, 0);
	}
	puts_to(&ask, "\r\nUser-Agent: Wget\r\nConnection: close\r\n");
	if (o->value['H']) {
		puts_to(&ask, o->value['H']);
		puts_to(&ask, "\r\n");
	}
	if (o->set['P']) {
		puts_to(&ask, "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ");
		number(&ask, (long long)strlen(o->value['P']), 0);
		puts_to(&ask, "\r\n");
	}
	puts_to(&ask, "\r\n");
	if (o->set['P'])
		puts_to(&ask, o->value['P']);
	flush(&ask);
	struct in i = { .fd = fd };
	char *status = head_line(&i), *field, *location = NULL;
	long long length = -1;
	bool chunked = false;
	while (*(field = head_line(&i))) {
		if (o->set['S'])
			complain(who, NULL, field);
		if (strncasecmp(field, "content-length:", 15) == 0)
			length = atoll(field + 15);
		else if (strncasecmp(field, "transfer-encoding:", 18) == 0)
			chunked = strstr(field, "chunked") != NULL;
		else if (strncasecmp(field, "location:", 9) == 0)
			location = field + 9 + strspn(field + 9, " ");
	}
	const char *space = strchr(status, ' ');
	int number_of = space ? atoi(space + 1) : 0, code;
	if (number_of == 0)
		code = complain(who, u.host, "no answer");
	else if (number_of / 100 == 3 && location && redirects > 0)
		code = fetch(who, *location == '/' ? join(join("http://", copy(text + (strncmp(text, "http://", 7) ? 0 : 7),
			strcspn(text + (strncmp(text, "http://", 7) ? 0 : 7), "/")), ""), location, "") : location, o, redirects - 1);
	else if (number_of / 100 != 2)
		code = complain(who, "server returned error", status);
	else
		code = o->set['s'] ? 0 : save(who, o, &u, &i, length, chunked);
	close_in(&i);
	free(ask.buf);
	return code;
}

int wget_main(int argc, char **argv)
{
	struct opts o;
	for (int i = 1; i < argc; i++) { /* the long forms that scripts use */
		static const char *const longs[][2] = { { "--spider", "-s" }, { "--quiet", "-q" }, { "--post-data=", "-P" }, { "--header=", "-H" },
			{ "--timeout=", "-T" }, { "--output-document=", "-O" }, { "--no-check-certificate", "-q" } };
		for (size_t k = 0; k < sizeof longs / sizeof *longs; k++) {
			size_t n = strlen(longs[k][0]);
			if (strncmp(argv[i], longs[k][0], n) == 0) {
				argv[i] = join(longs[k][1], argv[i] + n, "");
				break;
			}
			if (longs[k][0][n - 1] == '=' && strlen(argv[i]) == n - 1 && strncmp(argv[i], longs[k][0], n - 1) == 0)
				argv[i] = (char *)longs[k][1];
		}
	}
	int first = options(argc, argv, "qSO:T:t:U:sP:H:", &o);
	if (first < 0 || first >= argc)
		return first < 0 ? 1 : complain("wget", NULL, "no address given");
	until = seconds() + (o.value['T'] ? atoll(o.value['T']) : 900);
	return fetch("wget", argv[first], &o, 5);
}
