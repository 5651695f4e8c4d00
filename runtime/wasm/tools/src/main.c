/*
 * The tools that every container of Wherry has, one program with many names.
 * Its arguments are its own name, the runtime's note (see tools.go), and the
 * command with its arguments. Built with wasi-libc by "task tools".
 */
#include "tools.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct in *in;
struct out *out, *err;
bool tty, interrupted;
const char *processes = "";

static const struct tool tools[] = {
	{ "[", test_main }, { "basename", basename_main }, { "cat", cat_main }, { "cp", cp_main }, { "cut", cut_main },
	{ "date", date_main }, { "dirname", dirname_main }, { "echo", echo_main }, { "env", env_main }, { "false", false_main },
	{ "find", find_main }, { "grep", grep_main }, { "head", head_main }, { "hostname", hostname_main }, { "id", id_main },
	{ "ls", ls_main }, { "mkdir", mkdir_main }, { "mv", mv_main }, { "nslookup", nslookup_main }, { "printenv", printenv_main },
	{ "printf", printf_main }, { "ps", ps_main }, { "pwd", pwd_main }, { "readlink", readlink_main }, { "rm", rm_main },
	{ "rmdir", rmdir_main }, { "sh", sh_main }, { "sleep", sleep_main }, { "sort", sort_main }, { "stty", stty_main },
	{ "tail", tail_main }, { "tar", tar_main }, { "tee", tee_main }, { "test", test_main }, { "touch", touch_main }, { "tr", tr_main },
	{ "true", true_main }, { "uname", uname_main }, { "uniq", uniq_main }, { "wc", wc_main }, { "wget", wget_main },
	{ "which", which_main }, { "whoami", whoami_main }, { "xargs", xargs_main },
};

const struct tool *find_tool(const char *name)
{
	if (*name == '/')
		name = base(name);
	else if (strchr(name, '/'))
		return NULL;
	for (size_t i = 0; i < sizeof tools / sizeof *tools; i++)
		if (strcmp(tools[i].name, name) == 0)
			return tools + i;
	return NULL;
}

int main(int argc, char **argv)
{
	static struct in input = { .fd = 0 };
	static struct out output = { .fd = 1 }, errors = { .fd = 2 };
	in = &input;
	out = &output;
	err = &errors;
	if (argc < 3)
		return 2 * complain("tools", NULL, "to be started by the runtime");
	tty = strncmp(argv[1], "tty", 3) == 0;
	processes = argv[1] + strcspn(argv[1], "\n");
	const char *dir = getenv("PWD");
	if (dir && *dir)
		chdir(dir);
	const struct tool *t = find_tool(argv[2]);
	if (t == NULL && argc == 3) /* as an image of its own, without a command */
		t = find_tool("sh");
	if (t == NULL)
		return 126 + complain("tools", argv[2], "not found");
	int code = t->run(argc - 2, argv + 2);
	if (interrupted)
		code = 130;
	return flush(out) || code ? code : 1;
}
