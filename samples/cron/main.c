/*
 * A job that says the time and ends; the CronJob runs it every minute.
 *
 *   clang --target=wasm32-wasi -Oz -Wall -Wl,--strip-all -o cron.wasm samples/cron/main.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(void)
{
	char text[32];
	time_t now = time(NULL);
	const char *pod = getenv("HOSTNAME");
	if (strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", gmtime(&now)) == 0)
		return 1;
	printf("%s: it is %s\n", pod ? pod : "nobody", text);
	return 0;
}
