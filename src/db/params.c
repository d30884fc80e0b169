/*
 * Connection strings, and what libpq says when connecting fails.
 *
 * Our defaults go in front of what the user gave, so that the user wins: dead
 * peers are noticed by keepalives and tcp_user_timeout, and with several hosts
 * the primary is looked for.  client_encoding comes last: all our texts are UTF-8.
 *
 * libpq 15 gives no SQLSTATE for a failed connect.  It does in "verbose" error
 * texts ("FATAL:  28P01: password …"), so connections are made in that mode
 * and the code is taken out of the text again here.
 */
#include "db/params.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPT_MS 10000
#define ATTEMPT_MANY_MS 5000

static PQconninfoOption *option(const struct sd_db_params *p, const char *keyword)
{
	for (PQconninfoOption *o = p->given; o && o->keyword; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o;
	return NULL;
}

static const char *value(const struct sd_db_params *p, const char *keyword)
{
	const PQconninfoOption *o = option(p, keyword);
	return o && o->val && *o->val ? o->val : NULL;
}

static size_t count_list(const char *s)
{
	size_t n = 1;
	for (; s && *s; s++)
		n += *s == ',';
	return n;
}

/* libpq quotes the part it stumbled over; that part may hold the password. */
static void hide_quoted(char *s)
{
	char *first = strchr(s, '"');
	while (first && first[1] && first[2] == '"') /* "=" and the like say nothing secret */
		first = strchr(first + 3, '"');
	char *last = first ? strrchr(s, '"') : NULL;
	if (first && last > first + 1) {
		memmove(first + 4, last, strlen(last) + 1);
		memcpy(first + 1, "...", 3);
	}
}

static int check_hosts(const struct sd_db_params *p, struct sd_err *err)
{
	const char *host = value(p, "host");
	for (const char *at = host ? strchr(host, '@') : NULL; at; at = strchr(at + 1, '@')) {
		if (at == host || at[-1] == ',')
			continue; /* an abstract Unix socket */
		sd_err_set(err, SD_ERR_PERMANENT, "the host in the database connection string contains \"@\"");
		return sd_err_hint(err, "Write special characters of the password percent-encoded, \"@\" as %%40.");
	}
	return 0;
}

int sd_db_params_init(struct sd_db_params *p, const char *conninfo, const char *application_name, struct sd_err *err)
{
	memset(p, 0, sizeof *p);
	char *message = NULL;
	p->given = PQconninfoParse(conninfo, &message);
	if (!p->given) {
		size_t len = message ? strlen(message) : 0;
		/* room for the three dots that replace a quoted part shorter than they are */
		char *text = sd_xmalloc(len + 8);
		memcpy(text, message ? message : "", len);
		text[len] = '\0';
		while (len && isspace((unsigned char)text[len - 1]))
			text[--len] = '\0';
		hide_quoted(text);
		sd_err_set(err, SD_ERR_PERMANENT, "the database connection string is malformed");
		sd_err_detail(err, "%s", text);
		free(text);
		PQfreemem(message);
		return -1;
	}
	p->application_name = sd_xstrdup(application_name ? application_name : "stepd");
	const char *hosts = value(p, "hostaddr") ? value(p, "hostaddr") : value(p, "host");
	p->nhosts = count_list(hosts);
	const char *timeout = value(p, "connect_timeout");
	long seconds = timeout ? strtol(timeout, NULL, 10) : 0;
	p->attempt_ms = p->nhosts > 1 ? ATTEMPT_MANY_MS : ATTEMPT_MS;
	if (seconds > 0 && seconds < 86400)
		p->attempt_ms = seconds * 1000;
	return check_hosts(p, err);
}

void sd_db_params_fini(struct sd_db_params *p)
{
	if (p->given)
		PQconninfoFree(p->given);
	free(p->application_name);
	memset(p, 0, sizeof *p);
}

void sd_db_params_rotate(struct sd_db_params *p)
{
	static const char *const lists[] = {"host", "hostaddr", "port"};
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		PQconninfoOption *o = option(p, lists[i]);
		char *comma = o && o->val ? strchr(o->val, ',') : NULL;
		if (!comma)
			continue;
		size_t head = (size_t)(comma - o->val), tail = strlen(comma + 1);
		char *turned = sd_xmalloc(head + tail + 2);
		memcpy(turned, comma + 1, tail);
		turned[tail] = ',';
		memcpy(turned + tail + 1, o->val, head);
		turned[head + tail + 1] = '\0';
		memcpy(o->val, turned, head + tail + 2); /* same length: it stays libpq's memory */
		free(turned);
	}
}

PGconn *sd_db_params_start(const struct sd_db_params *p)
{
	enum { MAX = 96 };
	const char *keywords[MAX], *values[MAX];
	size_t n = 0;
#define PUT(k, v) (keywords[n] = (k), values[n] = (v), n++)
	PUT("application_name", p->application_name);
	PUT("keepalives_idle", "30");
	PUT("keepalives_interval", "10");
	PUT("keepalives_count", "3");
	PUT("tcp_user_timeout", "30000");
	if (p->nhosts > 1)
		PUT("target_session_attrs", "read-write");
	for (const PQconninfoOption *o = p->given; o->keyword && n < MAX - 2; o++)
		if (o->val)
			PUT(o->keyword, o->val);
	PUT("client_encoding", "UTF8");
	keywords[n] = values[n] = NULL;
#undef PUT
	PGconn *conn = PQconnectStartParams(keywords, values, 0);
	if (conn)
		PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
	return conn;
}

static bool refused_for_good(const char *code)
{
	static const char *const classes[] = {"28", "3D", "42", "0A", "22"};
	for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
		if (strncmp(code, classes[i], 2) == 0)
			return true;
	return false;
}

/* "FATAL:  28P01: password …": the code, with the text moved over it; NULL: none in this line. */
static bool take_code(char *line, char code[6])
{
	for (char *s = strstr(line, ":  "); s; s = strstr(s + 1, ":  ")) {
		char *c = s + 3;
		size_t n = 0;
		while (n < 5 && (isdigit((unsigned char)c[n]) || isupper((unsigned char)c[n])))
			n++;
		if (n != 5 || c[5] != ':' || c[6] != ' ')
			continue;
		memcpy(code, c, 5);
		code[5] = '\0';
		memmove(c, c + 7, strlen(c + 7) + 1);
		return true;
	}
	return false;
}

int sd_db_connect_error(struct sd_err *err, const PGconn *conn)
{
	char *text = sd_xstrdup(conn ? PQerrorMessage(conn) : "out of memory"), *save = NULL;
	char message[sizeof err->message] = "", code[6] = "";
	bool permanent = true;
	int attempts = 0, codes = 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		line += strspn(line, "\t ");
		if (strncmp(line, "LOCATION:", 9) == 0)
			continue;
		attempts += strncmp(line, "connection to server", 20) == 0;
		if (take_code(line, code)) {
			codes++;
			permanent = permanent && refused_for_good(code);
		}
		size_t used = strlen(message);
		if (used + strlen(line) + 3 < sizeof message) {
			strcat(message, used ? "; " : "");
			strcat(message, line);
		}
	}
	free(text);
	permanent = (permanent && codes > 0 && codes >= attempts) || (conn && PQconnectionNeedsPassword(conn));
	sd_err_set(err, permanent ? SD_ERR_PERMANENT : SD_ERR_TRANSIENT, "%s",
		   *message ? message : "the database cannot be reached");
	if (err)
		memcpy(err->sqlstate, *code ? code : "08001", 6);
	return -1;
}
