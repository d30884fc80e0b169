/* Names of jobs; see token.h. */
#include "http/token.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 16

static void crypt_block(const unsigned char *key, const unsigned char in[BLOCK], unsigned char out[BLOCK], int encrypt)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n = 0;

	if (!c || EVP_CipherInit_ex(c, EVP_aes_256_ecb(), NULL, key, NULL, encrypt) != 1 || EVP_CIPHER_CTX_set_padding(c, 0) != 1 ||
	    EVP_CipherUpdate(c, out, &n, in, BLOCK) != 1 || n != BLOCK)
		abort(); /* no memory, or a libcrypto without AES */
	EVP_CIPHER_CTX_free(c);
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool from_hex(const char *s, unsigned char *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int hi = digit(s[2 * i]), lo = hi < 0 ? -1 : digit(s[2 * i + 1]);

		if (lo < 0)
			return false;
		out[i] = (unsigned char)(hi << 4 | lo);
	}
	return true;
}

void sd_token_make(const unsigned char key[SD_TOKEN_KEY], uint64_t id, char out[SD_TOKEN_LEN + 1])
{
	unsigned char plain[BLOCK] = {0}, block[BLOCK];

	for (int i = 0; i < 8; i++)
		plain[i] = (unsigned char)(id >> (56 - 8 * i));
	crypt_block(key, plain, block, 1);
	for (int i = 0; i < BLOCK; i++) {
		out[2 * i] = "0123456789abcdef"[block[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[block[i] & 15];
	}
	out[SD_TOKEN_LEN] = '\0';
}

bool sd_token_read(const unsigned char key[SD_TOKEN_KEY], const char *token, uint64_t *id)
{
	static const unsigned char zero[8];
	unsigned char block[BLOCK], plain[BLOCK];

	if (!from_hex(token, block, BLOCK))
		return false;
	crypt_block(key, block, plain, 0);
	*id = 0;
	for (int i = 0; i < 8; i++)
		*id = *id << 8 | plain[i];
	return memcmp(plain + 8, zero, sizeof(zero)) == 0;
}

bool sd_token_shape(const char *s, size_t n)
{
	if (n != SD_TOKEN_LEN)
		return false;
	for (size_t i = 0; i < n; i++)
		if (digit(s[i]) < 0)
			return false;
	return true;
}

bool sd_token_key(const char *hex, unsigned char key[SD_TOKEN_KEY])
{
	return strlen(hex) == 2 * SD_TOKEN_KEY && from_hex(hex, key, SD_TOKEN_KEY);
}
