/*
 * An HTTP server for Wherry in C: it answers with the name of its pod and a
 * counter. Built with wasi-libc:
 *
 *   clang --target=wasm32-wasi -Oz -Wall -Wl,--strip-all -o hello.wasm main.c
 *
 * Descriptor 3 is the listening socket of the container's port. One thread
 * serves all connections: it polls them and keeps what it has read of each.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTENER = 3, MAX_CONNS = 64, MAX_REQUEST = 4096 };

struct conn {
	int fd;
	size_t used;
	char request[MAX_REQUEST + 1];
};

static struct conn *conns[MAX_CONNS];
static int count;
static unsigned long requests;
static const char *pod;

static void drop(int i)
{
	close(conns[i]->fd);
	free(conns[i]);
	conns[i] = conns[--count];
}

/* write_all waits for a slow client; an answer fits into any socket buffer. */
static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd wait = { .fd = fd, .events = POLLOUT };
			if (poll(&wait, 1, -1) < 0)
				return -1;
			continue;
		}
		if (n <= 0)
			return -1;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* text copies a string and returns where it ended: printf would be most of
 * the module. */
static char *text(char *to, const char *from)
{
	size_t size = strlen(from);
	memcpy(to, from, size);
	return to + size;
}

/* decimal writes n into the end of number and returns where it begins. */
static const char *decimal(char number[24], unsigned long n)
{
	char *at = number + 23;
	*at = 0;
	do
		*--at = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return at;
}

/* answer serves one request that ends at end; it returns -1 when the
 * connection is over. Requests with a body are not for this server. */
static int answer(struct conn *c, char *end)
{
	char body[256], reply[512], number[24];
	int keep = strstr(c->request, "HTTP/1.0") == NULL &&
	           strstr(c->request, "onnection: close") == NULL;
	char *to = text(body, "Hello from ");
	to = text(to, pod);
	to = text(to, ", request ");
	to = text(to, decimal(number, ++requests));
	to = text(to, "\n");
	size_t size = (size_t)(to - body);
	to = text(reply, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ");
	to = text(to, decimal(number, size));
	to = text(to, keep ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
	memcpy(to, body, size);
	to += size;
	if (write_all(c->fd, reply, (size_t)(to - reply)) < 0 || !keep)
		return -1;
	c->used -= (size_t)(end - c->request);
	memmove(c->request, end, c->used);
	c->request[c->used] = 0;
	return 0;
}

/* receive reads what is there; it returns -1 when the connection is over. */
static int receive(struct conn *c)
{
	ssize_t n = read(c->fd, c->request + c->used, MAX_REQUEST - c->used);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	if (n == 0)
		return -1;
	c->used += (size_t)n;
	c->request[c->used] = 0;
	for (;;) {
		char *end = strstr(c->request, "\r\n\r\n");
		if (end == NULL)
			return c->used == MAX_REQUEST ? -1 : 0;
		*end = 0;
		if (answer(c, end + 4) < 0)
			return -1;
	}
}

/* welcome takes one waiting connection; it returns -1 when the listener is
 * over, which is how a pod is told to end. */
static int welcome(void)
{
	int fd = accept(LISTENER, NULL, NULL);
	if (fd < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	struct conn *c = calloc(1, sizeof *c);
	if (c == NULL) {
		close(fd);
		return 0;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	c->fd = fd;
	conns[count++] = c;
	return 0;
}

int main(void)
{
	pod = getenv("POD_NAME");
	if (pod == NULL || strlen(pod) > 200)
		pod = "nobody";
	struct stat is; /* without ports the first descriptor is a directory */
	if (fstat(LISTENER, &is) < 0 || !S_ISSOCK(is.st_mode)) {
		static const char why[] = "no listening socket at descriptor 3: the container needs a TCP port under ports:\n";
		write_all(STDERR_FILENO, why, sizeof why - 1);
		return 1;
	}
	fcntl(LISTENER, F_SETFL, O_NONBLOCK);
	int open = 1;
	while (open || count > 0) {
		struct pollfd fds[MAX_CONNS + 1];
		int polled = count;
		for (int i = 0; i < polled; i++)
			fds[i] = (struct pollfd){ .fd = conns[i]->fd, .events = POLLIN };
		int listen = open && count < MAX_CONNS;
		if (listen)
			fds[polled] = (struct pollfd){ .fd = LISTENER, .events = POLLIN };
		if (poll(fds, (nfds_t)(polled + listen), -1) < 0) {
			if (errno == EINTR)
				continue;
			return 1;
		}
		if (listen && fds[polled].revents && welcome() < 0)
			open = 0;
		/* From the last to the first: drop moves the last one down. */
		for (int i = polled - 1; i >= 0; i--)
			if (fds[i].revents && receive(conns[i]) < 0)
				drop(i);
	}
	return 0;
}
