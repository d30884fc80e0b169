/* Certificate and key: opened by the supervisor, which may be root, at each start of an http process; read here. */
#include "role/http.h"

#include "http/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The descriptor the supervisor gave, or, when it could not open the file, our own try, whose error tells why. */
static int open_file(int given, const char *option, const char *file, struct sd_err *err)
{
	int fd = given >= 0 ? given : open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		sd_err_errno(err, errno, "cannot open \"%.200s\"", file);
		return sd_err_prefix(err, "%s", option);
	}
	return fd;
}

int sd_http_tls(const struct sd_child *child, struct ssl_ctx_st **tls, struct sd_err *err)
{
	const char *cert_name = child->conf->http.tls_cert, *key_name = child->conf->http.tls_key;
	int cert, key = -1;

	*tls = NULL;
	if (!cert_name || !key_name || child->http_listen < 0)
		return 0;
	cert = open_file(child->tls_cert, "http.tls.cert", cert_name, err);
	if (cert >= 0)
		key = open_file(child->tls_key, "http.tls.key", key_name, err);
	if (cert >= 0 && key >= 0)
		*tls = sd_tls_new(cert, cert_name, key, key_name, child->conf->http.http2 != SD_HTTP2_OFF, err);
	if (cert >= 0)
		close(cert);
	if (key >= 0)
		close(key);
	return *tls ? 0 : -1;
}
