/* The shell's own types: what the parser makes and the runner walks. */
#ifndef SH_H
#define SH_H

#include "tools.h"

enum node_type { SIMPLE, PIPE, AND, OR, SEQUENCE, NOT, IF, LOOP, FOR, CASE, GROUP, SUBSHELL, FUNCTION };

struct word {
	char *text; /* as written, quotes and all */
	struct word *next;
};

struct redirect {
	int fd;    /* that is redirected */
	char kind; /* '<' '>' 'a'ppend '&'duplicate 'h'ere-document */
	bool raw, tabs; /* of a here-document: not expanded; leading tabs removed */
	char *text;
	struct redirect *next;
};

/* A command. left and right are the parts of all compound ones; IF has the
 * condition in left, the two branches in right and other; LOOP and FOR have the
 * body in right. */
struct node {
	enum node_type type;
	struct node *left, *right, *other;
	struct word *words;          /* SIMPLE, FOR's list, CASE's patterns */
	struct redirect *redirects;
	char *name;                  /* FOR's variable, CASE's word, FUNCTION's name; its text is the only word */
	bool until;                  /* LOOP: while the condition fails; FOR: over "$@" */
};

/* parse.c: NULL with *error for what is wrong, or with *more when the text
 * ends too early. An empty text is a SIMPLE without words. */
struct node *parse(const char *text, const char **error, bool *more);
bool name_char(char c, bool first);

/* expand.c */
struct word *expand(const struct word *words); /* fields, globbed */
char *expand_one(const char *text);            /* one field, as after = */
char *expand_here(const char *text);           /* a here-document */
bool match_pattern(const char *pattern, const char *text); /* of case */

/* run.c */
extern int last_code;      /* $? */
extern int arg_count;      /* $# */
extern char **arg_list;    /* $1 is arg_list[0] */
extern const char *shell_name;
int run(struct node *n);
char *capture(const char *text); /* output of $(...) */
const char *variable(const char *name);
void set_variable(const char *name, const char *value, bool exported);
void unset_variable(const char *name);
void each_variable(void (*f)(const char *entry));
long long arithmetic(const char *text);

#endif
