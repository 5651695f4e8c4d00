// A request handler: what it does is in the path of the request. With -DHANDLE
// it is a library whose function answers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count;

static int answer(void) {
	const char *path = getenv("PATH_INFO");
	if (!strcmp(path, "/spin")) for (volatile int i = 0;; i++) ;
	if (!strcmp(path, "/trap")) __builtin_trap();
	if (!strcmp(path, "/exit")) return 3;
	if (!strcmp(path, "/silent")) return 0;
	if (!strcmp(path, "/bad")) return puts("this is no header\n"), 0;
	if (!strcmp(path, "/go")) return puts("Location: /there\n"), 0;
	if (!strcmp(path, "/missing")) return printf("Status: 404 Not Found\r\nX-One: 1\r\n\r\nnothing"), 0;
	if (!strcmp(path, "/half")) {
		printf("Content-Type: text/plain\n\nhalf");
		fflush(stdout);
		return 5;
	}
	char body[256];
	size_t n = fread(body, 1, sizeof body, stdin);
	printf("Content-Type: text/plain\n\n%d %s %s?%s %s %s %.*s", ++count, getenv("REQUEST_METHOD"), path, getenv("QUERY_STRING"),
		getenv("OWN") ? getenv("OWN") : "", getenv("HTTP_X_SAID") ? getenv("HTTP_X_SAID") : "", (int)n, body);
	return 0;
}

#ifdef SNAPSHOT
__attribute__((export_name("wherry_snapshot"))) void snapshot(void) { count = 100; }
#endif

#ifdef HANDLE
__attribute__((export_name("wherry_handle"))) void handle(void) {
	int code = answer();
	fflush(stdout);
	if (code) exit(code);
}
#else
int main(void) { return answer(); }
#endif
