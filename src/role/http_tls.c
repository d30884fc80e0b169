/* Certificate and key: opened by the supervisor, which may be root, at each start of an http process; read here. */
#include "role/http.h"

#include "base/fdutil.h"
#include "base/log.h"
#include "http/tls.h"
#include "role/setup.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The descriptor the supervisor gave, or, when it could not open the file, our own try, whose error tells why. */
static int open_file(int given, const char *option, const char *file, struct sd_err *err)
{
	int fd = given >= 0 ? given : sd_open_regular(file, err);

	return fd >= 0 ? fd : sd_err_prefix(err, "%s", option);
}

/* given: the descriptors, or -1. */
static struct ssl_ctx_st *load(const struct sd_conf *conf, int given_cert, int given_key, struct sd_err *err)
{
	const char *cert_name = conf->http.tls_cert, *key_name = conf->http.tls_key;
	int cert = open_file(given_cert, "http.tls.cert", cert_name, err), key = -1;
	struct ssl_ctx_st *tls = NULL;

	if (cert >= 0)
		key = open_file(given_key, "http.tls.key", key_name, err);
	if (cert >= 0 && key >= 0)
		tls = sd_tls_new(cert, cert_name, key, key_name, conf->http.http2 != SD_HTTP2_OFF, err);
	if (cert >= 0)
		close(cert);
	if (key >= 0)
		close(key);
	return tls;
}

int sd_http_tls(const struct sd_child *child, struct ssl_ctx_st **tls, struct sd_err *err)
{
	char warning[512];

	*tls = NULL;
	if (!child->conf->http.tls_cert || !child->conf->http.tls_key || child->http_listen < 0)
		return 0;
	*tls = load(child->conf, child->tls_cert, child->tls_key, err);
	if (*tls && sd_tls_outdated(*tls, child->conf->http.tls_cert, warning, sizeof(warning)))
		sd_log(SD_LOG_WARN, "%s", warning);
	return *tls ? 0 : -1;
}

static void print_problem(const struct sd_conf *conf, const char *kind, const char *text)
{
	bool key = strncmp(text, "http.tls.key", 12) == 0;
	const struct sd_conf_place *at = key ? &conf->http.tls_key_at : &conf->http.tls_cert_at;

	fprintf(stderr, "%s%s:%d:%d: %s\n", kind, conf->file, at->line, at->col, text);
}

int sd_setup_check_tls(const struct sd_conf *conf)
{
	struct ssl_ctx_st *tls;
	char warning[512];
	struct sd_err err;

	if (!conf->http.tls_cert || !conf->http.tls_key)
		return 0;
	sd_err_clear(&err);
	tls = load(conf, -1, -1, &err);
	if (!tls) {
		print_problem(conf, "", err.message);
		return 1;
	}
	if (sd_tls_outdated(tls, conf->http.tls_cert, warning, sizeof(warning)))
		print_problem(conf, "warning: ", warning);
	sd_tls_free(tls);
	return 0;
}
