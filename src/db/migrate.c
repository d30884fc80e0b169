/*
 * Migrations.  The database's version is the highest number in stepd.migration.
 *
 * There are two kinds of files.  Most begin with "-- Repeatable" and hold
 * functions, views and the types these need; whenever one of them is new or
 * differs from what was applied, all of them are applied, in order: types are
 * dropped with what uses them and made anew.  The others hold tables and are
 * applied once, before the repeatable ones, and never edited again.  (The two
 * kinds are Flyway's versioned and repeatable migrations.)  A release that
 * changes a repeatable file adds a numbered one, so that the version says which
 * of two nodes is the newer.
 *
 * Nothing is locked and nothing needs rights when the database is up to date:
 * that is the usual start.  Otherwise one transaction takes the lock, looks
 * again (another node may have been faster), applies what is missing and
 * commits: an upgrade happens as a whole or not at all.  The lock ends with the
 * transaction, so it cannot be left behind and works through a pooler too.
 */
#include "db/migrate.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/db.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OLDEST_SERVER 140000
#define REPEATABLE "-- Repeatable"
#define FILE_MAX_BYTES (4 << 20)
#define LOCK_WAIT_US (600 * SD_SEC)
#define LOCK_POLL_NS 50000000L

struct file {
	int version;
	char *name; /* without folder */
	struct sd_buf text;
	char sha256[65];
	bool repeatable;
	bool applied; /* this number is in the database */
	bool changed; /* with another text */
};

struct files {
	const char *dir;
	struct file *v;
	size_t n;
};

/* ---- the files ---- */

static void sha256_hex(const struct sd_buf *b, char out[65])
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	EVP_Digest(b->data ? b->data : "", b->len, sum, &len, EVP_sha256(), NULL);
	for (unsigned i = 0; i < 32; i++)
		snprintf(out + 2 * i, 3, "%02x", i < len ? sum[i] : 0);
}

/* NNN_name.sql: its number; 0: another file. */
static int version_of(const char *name)
{
	size_t digits = strspn(name, "0123456789"), len = strlen(name);
	if (digits == 0 || digits > 6 || name[digits] != '_' || len < 5 || strcmp(name + len - 4, ".sql") != 0)
		return 0;
	return atoi(name);
}

static int by_version(const void *a, const void *b)
{
	const struct file *x = a, *y = b;
	return (x->version > y->version) - (x->version < y->version);
}

static int files_check(const struct files *f, struct sd_err *err)
{
	if (f->n == 0) {
		sd_err_set(err, SD_ERR_PERMANENT, "no migrations in %s", f->dir);
		return sd_err_hint(err, "make install puts them there; STEPD_SQL_DIR names another folder.");
	}
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].version != (int)i + 1)
			return sd_err_set(err, SD_ERR_PERMANENT, "%s/%s: migration %03zu is expected here", f->dir,
					  f->v[i].name, i + 1);
	return 0;
}

static int files_load(struct files *f, struct sd_err *err)
{
	DIR *d = opendir(f->dir);
	int result = -1;

	if (!d)
		return sd_err_errno(err, errno, "migrations: %s", f->dir);
	for (struct dirent *e; (e = readdir(d));) {
		int version = version_of(e->d_name);
		if (version == 0)
			continue;
		f->v = sd_xrealloc(f->v, (f->n + 1) * sizeof *f->v);
		struct file *file = &f->v[f->n++];
		*file = (struct file){.version = version, .name = sd_xstrdup(e->d_name)};
		char *path = sd_xasprintf("%s/%s", f->dir, e->d_name);
		int failed = sd_read_file(path, FILE_MAX_BYTES, &file->text, err);
		free(path);
		if (failed)
			goto out;
		sha256_hex(&file->text, file->sha256);
		file->repeatable = file->text.len >= strlen(REPEATABLE) && memcmp(file->text.data, REPEATABLE, strlen(REPEATABLE)) == 0;
	}
	if (f->n > 1)
		qsort(f->v, f->n, sizeof *f->v, by_version);
	result = files_check(f, err);
out:
	closedir(d);
	return result;
}

static void files_fini(struct files *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].name);
		sd_buf_fini(&f->v[i].text);
	}
	free(f->v);
}

/* ---- the database ---- */

static int run(PGconn *conn, const char *sql, struct sd_err *err)
{
	PGresult *res = PQexec(conn, sql);
	int result = 0;
	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
		result = sd_db_error(err, conn, res);
	PQclear(res);
	return result;
}

/* One value; "" for null and for no row. */
static int ask(PGconn *conn, const char *sql, char *out, size_t size, struct sd_err *err)
{
	PGresult *res = PQexec(conn, sql);
	int result = 0;
	out[0] = '\0';
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		result = sd_db_error(err, conn, res);
	else if (PQntuples(res) > 0)
		snprintf(out, size, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return result;
}

static int check_server(PGconn *conn, struct sd_err *err)
{
	const char *encoding = PQparameterStatus(conn, "server_encoding");
	if (PQserverVersion(conn) < OLDEST_SERVER)
		return sd_err_set(err, SD_ERR_PERMANENT, "the server is PostgreSQL %s; stepd needs 14 or newer",
				  PQparameterStatus(conn, "server_version"));
	if (!encoding || strcmp(encoding, "UTF8") != 0) {
		sd_err_set(err, SD_ERR_PERMANENT, "the database \"%s\" has the encoding %s; stepd needs UTF8", PQdb(conn),
			   encoding ? encoding : "(unknown)");
		return sd_err_hint(err, "Create it with: createdb -E UTF8 -T template0");
	}
	return 0;
}

/* What the database has: its version, and of each file whether it was applied. */
static int look(PGconn *conn, struct files *f, int *version, struct sd_err *err)
{
	char found[32];
	int result = -1;
	*version = 0;
	for (size_t i = 0; i < f->n; i++)
		f->v[i].applied = f->v[i].changed = false;
	if (ask(conn, "select to_regclass('stepd.migration')", found, sizeof found, err) < 0)
		return -1;
	if (!*found)
		return 0;
	PGresult *res = PQexec(conn, "select version, sha256 from stepd.migration");
	if (PQresultStatus(res) != PGRES_TUPLES_OK) {
		result = sd_db_error(err, conn, res);
		goto out;
	}
	for (int i = 0; i < PQntuples(res); i++) {
		int v = atoi(PQgetvalue(res, i, 0));
		if (v > *version)
			*version = v;
		if (v >= 1 && (size_t)v <= f->n) {
			f->v[v - 1].applied = true;
			f->v[v - 1].changed = strcmp(PQgetvalue(res, i, 1), f->v[v - 1].sha256) != 0;
		}
	}
	result = 0;
out:
	PQclear(res);
	return result;
}

static bool stale(const struct files *f, bool repeatable)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].repeatable == repeatable && (!f->v[i].applied || (repeatable && f->v[i].changed)))
			return true;
	return false;
}

static int refuse_newer(PGconn *conn, const struct files *f, int version, struct sd_err *err)
{
	int known = f->v[f->n - 1].version;
	if (version <= known)
		return 0;
	sd_err_set(err, SD_ERR_PERMANENT, "the schema in database \"%s\" is version %d, newer than this stepd, which knows up to %d",
		   PQdb(conn), version, known);
	return sd_err_hint(err, "Another node has upgraded it: install the same version of stepd here.");
}

static void warn_changed(const struct files *f)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].changed && !f->v[i].repeatable)
			sd_log(SD_LOG_WARN, "migration %s has changed since it was applied; it is not applied again", f->v[i].name);
}

/* PostgreSQL counts characters of the whole text, from 1. */
static int line_of(const struct sd_buf *text, const char *position)
{
	long left = position ? strtol(position, NULL, 10) - 1 : 0;
	int line = 1;
	for (size_t i = 0; i < text->len && left > 0; i++) {
		left -= (text->data[i] & 0xC0) != 0x80;
		line += text->data[i] == '\n';
	}
	return line;
}

static int apply(PGconn *conn, const struct files *f, const struct file *file, struct sd_err *err)
{
	PGresult *res = PQexec(conn, file->text.data ? file->text.data : "");
	ExecStatusType status = PQresultStatus(res);
	int result = 0;

	if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE || !res) {
		const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);
		result = sd_db_error(err, conn, res);
		if (position)
			sd_err_prefix(err, "%s/%s:%d", f->dir, file->name, line_of(&file->text, position));
		else
			sd_err_prefix(err, "%s/%s", f->dir, file->name);
	}
	PQclear(res);
	if (result < 0)
		return -1;
	if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
		return sd_err_set(err, SD_ERR_PERMANENT, "%s/%s: a migration must not end the transaction", f->dir, file->name);
	char version[16];
	snprintf(version, sizeof version, "%d", file->version);
	const char *values[] = {version, file->name, file->sha256};
	res = PQexecParams(conn, "insert into stepd.migration as m (version, name, sha256) values ($1, $2, $3)"
			   " on conflict (version) do update set name = $2, sha256 = $3, applied_at = now()", 3, NULL, values,
			   NULL, NULL, 0);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
		result = sd_db_error(err, conn, res);
	PQclear(res);
	return result;
}

/* Begin a transaction that holds the lock. */
static int begin_locked(PGconn *conn, struct sd_err *err)
{
	int64_t since = sd_now_us();
	bool told = false;

	for (;;) {
		char got[8];
		/* "stepd" in ASCII */
		if (run(conn, "begin", err) < 0 ||
		    ask(conn, "select pg_try_advisory_xact_lock(x'7374657064'::bigint)", got, sizeof got, err) < 0)
			return -1;
		if (strcmp(got, "t") == 0)
			return 0;
		if (run(conn, "rollback", err) < 0)
			return -1;
		int64_t waited = sd_now_us() - since;
		if (waited > LOCK_WAIT_US)
			return sd_err_set(err, SD_ERR_TRANSIENT, "another node has been migrating this database for %lld s",
					  (long long)(waited / SD_SEC));
		if (waited > SD_SEC && !told)
			sd_log(SD_LOG_INFO, "another node is migrating the database; waiting for it");
		told = told || waited > SD_SEC;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_NS}, NULL);
	}
}

static const char prepare_sql[] =
	"set local search_path = pg_catalog, pg_temp;"
	"set local client_min_messages = warning;"
	"set local statement_timeout = 0;"
	"set local synchronous_commit = on;"
	/* "if not exists" would need the right to create schemas even where an administrator made ours */
	"do $$ begin if to_regnamespace('stepd') is null then create schema stepd; end if; end $$;"
	"create table if not exists stepd.migration ("
	" version int primary key, name text not null, applied_at timestamptz not null default now(), sha256 text not null);"
	"comment on table stepd.migration is 'The migrations that made this schema; written by stepd at start and by stepctl migrate.'";

/*
 * Whoever migrates, all belongs to the role that did so first, and before that to the schema's owner: a member of it (or a
 * superuser) gives it what is his, and goes on as that role.  Else it could not use or replace what he made, nor he keep his
 * hands off it later.
 */
static const char own_sql[] =
	"do $$ declare boss oid; me oid; x text; begin"
	" select r.oid into me from pg_roles r where r.rolname = current_user;"
	" select case when not exists (select from stepd.migration) and pg_has_role(me, n.nspowner, 'usage') then n.nspowner else c.relowner end into boss"
	"  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = 'stepd.migration'::regclass;"
	" if not pg_has_role(me, boss, 'usage') then return; end if;"
	" for x in"
	"  select format('%s %s', case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.oid::regclass) from pg_class c"
	"  where c.relnamespace = 'stepd'::regnamespace and c.relkind in ('r', 'p', 'v', 'S') and c.relowner <> boss and pg_has_role(me, c.relowner, 'usage')"
	"   and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i') and c.relkind = 'S')"
	"  union all select format('routine %s', p.oid::regprocedure) from pg_proc p"
	"  where p.pronamespace = 'stepd'::regnamespace and p.proowner <> boss and pg_has_role(me, p.proowner, 'usage')"
	"  union all select format('type %s', t.oid::regtype) from pg_type t left join pg_class c on c.oid = t.typrelid"
	"  where t.typnamespace = 'stepd'::regnamespace and t.typtype in ('c', 'd', 'e') and coalesce(c.relkind, 'c') = 'c' and t.typowner <> boss"
	"   and pg_has_role(me, t.typowner, 'usage')"
	" loop execute format('alter %s owner to %I', x, pg_get_userbyid(boss)); end loop;"
	" if me <> boss then perform set_config('role', pg_get_userbyid(boss), true); end if;"
	"end $$";

static int apply_kind(PGconn *conn, const struct files *f, bool repeatable, struct sd_err *err)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].repeatable == repeatable && (repeatable || !f->v[i].applied) && apply(conn, f, &f->v[i], err) < 0)
			return -1;
	return 0;
}

/* Tables of a schema stepd in which no migration of ours was applied are somebody else's. */
static int refuse_foreign(PGconn *conn, int version, struct sd_err *err)
{
	char table[80];

	if (version > 0)
		return 0;
	if (ask(conn, "select coalesce(min(c.relname), '') from pg_class c where c.relnamespace = to_regnamespace('stepd') "
		      "and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname <> 'migration'", table, sizeof table, err) < 0)
		return -1;
	if (*table == '\0')
		return 0;
	sd_err_set(err, SD_ERR_PERMANENT, "the schema \"stepd\" in database \"%s\" was not made by stepd: it holds \"%s\", and no migrations", PQdb(conn),
		   table);
	return sd_err_hint(err, "Is it the right database? Rename that schema, or use another database.");
}

/* All that is missing, in one transaction; *version becomes what the database is at then. */
static int upgrade(PGconn *conn, struct files *f, int *version, struct sd_err *err)
{
	if (begin_locked(conn, err) < 0)
		return -1;
	if (run(conn, prepare_sql, err) < 0) {
		if (err && strcmp(err->sqlstate, "42501") == 0)
			sd_err_hint(err, "As an administrator of that database: create schema stepd authorization \"%s\"", PQuser(conn));
		goto undo;
	}
	if (look(conn, f, version, err) < 0 || refuse_newer(conn, f, *version, err) < 0 || refuse_foreign(conn, *version, err) < 0 ||
	    run(conn, own_sql, err) < 0 || apply_kind(conn, f, false, err) < 0)
		goto undo;
	if (stale(f, true)) {
		if (apply_kind(conn, f, true, err) < 0)
			goto undo;
		if (*version == f->v[f->n - 1].version)
			sd_log(SD_LOG_INFO, "schema version %d: the functions were replaced by those of this stepd", *version);
	}
	*version = f->v[f->n - 1].version;
	return run(conn, "commit", err);
undo:
	if (PQtransactionStatus(conn) != PQTRANS_IDLE) {
		struct sd_err ignored;
		(void)run(conn, "rollback", &ignored);
	}
	return -1;
}

static const char *find_dir(const char *sql_dir)
{
	const char *env = getenv("STEPD_SQL_DIR");
	return sql_dir ? sql_dir : env && *env ? env : SD_PKGDATADIR "/sql";
}

int sd_schema_version(PGconn *conn, int *version, struct sd_err *err)
{
	struct files none = {.dir = ""};

	sd_err_clear(err);
	return look(conn, &none, version, err);
}

int sd_migrate(PGconn *conn, const char *sql_dir, int *from, int *to, struct sd_err *err)
{
	struct files files = {.dir = find_dir(sql_dir)};
	int result = -1, version = 0;

	sd_err_clear(err);
	*from = *to = 0;
	if (files_load(&files, err) < 0 || check_server(conn, err) < 0 || look(conn, &files, &version, err) < 0 ||
	    refuse_newer(conn, &files, version, err) < 0)
		goto out;
	*from = version;
	warn_changed(&files);
	if ((stale(&files, false) || stale(&files, true)) && upgrade(conn, &files, &version, err) < 0)
		goto out;
	result = 0;
out:
	*to = version;
	files_fini(&files);
	return result;
}
