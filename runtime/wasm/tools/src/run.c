/* The shell at work. Everything runs in this one program, one after the other:
 * a pipe is memory, and what a command is given to the left is all there before
 * it starts. */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum leave { STAY, CONTINUE, BREAK, RETURN, EXIT };

int last_code, arg_count;
char **arg_list;
const char *shell_name = "sh";

static enum leave leaving;
static int levels; /* of BREAK and CONTINUE */
static bool errexit, trace;
static int guarded; /* conditions that errexit does not look at */

static struct function {
	char *name, *text;
	struct function *next;
} *functions;

static int run_text(const char *text);

static bool away(void) { return leaving != STAY || interrupted || out->failed; }

/* saved is what a redirection has replaced. */
struct saved {
	struct in *in;
	struct out *out, *err;
};

/* restore returns why what was redirected could not be written; 0: it was. */
static int restore(const struct saved *s, struct out **opened, int outs, struct in **read, int ins)
{
	int why = 0;
	for (int i = 0; i < outs; i++) {
		flush(opened[i]);
		why = why ? why : opened[i]->why;
		close(opened[i]->fd);
		free(opened[i]->buf);
	}
	for (int i = 0; i < ins; i++)
		close_in(read[i]);
	in = s->in;
	out = s->out;
	err = s->err;
	return why;
}

enum { MAX_REDIRECTS = 16 };

/* redirected runs f with a command's redirections in place. */
static int redirected(struct node *n, int (*f)(struct node *, struct word *), struct word *argv)
{
	struct saved before = { in, out, err };
	struct out *opened[MAX_REDIRECTS];
	struct in *read[MAX_REDIRECTS];
	int outs = 0, ins = 0, code = 0;
	for (struct redirect *r = n->redirects; r && code == 0 && outs + ins < MAX_REDIRECTS; r = r->next) {
		char *target = r->kind == 'h' ? (r->raw ? r->text : expand_here(r->text)) : expand_one(r->text);
		if (r->kind == 'h' || r->kind == '<') {
			struct in *i = take(sizeof *i);
			if (r->kind == 'h')
				*i = (struct in){ .fd = -1, .at = target, .end = target + strlen(target) };
			else if (!open_in(i, target))
				code = failed("sh", target);
			if (code == 0)
				in = read[ins++] = i;
		} else if (r->kind == '&') {
			struct out *to = *target == '2' ? err : out;
			flush(out);
			*(r->fd == 2 ? &err : &out) = to;
		} else {
			struct out *o = take(sizeof *o);
			int flags = O_WRONLY | O_CREAT | (r->kind == 'a' ? O_APPEND : O_TRUNC);
			bool null = strcmp(target, "/dev/null") == 0;
			o->fd = null ? -1 : open(target, flags, 0666);
			if (o->fd < 0 && !null) {
				code = failed("sh", target);
				break;
			}
			opened[outs++] = o;
			flush(out);
			*(r->fd == 2 ? &err : &out) = o;
		}
	}
	if (code == 0)
		code = f(n, argv);
	int why = restore(&before, opened, outs, read, ins);
	if (why && complain("sh", "write error", strerror(why)) && code == 0)
		code = 1;
	return code;
}

/* Variables that are not exported; the others are the environment's. */
static char **locals;
static size_t locals_count;

static char **find_local(const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < locals_count; i++)
		if (strncmp(locals[i], name, n) == 0 && locals[i][n] == '=')
			return locals + i;
	return NULL;
}

const char *variable(const char *name)
{
	char **l = find_local(name);
	return l ? strchr(*l, '=') + 1 : getenv(name);
}

void unset_variable(const char *name)
{
	char **l = find_local(name);
	unsetenv(name);
	if (l == NULL)
		return;
	free(*l);
	*l = locals[--locals_count];
}

void set_variable(const char *name, const char *value, bool exported)
{
	void *m = mark();
	char *entry = join(name, "=", value); /* value may be the one that goes */
	exported |= getenv(name) != NULL;
	unset_variable(name);
	if (exported) {
		setenv(name, entry + strlen(name) + 1, 1);
	} else {
		locals = realloc(locals, (locals_count + 1) * sizeof *locals);
		locals[locals_count++] = strdup(entry);
	}
	release(m);
}

extern char **environ;

void each_variable(void (*f)(const char *))
{
	for (size_t i = 0; i < locals_count; i++)
		f(locals[i]);
	for (char **e = environ; e && *e; e++)
		f(*e);
}

/* assignment returns the length of the name when a word is NAME=value. */
static size_t assignment(const char *text)
{
	size_t n = 0;
	if (!name_char(*text, true))
		return 0;
	while (name_char(text[n], false))
		n++;
	return text[n] == '=' ? n : 0;
}

static void assign(const char *text, size_t n, bool exported)
{
	set_variable(copy(text, n), expand_one(text + n + 1), exported);
}

static int number_of(char **argv, int argc, int fallback) { return argc > 1 ? atoi(argv[1]) : fallback; }

static int cd(int argc, char **argv)
{
	char cwd[PATH_LEN];
	const char *to = argc > 1 ? argv[1] : variable("HOME");
	if (to == NULL)
		to = "/";
	if (strcmp(to, "-") == 0)
		to = variable("OLDPWD") ? variable("OLDPWD") : "/";
	struct stat st;
	getcwd(cwd, sizeof cwd);
	if (stat(to, &st) != 0)
		return failed("cd", to);
	if (!S_ISDIR(st.st_mode))
		return errno = ENOTDIR, failed("cd", to);
	if (chdir(to) != 0)
		return failed("cd", to);
	set_variable("OLDPWD", cwd, false);
	getcwd(cwd, sizeof cwd);
	set_variable("PWD", cwd, false);
	return 0;
}

static int declare(int argc, char **argv, bool exported)
{
	for (int i = 1; i < argc; i++) {
		size_t n = assignment(argv[i]);
		if (n)
			set_variable(copy(argv[i], n), argv[i] + n + 1, exported);
		else if (exported && variable(argv[i]))
			set_variable(argv[i], variable(argv[i]), true);
	}
	return 0;
}

static int read_line(int argc, char **argv)
{
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) /* -r is how it always reads */
		if (strchr(argv[i], 'p') && i + 1 < argc)
			puts_to(err, argv[++i]);
	char *text, *rest;
	size_t len;
	if (!line(in, &text, &len))
		return 1;
	rest = copy(text, len);
	const char *ifs = variable("IFS") ? variable("IFS") : " \t";
	for (; i < argc; i++) {
		bool last = i == argc - 1;
		if (*ifs)
			rest += strspn(rest, " \t");
		size_t n = last ? strlen(rest) : strcspn(rest, ifs);
		char *v = copy(rest, n);
		while (last && *ifs && n > 0 && (v[n - 1] == ' ' || v[n - 1] == '\t'))
			v[--n] = 0;
		set_variable(argv[i], v, false);
		rest += n + (!last && rest[n] != 0);
	}
	return 0;
}

static void show(const char *entry)
{
	say(entry);
	sayc('\n');
}

static int set_options(int argc, char **argv)
{
	int i = 1;
	if (argc == 1)
		each_variable(show);
	for (; i < argc && (argv[i][0] == '-' || argv[i][0] == '+') && argv[i][1]; i++) {
		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (strchr(argv[i], 'e'))
			errexit = argv[i][0] == '-';
		if (strchr(argv[i], 'x'))
			trace = argv[i][0] == '-';
	}
	if (i < argc || (argc > 1 && strcmp(argv[argc - 1], "--") == 0)) {
		arg_count = argc - i;
		arg_list = malloc((size_t)(argc - i + 1) * sizeof *arg_list);
		for (int k = 0; k < arg_count; k++)
			arg_list[k] = strdup(argv[i + k]);
	}
	return 0;
}

static int call(int argc, char **argv, const char *text)
{
	int count = arg_count;
	char **args = arg_list;
	arg_count = argc - 1;
	arg_list = argv + 1;
	int code = run_text(text);
	if (leaving == RETURN)
		leaving = STAY;
	arg_count = count;
	arg_list = args;
	return code;
}

static int source(int argc, char **argv)
{
	struct in file;
	struct out all = { .fd = -1 };
	if (!open_in(&file, argv[0]))
		return 126 + failed("sh", argv[0]);
	while (fill(&file)) {
		put(&all, file.at, (size_t)(file.end - file.at));
		file.at = file.end;
	}
	close_in(&file);
	char *text = copy(all.buf ? all.buf : "", all.len);
	free(all.buf);
	return argc > 0 ? call(argc, argv, text) : run_text(text);
}

static int leave(enum leave how, int n)
{
	leaving = how;
	levels = n;
	return last_code;
}

/* builtin runs what must change the shell itself; false: it is none of them. */
static bool builtin(int argc, char **argv, int *code)
{
	static const char *const names[] = { ":", "cd", "export", "unset", "exit", "return", "break", "continue", "shift", "set", "read",
		"eval", ".", "source", "command", "type", "local", "readonly", "wait", "trap", "umask", "exec", NULL };
	int k = 0;
	while (names[k] && strcmp(names[k], argv[0]) != 0)
		k++;
	*code = 0;
	switch (k) {
	case 0: case 18: case 19: case 20: break;
	case 1: *code = cd(argc, argv); break;
	case 2: argc > 1 ? declare(argc, argv, true) : printenv_main(1, argv); break;
	case 3:
		for (int i = 1; i < argc; i++)
			unset_variable(argv[i]);
		break;
	case 4: case 5:
		*code = number_of(argv, argc, last_code) & 255;
		leave(k == 4 ? EXIT : RETURN, 0);
		break;
	case 6: leave(BREAK, number_of(argv, argc, 1)); break;
	case 7: leave(CONTINUE, number_of(argv, argc, 1)); break;
	case 8: {
		int n = number_of(argv, argc, 1);
		if (n > arg_count)
			*code = 1;
		else
			arg_count -= n, arg_list += n;
		break;
	}
	case 9: *code = set_options(argc, argv); break;
	case 10: *code = read_line(argc, argv); break;
	case 11: {
		char *text = copy("", 0);
		for (int i = 1; i < argc; i++)
			text = join(text, i > 1 ? " " : "", argv[i]);
		*code = run_text(text);
		break;
	}
	case 12: case 13: *code = argc > 1 ? source(0, argv + 1) : 2; break;
	case 14: case 15: {
		int i = 1 + (argc > 1 && argv[1][0] == '-');
		if (k == 14 && i == 1)
			return false;
		*code = which_main(argc - i + 1, argv + i - 1);
		break;
	}
	case 16: case 17: declare(argc, argv, false); break;
	case 21: return false;
	default: return false;
	}
	return true;
}

static int call_command(int argc, char **argv)
{
	int code;
	if (builtin(argc, argv, &code))
		return code;
	for (struct function *f = functions; f; f = f->next)
		if (strcmp(f->name, argv[0]) == 0)
			return call(argc, argv, f->text);
	bool skip = argc > 1 && (strcmp(argv[0], "exec") == 0 || strcmp(argv[0], "command") == 0);
	if (skip) {
		bool last = *argv[0] == 'e';
		code = call_command(argc - 1, argv + 1);
		if (last)
			leave(EXIT, 0);
		return code;
	}
	const struct tool *t = find_tool(argv[0]);
	if (t)
		return t->run(argc, argv);
	if (strcmp(argv[0], "exec") == 0)
		return 0;
	struct stat st;
	if (strchr(argv[0], '/') && stat(argv[0], &st) == 0) {
		struct in file;
		char head[4] = { 0 };
		if (open_in(&file, argv[0]) && fill(&file))
			memcpy(head, file.at, (size_t)(file.end - file.at) < 4 ? (size_t)(file.end - file.at) : 4);
		close_in(&file);
		if (memcmp(head, "\0asm", 4) == 0)
			return 125 + complain("sh", argv[0], "a module is started by kubectl exec itself, not from this shell");
		return S_ISDIR(st.st_mode) ? 125 + complain("sh", argv[0], "is a directory") : source(argc, argv);
	}
	return 126 + complain("sh", argv[0], "not found");
}

static int run_words(struct node *n, struct word *words)
{
	(void)n;
	int argc = 0;
	for (struct word *w = words; w; w = w->next)
		argc++;
	if (argc == 0)
		return 0;
	char **argv = take((size_t)(argc + 1) * sizeof *argv);
	argc = 0;
	for (struct word *w = words; w; w = w->next)
		argv[argc++] = w->text;
	if (trace) {
		puts_to(err, "+");
		for (int i = 0; i < argc; i++) {
			puts_to(err, " ");
			puts_to(err, argv[i]);
		}
		puts_to(err, "\n");
	}
	int code = call_command(argc, argv);
	if (out->fd >= 0) /* as every command of its own would at its end */
		flush(out);
	if (tty && in->fd == 0 && in->over && !interrupted) /* ^D has ended this command's input, not the terminal */
		resume(in);
	return code;
}

static int run_simple(struct node *n)
{
	struct word *w = n->words;
	size_t len;
	int code = 0, count = 0;
	for (; w && (len = assignment(w->text)) > 0; w = w->next)
		count++;
	last_code = w ? last_code : 0; /* a substitution may set it */
	if (w == NULL) {
		for (w = n->words; w; w = w->next)
			assign(w->text, assignment(w->text), false);
		code = last_code;
		return n->redirects ? redirected(n, run_words, NULL) : code;
	}
	struct word *argv = expand(w);
	char **names = take((size_t)(count + 1) * sizeof *names), **old = take((size_t)(count + 1) * sizeof *old);
	int k = 0;
	for (w = n->words; k < count; w = w->next, k++) { /* for this command only */
		len = assignment(w->text);
		names[k] = copy(w->text, len);
		const char *v = variable(names[k]);
		old[k] = v ? copy(v, strlen(v)) : NULL;
		assign(w->text, len, true);
	}
	code = redirected(n, run_words, argv);
	while (k-- > 0)
		old[k] ? set_variable(names[k], old[k], false) : unset_variable(names[k]);
	return code;
}

static int condition(struct node *n)
{
	guarded++;
	int code = run(n);
	guarded--;
	return code;
}

/* in_loop reports whether the loop goes on after its body. */
static bool in_loop(void)
{
	if (leaving == CONTINUE && levels <= 1)
		leaving = STAY;
	if (leaving == BREAK && levels <= 1) {
		leaving = STAY;
		return false;
	}
	if (leaving == BREAK || leaving == CONTINUE)
		levels--;
	return !away();
}

static int loop(struct node *n)
{
	int code = 0;
	while (!away()) {
		void *m = mark();
		if ((condition(n->left) == 0) == n->until || away())
			break;
		code = run(n->right);
		release(m);
		if (!in_loop())
			break;
	}
	return code;
}

static int for_loop(struct node *n)
{
	int code = 0;
	struct word *list = NULL, **last = &list;
	if (!n->until)
		list = expand(n->words);
	for (int i = 0; n->until && i < arg_count; i++) {
		*last = take(sizeof **last);
		(*last)->text = arg_list[i];
		last = &(*last)->next;
	}
	for (; list && !away(); list = list->next) {
		void *m = mark();
		set_variable(n->name, list->text, false);
		code = run(n->right);
		release(m);
		if (!in_loop())
			break;
	}
	return code;
}

static int choose(struct node *n)
{
	char *text = expand_one(n->name);
	for (struct node *one = n->other; one; one = one->other)
		for (struct word *w = one->words; w; w = w->next)
			if (match_pattern(w->text, text))
				return run(one->right);
	return 0;
}

static int piped(struct node *n)
{
	struct in *from = in, memory;
	struct out *to = out, pipe = { .fd = -1 };
	out = &pipe;
	condition(n->left);
	out = to;
	if (leaving == EXIT) /* of the part's own shell */
		leaving = STAY;
	memory = (struct in){ .fd = -1, .at = pipe.buf, .end = pipe.buf + pipe.len };
	in = &memory;
	int code = interrupted ? 130 : run(n->right);
	in = from;
	free(pipe.buf);
	return code;
}

/* apart runs f as a shell of its own would: what it changes is put back. */
static int apart(int (*f)(const void *), const void *what)
{
	char cwd[PATH_LEN], **old = NULL;
	size_t count = 0, exported = 0;
	for (char **e = environ; e && *e; e++)
		exported++;
	old = take((locals_count + exported) * sizeof *old);
	for (size_t i = 0; i < locals_count; i++)
		old[count++] = copy(locals[i], strlen(locals[i]));
	size_t split = count;
	for (size_t i = 0; i < exported; i++)
		old[count++] = copy(environ[i], strlen(environ[i]));
	getcwd(cwd, sizeof cwd);
	int code = f(what);
	if (leaving != STAY && leaving != BREAK && leaving != CONTINUE)
		leaving = STAY;
	while (locals_count > 0)
		free(locals[--locals_count]);
	while (environ && *environ) {
		void *m = mark();
		unsetenv(copy(*environ, strcspn(*environ, "=")));
		release(m);
	}
	for (size_t i = 0; i < count; i++) {
		size_t n = strcspn(old[i], "=");
		set_variable(copy(old[i], n), old[i] + n + 1, i >= split);
	}
	chdir(cwd);
	return code;
}

static int run_node(const void *n) { return run((struct node *)n); }
static int run_source(const void *text) { return run_text(text); }

char *capture(const char *text)
{
	struct out *to = out, all = { .fd = -1 };
	out = &all;
	last_code = apart(run_source, text);
	out = to;
	while (all.len > 0 && all.buf[all.len - 1] == '\n')
		all.len--;
	char *result = copy(all.buf ? all.buf : "", all.len);
	free(all.buf);
	return result;
}

static int grouped(struct node *n, struct word *argv)
{
	(void)argv;
	switch (n->type) {
	case IF: return condition(n->left) == 0 ? run(n->right) : n->other ? run(n->other) : 0;
	case LOOP: return loop(n);
	case FOR: return for_loop(n);
	case CASE: return choose(n);
	case SUBSHELL: return apart(run_node, n->left);
	default: return run(n->left);
	}
}

static void define(const struct node *n)
{
	struct function *f = functions;
	while (f && strcmp(f->name, n->name) != 0)
		f = f->next;
	if (f == NULL) {
		f = calloc(1, sizeof *f);
		f->name = strdup(n->name);
		f->next = functions;
		functions = f;
	}
	free(f->text);
	f->text = strdup(n->words->text);
}

int run(struct node *n)
{
	int code = last_code;
	if (n == NULL || away())
		return interrupted ? 130 : code;
	switch (n->type) {
	case SIMPLE: {
		void *m = mark();
		code = run_simple(n);
		release(m);
		break;
	}
	case PIPE: code = piped(n); break;
	case AND: code = condition(n->left); return code == 0 ? run(n->right) : code;
	case OR: code = condition(n->left); return code != 0 ? run(n->right) : code;
	case SEQUENCE: run(n->left); return run(n->right);
	case NOT: code = !condition(n->left); break;
	case FUNCTION: define(n); code = 0; break;
	default: code = redirected(n, grouped, NULL); break;
	}
	last_code = interrupted ? 130 : code;
	if (errexit && code != 0 && guarded == 0 && n->type <= PIPE && leaving == STAY)
		leave(EXIT, 0);
	return last_code;
}

/* run_text runs a script; 2 when it is none. */
static int run_text(const char *text)
{
	const char *wrong;
	bool more;
	void *m = mark();
	struct node *n = parse(text, &wrong, &more);
	int code = 2;
	if (n)
		code = run(n);
	else
		complain("sh", "syntax error", more ? "the script ends too early" : wrong);
	release(m);
	return code;
}

/* converse reads commands from the input, one by one. */
static int converse(void)
{
	char cwd[PATH_LEN], *text, *pending = NULL;
	size_t len;
	while (leaving != EXIT) {
		if (tty) {
			getcwd(cwd, sizeof cwd);
			say(pending ? "> " : cwd);
			say(pending ? "" : " # ");
			flush(out);
		}
		interrupted = false;
		if (!line(in, &text, &len)) {
			if (!interrupted)
				break;
			resume(in);
			free(pending);
			pending = NULL;
			continue;
		}
		void *m = mark();
		char *all = pending ? join(pending, text, "\n") : join(text, "\n", "");
		const char *wrong;
		bool more;
		struct node *n = parse(all, &wrong, &more);
		free(pending);
		pending = NULL;
		if (n)
			last_code = run(n);
		else if (more)
			pending = strdup(all);
		else
			last_code = 1 + complain("sh", "syntax error", wrong);
		release(m);
		if (interrupted && tty)
			resume(in);
		flush(out);
	}
	if (pending)
		last_code = 1 + complain("sh", "syntax error", "the input ends too early");
	if (tty && leaving != EXIT)
		say("\n");
	return last_code;
}

int sh_main(int argc, char **argv)
{
	int i = 1, count = arg_count, code;
	char **args = arg_list;
	const char *name = shell_name, *text = NULL;
	for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
		errexit |= argv[i][1] != '-' && strchr(argv[i], 'e') != NULL;
		trace |= argv[i][1] != '-' && strchr(argv[i], 'x') != NULL;
		if (argv[i][1] == '-' || strchr(argv[i], 'c') == NULL)
			continue;
		if (++i >= argc)
			return 1 + complain("sh", "-c", "option needs a value");
		text = argv[i++];
		break;
	}
	if (text && i < argc)
		shell_name = argv[i++];
	char **script = !text && i < argc ? argv + i++ : NULL;
	arg_count = argc - i;
	arg_list = argv + i;
	if (text)
		code = run_text(text);
	else if (script)
		code = source(0, script);
	else
		code = converse();
	leaving = STAY;
	arg_count = count;
	arg_list = args;
	shell_name = name;
	return code;
}
