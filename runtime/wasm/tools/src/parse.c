/* The grammar of the shell. */
#include "sh.h"

#include <string.h>

static const char *at;       /* next character */
static const char *error;
static bool more;
static struct redirect *here[8]; /* here-documents whose text comes after this line */
static int waiting;

static struct node *list(void);

static void *wrong(const char *what)
{
	if (error == NULL)
		error = what;
	return NULL;
}

bool name_char(char c, bool first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
}

static void blanks(void)
{
	for (;;) {
		if (*at == ' ' || *at == '\t' || *at == '\r')
			at++;
		else if (*at == '\\' && at[1] == '\n')
			at += 2;
		else if (*at == '#')
			at += strcspn(at, "\n");
		else
			return;
	}
}

/* read_here takes the lines of a here-document up to its end mark. */
static void read_here(struct redirect *r)
{
	char *end = r->text, *to = end, *text = copy("", 0);
	r->raw = strpbrk(end, "'\"\\") != NULL;
	for (char *p = end; *p; p++) /* the mark without its quotes */
		if (!strchr("'\"\\", *p))
			*to++ = *p;
	*to = 0;
	while (*at) {
		const char *row = at + (r->tabs ? strspn(at, "\t") : 0);
		size_t n = strcspn(row, "\n");
		at = row + n + (row[n] == '\n');
		if (n == strlen(end) && strncmp(row, end, n) == 0) {
			r->text = text;
			return;
		}
		text = join(text, copy(row, n), "\n");
	}
	more = true;
}

static void newline(void)
{
	at++;
	for (int i = 0; i < waiting && !more; i++)
		read_here(here[i]);
	waiting = 0;
}

static void newlines(void)
{
	for (blanks(); *at == '\n'; blanks())
		newline();
}

/* skip_to passes over what stands in brackets, quotes within included. */
static bool skip_to(char close)
{
	char open = at[-1];
	for (int depth = 1; *at; at++) {
		if (*at == '\\' && at[1]) {
			at++;
		} else if (*at == '\'' && close != '"' && close != '`') {
			at += 1 + strcspn(at + 1, "'");
			if (*at == 0)
				break;
		} else if (*at == '"' && close != '"' && close != '`') {
			at++;
			if (!skip_to('"'))
				return false;
			at--;
		} else if (*at == '$' && (at[1] == '(' || at[1] == '{') && close != '`') {
			at += 2;
			if (!skip_to(at[-1] == '(' ? ')' : '}'))
				return false;
			at--;
		} else if (*at == close && --depth == 0) {
			at++;
			return true;
		} else if (*at == open && close == ')') {
			depth++;
		}
	}
	more = true;
	return false;
}

static char *word(void)
{
	const char *from = at;
	while (*at && !strchr(" \t\r\n;|&<>()", *at)) {
		char c = *at++;
		bool ok = true;
		if (c == '\\' && *at)
			at++;
		else if (c == '\\')
			ok = false;
		else if (c == '\'')
			ok = at[strcspn(at, "'")] != 0, at += strcspn(at, "'") + ok;
		else if (c == '"' || c == '`')
			ok = skip_to(c);
		else if (c == '$' && (*at == '(' || *at == '{'))
			at++, ok = skip_to(at[-1] == '(' ? ')' : '}');
		if (!ok) {
			more = true;
			return NULL;
		}
	}
	return at > from ? copy(from, (size_t)(at - from)) : NULL;
}

/* keyword takes a reserved word if it comes next. */
static bool keyword(const char *text)
{
	size_t n = strlen(text);
	blanks();
	if (strncmp(at, text, n) != 0 || (at[n] && !strchr(" \t\r\n;|&<>()", at[n])))
		return false;
	at += n;
	return true;
}

static bool expect(const char *text)
{
	newlines();
	if (keyword(text))
		return true;
	if (*at == 0)
		more = true;
	wrong(text);
	return false;
}

static bool redirect(struct redirect **list)
{
	const char *p = at;
	int fd = -1;
	if (*p >= '0' && *p <= '9' && (p[1] == '<' || p[1] == '>'))
		fd = *p++ - '0';
	if (*p != '<' && *p != '>')
		return false;
	struct redirect *r = take(sizeof *r);
	r->kind = *p;
	r->fd = fd >= 0 ? fd : *p == '>';
	p++;
	if (*p == '>' && r->kind == '>')
		r->kind = 'a', p++;
	else if (*p == '<' && r->kind == '<') {
		r->kind = 'h';
		r->tabs = *++p == '-';
		p += r->tabs;
	}
	else if (*p == '&')
		r->kind = '&', p++;
	else if (*p == '|')
		p++;
	at = p;
	blanks();
	r->text = word();
	if (r->text == NULL) {
		wrong("redirection without a target");
		return true;
	}
	if (r->kind == 'h' && waiting < (int)(sizeof here / sizeof *here))
		here[waiting++] = r;
	while (*list)
		list = &(*list)->next;
	*list = r;
	return true;
}

static void redirects(struct node *n)
{
	for (blanks(); redirect(&n->redirects); blanks())
		;
}

static struct node *make(enum node_type type, struct node *left, struct node *right)
{
	struct node *n = take(sizeof *n);
	n->type = type;
	n->left = left;
	n->right = right;
	return n;
}

static struct node *if_rest(void)
{
	struct node *n = make(IF, list(), NULL);
	if (!expect("then"))
		return NULL;
	n->right = list();
	newlines();
	if (keyword("elif")) {
		n->other = if_rest();
		return n;
	}
	if (keyword("else"))
		n->other = list();
	return expect("fi") ? n : NULL;
}

static struct node *body(struct node *n)
{
	if (!expect("do"))
		return NULL;
	n->right = list();
	return expect("done") ? n : NULL;
}

static struct node *for_rest(void)
{
	struct node *n = make(FOR, NULL, NULL);
	struct word **last = &n->words;
	blanks();
	n->name = word();
	if (n->name == NULL)
		return wrong("for without a name");
	newlines();
	n->until = !keyword("in");
	for (blanks(); !n->until && *at && !strchr(";\n", *at); blanks()) {
		struct word *w = take(sizeof *w);
		if ((w->text = word()) == NULL)
			return wrong("for");
		*last = w;
		last = &w->next;
	}
	if (*at == ';')
		at++;
	return body(n);
}

static struct node *case_rest(void)
{
	struct node *first = make(CASE, NULL, NULL), *n = first;
	blanks();
	first->name = word();
	if (first->name == NULL || !expect("in"))
		return wrong("case");
	for (newlines(); !keyword("esac"); newlines()) {
		if (*at == 0)
			return more = true, NULL;
		n = n->other = make(CASE, NULL, NULL);
		struct word **last = &n->words;
		if (*at == '(')
			at++;
		for (;;) {
			struct word *w = take(sizeof *w);
			blanks();
			if ((w->text = word()) == NULL)
				return wrong("case without a pattern");
			*last = w;
			last = &w->next;
			blanks();
			if (*at++ == '|')
				continue;
			if (at[-1] != ')')
				return wrong("case pattern without )");
			break;
		}
		n->right = list();
		newlines();
		if (at[0] == ';' && at[1] == ';')
			at += 2;
	}
	return first;
}

static struct node *simple(void)
{
	struct node *n = make(SIMPLE, NULL, NULL);
	struct word **last = &n->words;
	for (blanks(); *at && !strchr(";|\n)", *at); blanks()) {
		if (redirect(&n->redirects))
			continue;
		if (*at == '&')
			break;
		if (*at == '(') {
			if (n->words == NULL || n->words->next || at[1] != ')')
				return wrong("unexpected (");
			at += 2;
			newlines();
			struct node *f = make(FUNCTION, NULL, NULL);
			f->name = n->words->text;
			if (!keyword("{"))
				return wrong("function without {");
			const char *from = at;
			list();
			if (!expect("}"))
				return NULL;
			f->words = take(sizeof *f->words); /* its text: it outlives this tree */
			f->words->text = copy(from, (size_t)(at - from) - 1);
			return f;
		}
		struct word *w = take(sizeof *w);
		if ((w->text = word()) == NULL)
			return more ? NULL : wrong("unexpected character");
		*last = w;
		last = &w->next;
	}
	return n;
}

static struct node *command_node(void)
{
	struct node *n;
	blanks();
	if (keyword("if"))
		n = if_rest();
	else if (keyword("while"))
		n = body(make(LOOP, list(), NULL));
	else if (keyword("until")) {
		n = body(make(LOOP, list(), NULL));
		if (n)
			n->until = true;
	} else if (keyword("for"))
		n = for_rest();
	else if (keyword("case"))
		n = case_rest();
	else if (keyword("{")) {
		n = make(GROUP, list(), NULL);
		if (!expect("}"))
			return NULL;
	} else if (*at == '(') {
		at++;
		n = make(SUBSHELL, list(), NULL);
		newlines();
		if (*at != ')')
			return more |= *at == 0, wrong("( without )");
		at++;
	} else {
		return simple();
	}
	if (n)
		redirects(n);
	return n;
}

static struct node *pipeline(void)
{
	bool not = keyword("!");
	struct node *n = command_node();
	for (blanks(); n && *at == '|' && at[1] != '|'; blanks()) {
		at++;
		newlines();
		if (*at == 0)
			more = true;
		n = make(PIPE, n, command_node());
	}
	return not && n ? make(NOT, n, NULL) : n;
}

static struct node *and_or(void)
{
	struct node *n = pipeline();
	for (blanks(); n && ((at[0] == '&' && at[1] == '&') || (at[0] == '|' && at[1] == '|')); blanks()) {
		enum node_type type = *at == '&' ? AND : OR;
		at += 2;
		newlines();
		if (*at == 0)
			more = true;
		n = make(type, n, pipeline());
	}
	return n;
}

static bool ends(void)
{
	static const char *const words[] = { "then", "else", "elif", "fi", "do", "done", "esac", "}" };
	const char *before = at;
	if (*at == 0 || *at == ')' || (at[0] == ';' && at[1] == ';'))
		return true;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (keyword(words[i])) {
			at = before;
			return true;
		}
	return false;
}

static struct node *list(void)
{
	struct node *n = NULL;
	for (newlines(); !error && !more && !ends(); newlines()) {
		const char *before = at;
		struct node *next_one = and_or();
		if (next_one == NULL)
			return n;
		n = n ? make(SEQUENCE, n, next_one) : next_one;
		blanks();
		if (*at == '&') /* nothing runs in the background: it runs now */
			at++;
		else if (*at == ';' && at[1] != ';')
			at++;
		if (at == before)
			return wrong("unexpected character");
	}
	return n ? n : make(SIMPLE, NULL, NULL);
}

struct node *parse(const char *text, const char **why, bool *unfinished)
{
	at = text;
	error = NULL;
	more = false;
	waiting = 0;
	struct node *n = list();
	if (waiting)
		more = true;
	if (!error && !more && *at)
		error = copy(at, strcspn(at, " \t\n;"));
	*why = error;
	*unfinished = more;
	return error || more ? NULL : n;
}
