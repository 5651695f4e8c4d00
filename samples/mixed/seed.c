/*
 * The helpers of the mixed pod, told apart by the first argument:
 *
 *   seed N   writes N into /data/count and ends: an init container
 *   watch    says each second what is in /data/count: a sidecar
 *
 *   clang --target=wasm32-wasi -Oz -Wall -Wl,--strip-all -o seed.wasm samples/mixed/seed.c
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const path = "/data/count";

static int watch(void)
{
	for (;;) {
		char line[32] = "nothing yet\n";
		FILE *f = fopen(path, "r");
		if (f != NULL) {
			if (fgets(line, sizeof line, f) == NULL)
				strcpy(line, "empty\n");
			fclose(f);
		}
		printf("the count is %s", line);
		fflush(stdout);
		sleep(1);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "watch") == 0)
		return watch();
	if (argc != 3 || strcmp(argv[1], "seed") != 0) {
		fprintf(stderr, "usage: seed N, or watch\n");
		return 2;
	}
	FILE *f = fopen(path, "w");
	if (f == NULL || fprintf(f, "%s\n", argv[2]) < 0 || fclose(f) != 0) {
		perror(path);
		return 1;
	}
	return 0;
}
