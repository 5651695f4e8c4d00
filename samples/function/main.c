/*
 * A function that answers one HTTP request and is gone: CGI/1.1 over standard
 * input and output (docs/requests.md).
 *
 *   clang --target=wasm32-wasi -Oz -Wall -Wl,--strip-all -o function.wasm samples/function/main.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "";
}

int main(void)
{
	static int calls; /* each request has an instance of its own: always 1 */
	char body[1024];
	size_t size = fread(body, 1, sizeof body, stdin);
	if (strcmp(variable("PATH_INFO"), "/missing") == 0) {
		printf("Status: 404 Not Found\nContent-Type: text/plain\n\nthere is nothing here\n");
		return 0;
	}
	printf("Content-Type: text/plain\n\n");
	printf("%s %s?%s, body of %zu bytes, call %d of this instance\n", variable("REQUEST_METHOD"), variable("PATH_INFO"),
	       variable("QUERY_STRING"), size, ++calls);
	return 0;
}
