/* A guest that connects out, with the sockets of the WasmEdge extension. Each
 * argument is one attempt: "address:port" or "name:port". It sends "ping" and
 * prints what comes back, or the number of the error. "listen:port" first opens
 * a port of its own, which the next attempt reaches and which is answered here. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMPORT(n) __attribute__((import_module("wasi_snapshot_preview1"), import_name(n)))

struct addr { uint8_t *buf; uint32_t len; };
struct info_addr { uint8_t family; uint32_t len; uint8_t *data; };
struct info {
	uint16_t flags;
	uint8_t family, kind;
	uint32_t protocol, addrlen;
	struct info_addr *addr;
	char *name;
	uint32_t namelen;
	struct info *next;
};

IMPORT("sock_open") int sock_open(int family, int kind, uint32_t *fd);
IMPORT("sock_bind") int sock_bind(uint32_t fd, struct addr *a, uint32_t port);
IMPORT("sock_listen") int sock_listen(uint32_t fd, uint32_t backlog);
IMPORT("sock_connect") int sock_connect(uint32_t fd, struct addr *a, uint32_t port);
IMPORT("sock_getaddrinfo") int sock_getaddrinfo(const char *node, uint32_t nlen, const char *service,
	uint32_t slen, struct info *hints, struct info **res, uint32_t max, uint32_t *count);
#ifdef FIRST
IMPORT("sock_accept") int sock_accept(uint32_t fd, uint32_t *conn);
IMPORT("sock_getpeeraddr") int sock_getpeeraddr(uint32_t fd, struct addr *a, uint32_t *type, uint32_t *port);
#else
IMPORT("sock_accept") int sock_accept(uint32_t fd, uint32_t flags, uint32_t *conn);
IMPORT("sock_getpeeraddr") int sock_getpeeraddr(uint32_t fd, struct addr *a, uint32_t *port);
#endif

static int lookup(const char *name, uint8_t ip[4])
{
	uint8_t data[26] = { 0 };
	struct info_addr a = { .data = data };
	struct info result = { .addr = &a }, hints = { .family = 1, .kind = 2 }, *head = &result;
	uint32_t count = 0;
	int err = sock_getaddrinfo(name, strlen(name), "80", 2, &hints, &head, 1, &count);
	if (err == 0 && count != 1)
		return 999;
	memcpy(ip, data + 2, 4);
	return err;
}

static int peer_port(uint32_t fd, uint32_t *port)
{
#ifdef FIRST
	uint8_t raw[4];
	uint32_t type;
	struct addr a = { raw, sizeof raw };
	return sock_getpeeraddr(fd, &a, &type, port);
#else
	uint8_t raw[128];
	struct addr a = { raw, sizeof raw };
	return sock_getpeeraddr(fd, &a, port);
#endif
}

static int attempt(char *target, uint32_t own)
{
	char *colon = strrchr(target, ':'), reply[64];
	uint32_t port = atoi(colon + 1), fd, conn, peer = 0;
	uint8_t wide[128] = { 1, 0 }, ip[4];
	int err;
	*colon = 0;
	if (sscanf(target, "%hhu.%hhu.%hhu.%hhu", &ip[0], &ip[1], &ip[2], &ip[3]) != 4 && (err = lookup(target, ip)))
		return err;
#ifdef FIRST
	struct addr a = { ip, 4 };
#else
	memcpy(wide + 2, ip, 4);
	struct addr a = { wide, sizeof wide };
#endif
	(void)wide;
	if ((err = sock_open(1, 2, &fd)) || (err = sock_connect(fd, &a, port)) || (err = peer_port(fd, &peer)))
		return err;
	if (peer != port || write(fd, "ping", 4) != 4)
		return 998;
	if (own) {
#ifdef FIRST
		err = sock_accept(own, &conn);
#else
		err = sock_accept(own, 0, &conn);
#endif
		if (err)
			return err;
		if (read(conn, reply, 4) != 4 || write(conn, "self", 4) != 4)
			return 997;
		close(conn);
	}
	size_t n = 0;
	for (ssize_t more; n < 4 && (more = read(fd, reply + n, 4 - n)) > 0;)
		n += more;
	reply[n] = 0;
	printf("%s\n", reply);
	return close(fd);
}

int main(int argc, char **argv)
{
	uint32_t own = 0;
	for (int i = 1; i < argc; i++) {
		int err;
		if (!strncmp(argv[i], "listen:", 7)) {
			uint8_t any[4] = { 0 };
			struct addr a = { any, 4 };
			err = sock_open(1, 2, &own) || sock_bind(own, &a, atoi(argv[i] + 7)) || sock_listen(own, 8);
		} else {
			err = attempt(argv[i], own);
			own = 0;
		}
		if (err)
			printf("error %d\n", err);
	}
	return 0;
}
