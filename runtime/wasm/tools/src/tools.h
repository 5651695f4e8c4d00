/*
 * What the parts of the tools share: buffered input and output that a pipe of
 * the shell can turn to memory, memory that goes all at once, and the commands.
 * There is no stdio: it would be most of the module.
 */
#ifndef TOOLS_H
#define TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

enum { BLOCK = 8192, PATH_LEN = 1024, CTRL_C = 3, CTRL_D = 4 };

/* A source of bytes: a descriptor, or memory when fd is negative. */
struct in {
	int fd;
	const char *at, *end; /* not yet taken */
	bool over;
	const char *later, *later_end; /* of a terminal: after ^C or ^D */
	char *buf;
};

/* A sink of bytes: a descriptor, or memory when fd is negative. */
struct out {
	int fd;
	char *buf;
	size_t len, cap;
	bool failed;
	int why; /* errno of a write that failed */
	bool held; /* do not write errors at once: more of the message comes */
};

extern struct in *in;    /* standard input of the running command */
extern struct out *out;  /* its standard output */
extern struct out *err;  /* and its errors */
extern bool tty;         /* the user sits at a terminal */
extern bool interrupted; /* ^C was typed since the command began */
extern const char *processes; /* what ps prints */

/* io.c */
bool fill(struct in *i);                     /* more bytes, or the end */
void resume(struct in *i);                   /* after ^C or ^D */
int next(struct in *i);                      /* a byte, or -1 */
bool line(struct in *i, char **text, size_t *len); /* without its newline; false at the end */
void put(struct out *o, const char *text, size_t len);
void puts_to(struct out *o, const char *text);
void say(const char *text);                  /* to out */
void sayc(char c);
void number(struct out *o, long long n, int width); /* right-aligned */
bool flush(struct out *o);
int complain(const char *who, const char *what, const char *why); /* returns 1 */
int failed(const char *who, const char *what);                    /* with errno's text */
bool stopped(void);                          /* nobody listens, or ^C */
bool open_in(struct in *i, const char *path);
void close_in(struct in *i);
bool pause_for(long long milliseconds, int fd, bool writing); /* false: ^C or time over */

/* memory.c */
void *take(size_t size); /* zeroed; ends the program when there is none */
char *copy(const char *text, size_t len);
char *join(const char *a, const char *b, const char *c);
void *mark(void);
void release(void *mark);

/* paths.c */
char *path_in(const char *dir, const char *name);
const char *base(const char *path);
unsigned mode_of(const char *path, const struct stat *st);
void set_mode(const char *path, unsigned mode);
bool make_dirs(char *path);
char **names_in(const char *dir, size_t *count); /* sorted; NULL with errno */

/* match.c */
struct regex;
bool glob(const char *pattern, const char *text); /* of file names, and of case */
struct regex *regex(const char *pattern, bool extended); /* NULL: it is none */
bool regex_matches(const struct regex *r, const char *text, bool ignore_case, bool whole);

/* system.c */
void say_time(const char *format, long long when); /* strftime's, in UTC; what it cannot it shows as is */

/* Options: letters from flags may be set; those followed by ':' take a value.
 * Returns the index of the first argument, or -1 after a complaint. */
struct opts {
	unsigned char set[128];
	const char *value[128];
};
int options(int argc, char **argv, const char *flags, struct opts *o);

/* The commands. */
typedef int command(int argc, char **argv);
struct tool {
	const char *name;
	command *run;
};
const struct tool *find_tool(const char *name);

command cat_main, cp_main, ls_main, mkdir_main, mv_main, readlink_main, rm_main, rmdir_main, touch_main, find_main;
command cut_main, echo_main, grep_main, head_main, printf_main, sort_main, tail_main, tee_main, tr_main, uniq_main, wc_main;
command basename_main, date_main, dirname_main, env_main, false_main, hostname_main, id_main, printenv_main, ps_main,
	pwd_main, sleep_main, stty_main, test_main, true_main, uname_main, which_main, whoami_main, xargs_main;
command nslookup_main, wget_main, sh_main, tar_main;

#endif
