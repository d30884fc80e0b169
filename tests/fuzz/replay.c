/*
 * Gives every file of a corpus to the fuzzer's entry point, each also cut in the
 * middle and with one byte changed.  The program's name says which corpus:
 * replay_json reads tests/fuzz/corpus/json below $srcdir.  Without that folder it
 * takes its arguments for files.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A copy of exactly len bytes, so that a sanitizer sees the first byte read too far. */
static void give(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int replay(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (f == NULL) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	len = fread(data, 1, sizeof data, f);
	fclose(f);
	give(data, len);
	for (size_t cut = 0; cut < len; cut += len / 16 + 1)
		give(data, cut);
	for (size_t at = 0; at < len; at += len / 16 + 1) {
		data[at] ^= 0x80;
		give(data, len);
		data[at] ^= 0x80 ^ 0x04;
		give(data, len);
		data[at] ^= 0x04;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *top = getenv("srcdir"), *subject = strrchr(argv[0], '_');
	char folder[4096], path[8192];
	int n = 0, rc = 0;
	struct dirent *e;
	DIR *dir;

	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i]);
	if (argc > 1)
		return rc != 0;
	snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", top != NULL ? top : ".", subject != NULL ? subject + 1 : "");
	dir = opendir(folder);
	if (dir == NULL) {
		fprintf(stderr, "%s: %s\n", folder, strerror(errno));
		return 1;
	}
	while ((e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		rc |= replay(path);
		n++;
	}
	closedir(dir);
	return rc != 0 || n == 0;
}
