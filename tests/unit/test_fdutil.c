/* Whole reads and writes, whole files, atomic writing, directories; each with what can go wrong. */
#include "base/fdutil.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char top[] = "/tmp/stepd-fdutil.XXXXXX";
static char place[256];

static const char *at(const char *name)
{
	snprintf(place, sizeof place, "%s/%s", top, name);
	return place;
}

static int make_top(void **state)
{
	return mkdtemp(top) != NULL ? 0 : -1;
}

static int remove_top(void **state)
{
	char command[300];

	snprintf(command, sizeof command, "rm -rf '%s'", top);
	return system(command);
}

static void test_flags(void **state)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(sd_fd_nonblock(fds[0], NULL), 0);
	assert_int_equal(sd_fd_cloexec(fds[0], NULL), 0);
	assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	errno = EXDEV;
	sd_close(&fds[0]);
	sd_close(&fds[0]);
	sd_close(&fds[1]);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(fds[0], -1);
	assert_int_equal(sd_fd_nonblock(-1, NULL), -1);
}

/* More than a pipe holds, so that the writer writes in pieces. */
static void test_through_a_pipe(void **state)
{
	const size_t len = 1 << 20;
	char *sent = sd_xmalloc(len), *got = sd_xmalloc(len + 1);
	struct sd_err err;
	size_t had = 0;
	int fds[2], status;
	pid_t child;

	for (size_t i = 0; i < len; i++)
		sent[i] = (char)(i * 7 + i / 1000);
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		int rc;

		close(fds[0]);
		rc = sd_write_full(fds[1], sent, len, NULL);
		free(sent); /* valgrind looks at the child's end too */
		free(got);
		_exit(rc == 0 ? 0 : 1);
	}
	sd_close(&fds[1]);
	for (ssize_t n; (n = read(fds[0], got + had, len + 1 - had)) != 0; had += (size_t)n)
		assert_true(n > 0);
	assert_int_equal(had, len);
	assert_memory_equal(sent, got, len);
	sd_close(&fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	free(sent);
	free(got);
	assert_int_equal(sd_write_full(-1, "x", 1, &err), -1);
	assert_int_equal(err.errnum, EBADF);
}

/* It takes what fits, goes on where it stopped, and says when nobody reads any more. */
static void test_send_rest(void **state)
{
	char got[65536];
	struct sd_buf b = SD_BUF_INIT;
	size_t sent = 0, stopped = 0, had = 0;
	int fds[2], rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(sd_send_rest(fds[0], &b, &sent), 1);
	for (int i = 0; i < 1000000; i++)
		sd_buf_chr(&b, (char)(i * 7 + i / 1000));
	while ((rc = sd_send_rest(fds[0], &b, &sent)) == 0) {
		ssize_t n = read(fds[1], got, sizeof got);

		assert_true(sent < b.len && n > 0);
		assert_memory_equal(got, b.data + had, (size_t)n);
		had += (size_t)n;
		stopped++;
	}
	assert_int_equal(rc, 1);
	assert_int_equal(sent, b.len);
	assert_true(stopped > 0);
	sd_close(&fds[1]);
	sent = 5;
	assert_int_equal(sd_send_rest(fds[0], &b, &sent), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(sent, 5);
	sd_close(&fds[0]);
	sd_buf_fini(&b);
}

static void test_read_file(void **state)
{
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	char *path = sd_xstrdup(at("file"));

	assert_int_equal(sd_write_file_atomic(path, "0123456789", 10, 0600, &err), 0);
	sd_buf_str(&b, "before ");
	assert_int_equal(sd_read_file(path, 10, &b, &err), 0);
	assert_string_equal(b.data, "before 0123456789");
	sd_buf_reset(&b);
	assert_int_equal(sd_read_file(path, 9, &b, &err), -1);
	assert_non_null(strstr(err.message, "larger than 9 bytes"));
	assert_int_equal(sd_read_file("/dev/zero", 1 << 20, &b, &err), -1);
	sd_buf_reset(&b);
	assert_int_equal(sd_read_file("/proc/self/stat", 4096, &b, &err), 0); /* a file that says its size is 0 */
	assert_true(b.len > 0);
	assert_int_equal(sd_read_file(at("none"), 10, &b, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	assert_non_null(strstr(err.message, place));
	assert_int_equal(sd_read_file(top, 10, &b, &err), -1);
	assert_int_equal(err.errnum, EISDIR);
	sd_buf_fini(&b);
	free(path);
}

static void test_write_atomic(void **state)
{
	char *path = sd_xstrdup(at("conf")), *tmp = sd_xstrdup(at("conf.tmp")), *other = sd_xstrdup(at("other"));
	struct sd_buf b = SD_BUF_INIT;
	struct sd_err err;
	struct stat st;
	mode_t mask = umask(077);

	assert_int_equal(sd_write_file_atomic(path, "one", 3, 0644, &err), 0);
	umask(mask);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644); /* whatever the umask */
	assert_int_equal(sd_write_file_atomic(other, "mine", 4, 0600, &err), 0);
	assert_int_equal(symlink(other, tmp), 0); /* a link laid there is not followed */
	assert_int_equal(sd_write_file_atomic(path, "two!", 4, 0600, &err), 0);
	assert_int_equal(sd_read_file(path, 10, &b, &err), 0);
	assert_string_equal(b.data, "two!");
	sd_buf_reset(&b);
	assert_int_equal(sd_read_file(other, 10, &b, &err), 0);
	assert_string_equal(b.data, "mine");
	assert_int_equal(lstat(tmp, &st), -1);
	assert_int_equal(sd_write_file_atomic(at("no/such/folder"), "x", 1, 0600, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	assert_int_equal(sd_write_file_atomic("/dev/full/x", "x", 1, 0600, &err), -1);
	sd_buf_fini(&b);
	free(path);
	free(tmp);
	free(other);
}

static void test_mkdir_p(void **state)
{
	struct sd_err err;
	struct stat st;

	assert_int_equal(sd_mkdir_p(at("a/b//c/"), 0700, &err), 0);
	assert_int_equal(stat(place, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(sd_mkdir_p(at("a/b/c"), 0700, &err), 0);
	assert_int_equal(sd_mkdir_p("/", 0700, &err), 0);
	assert_int_equal(sd_mkdir_p("/tmp", 0700, &err), 0);
	assert_int_equal(sd_write_file_atomic(at("plain"), "", 0, 0600, &err), 0);
	assert_int_equal(sd_mkdir_p(at("plain"), 0700, &err), -1);
	assert_int_equal(err.errnum, ENOTDIR);
	assert_int_equal(sd_mkdir_p(at("plain/x"), 0700, &err), -1);
	assert_int_equal(sd_mkdir_p("/proc/no/such", 0700, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flags),	     cmocka_unit_test(test_through_a_pipe), cmocka_unit_test(test_send_rest),
		cmocka_unit_test(test_read_file),
		cmocka_unit_test(test_write_atomic), cmocka_unit_test(test_mkdir_p),
	};

	return cmocka_run_group_tests(tests, make_top, remove_top);
}
