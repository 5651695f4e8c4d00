/*
 * An HTTP server that counts its requests in a file on a volume, so that the
 * count outlives the pod:
 *
 *   clang --target=wasm32-wasi -Oz -Wall -Wl,--strip-all -o counter.wasm samples/counter/main.c
 *
 * Descriptor 3 is the listening socket of the container's port. It serves one
 * connection at a time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const path = "/data/count", *const next = "/data/count.new";

static long load(void)
{
	long count = 0;
	FILE *f = fopen(path, "r");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%ld", &count) != 1)
		count = 0;
	fclose(f);
	return count;
}

/* save replaces the file as a whole: a count is never half written. */
static int save(long count)
{
	FILE *f = fopen(next, "w");
	if (f == NULL)
		return -1;
	int written = fprintf(f, "%ld\n", count) > 0;
	if (fclose(f) != 0 || !written)
		return -1;
	return rename(next, path);
}

static void answer(int fd)
{
	char request[4096], body[64], reply[256];
	size_t used = 0;
	while (used < sizeof request - 1) {
		ssize_t n = read(fd, request + used, sizeof request - 1 - used);
		if (n <= 0)
			return;
		request[used += (size_t)n] = 0;
		if (strstr(request, "\r\n\r\n") != NULL)
			break;
	}
	long count = load() + 1;
	const char *status = "200 OK";
	if (save(count) != 0) {
		status = "507 Insufficient Storage";
		snprintf(body, sizeof body, "cannot write %s\n", path);
	} else {
		snprintf(body, sizeof body, "request %ld\n", count);
	}
	int size = snprintf(reply, sizeof reply, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
			    status, strlen(body), body);
	for (int at = 0; at < size;) {
		ssize_t n = write(fd, reply + at, (size_t)(size - at));
		if (n <= 0)
			return;
		at += (int)n;
	}
}

int main(void)
{
	int fd;
	/* accept fails when the pod is told to end: its listener closes. */
	while ((fd = accept(3, NULL, NULL)) >= 0) {
		answer(fd);
		close(fd);
	}
	return 0;
}
