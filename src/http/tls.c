/*
 * Settings after Mozilla's "intermediate" profile (5.7): TLS 1.2 with ECDHE and
 * an AEAD, or TLS 1.3; the client chooses among equals; no compression, no
 * renegotiation.  Nothing of ours but the certificate is up to the user.
 */
#include "http/tls.h"

#include "base/mem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SOON_S (14 * 86400)

#define TLS12_CIPHERS                                                                                                  \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"                     \
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

static int tls_error(struct sd_err *err, const char *option, const char *file, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return sd_err_set(err, SD_ERR_PERMANENT, "%s: \"%.200s\" %s%s%s", option, file, what, reason ? ": " : "", reason ? reason : "");
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	return 0;
}

static int use_chain(SSL_CTX *ctx, BIO *in)
{
	X509 *cert = PEM_read_bio_X509_AUX(in, NULL, no_passphrase, NULL);
	int ok = cert && SSL_CTX_use_certificate(ctx, cert) == 1;

	X509_free(cert);
	while (ok && (cert = PEM_read_bio_X509(in, NULL, no_passphrase, NULL))) {
		ok = SSL_CTX_add1_chain_cert(ctx, cert) == 1;
		X509_free(cert);
	}
	if (ok && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
		ERR_clear_error(); /* the end of the file */
	return ok && ERR_peek_last_error() == 0 ? 0 : -1;
}

static int use_key(SSL_CTX *ctx, BIO *in)
{
	EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL);
	int ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1;

	EVP_PKEY_free(key);
	return ok ? 0 : -1;
}

static int with_file(SSL_CTX *ctx, int fd, int (*use)(SSL_CTX *ctx, BIO *in))
{
	BIO *in = BIO_new_fd(fd, BIO_NOCLOSE);
	int r = in ? use(ctx, in) : -1;

	BIO_free(in);
	return r;
}

static const unsigned char http1[] = "\x08http/1.1\x08http/1.0", http1_and_2[] = "\x02h2\x08http/1.1\x08http/1.0";

/* arg is one of the two. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned inlen, void *arg)
{
	const unsigned char *ours = arg;
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, outlen, ours, (unsigned)strlen((const char *)ours), in, inlen) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301, 3.2 */
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int set_up(SSL_CTX *ctx, bool http2)
{
	static const unsigned char id[] = "stepd";

	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, (void *)(http2 ? http1_and_2 : http1));
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(ctx, TLS12_CIPHERS) == 1 &&
			       SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) == 1
		       ? 0
		       : -1;
}

struct ssl_ctx_st *sd_tls_new(int cert_fd, const char *cert_name, int key_fd, const char *key_name, bool http2, struct sd_err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int r;

	ERR_clear_error();
	if (!ctx || set_up(ctx, http2) != 0)
		r = tls_error(err, "http.tls", cert_name, "OpenSSL cannot make a context");
	else if (with_file(ctx, cert_fd, use_chain) != 0)
		r = tls_error(err, "http.tls.cert", cert_name, "is not a certificate chain in PEM");
	else if (with_file(ctx, key_fd, use_key) != 0)
		r = tls_error(err, "http.tls.key", key_name, "is not the certificate's private key in PEM without a passphrase");
	else if (SSL_CTX_check_private_key(ctx) != 1)
		r = tls_error(err, "http.tls.key", key_name, "is not the certificate's private key");
	else
		return ctx;
	(void)r;
	SSL_CTX_free(ctx);
	return NULL;
}

static const char *outdated(const X509 *cert)
{
	time_t soon = time(NULL) + SOON_S;

	if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
		return "is not valid before";
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0)
		return "expired";
	return X509_cmp_time(X509_get0_notAfter(cert), &soon) < 0 ? "expires" : NULL;
}

static void describe(const X509 *cert, const char *cert_name, const char *what, char *text, size_t size)
{
	const ASN1_TIME *at = *what == 'i' ? X509_get0_notBefore(cert) : X509_get0_notAfter(cert);
	char name[128] = "?";
	struct tm tm = {0};

	X509_NAME_oneline(X509_get_subject_name(cert), name, sizeof(name));
	ASN1_TIME_to_tm(at, &tm);
	snprintf(text, size, "http.tls.cert: \"%.200s\": the certificate of %s %s %04d-%02d-%02d %02d:%02d UTC", cert_name, name, what,
		 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min);
}

bool sd_tls_outdated(struct ssl_ctx_st *ctx, const char *cert_name, char *text, size_t size)
{
	const X509 *cert = SSL_CTX_get0_certificate(ctx);
	STACK_OF(X509) *chain = NULL;
	const char *what = cert ? outdated(cert) : NULL;

	SSL_CTX_get0_chain_certs(ctx, &chain);
	for (int i = 0; !what && i < sk_X509_num(chain); i++) { /* of no chain: -1 */
		cert = sk_X509_value(chain, i);
		what = outdated(cert);
	}
	if (what)
		describe(cert, cert_name, what, text, size);
	return what != NULL;
}

void sd_tls_free(struct ssl_ctx_st *ctx)
{
	SSL_CTX_free(ctx);
}
