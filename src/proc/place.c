/* Identity of a process over the life of the machine: see place.h. */
#include "proc/place.h"

#include "base/buf.h"
#include "base/fdutil.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void sd_place_here(char *out, size_t len)
{
	struct sd_buf boot = SD_BUF_INIT;
	char ns[64];
	ssize_t n = readlink("/proc/self/ns/pid", ns, sizeof ns - 1);

	out[0] = '\0';
	if (n > 0 && sd_read_file("/proc/sys/kernel/random/boot_id", 128, &boot, NULL) == 0) {
		ns[n] = '\0';
		snprintf(out, len, "%.*s/%s", (int)strcspn(boot.data, "\n"), boot.data, ns);
	}
	sd_buf_fini(&boot);
}

int64_t sd_place_started(pid_t pid)
{
	struct sd_buf stat = SD_BUF_INIT;
	char path[32], state = 'Z';
	long long started = -1;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (sd_read_file(path, 4096, &stat, NULL) == 0) {
		const char *rest = strrchr(stat.data, ')'); /* the name before it may hold anything */
		if (rest == NULL ||
		    sscanf(rest, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld", &state,
			   &started) != 2 ||
		    state == 'Z' || state == 'X')
			started = -1;
	}
	sd_buf_fini(&stat);
	return started;
}

bool sd_place_lives(pid_t pid, int64_t started)
{
	int64_t now = pid > 0 ? sd_place_started(pid) : -1;

	if (now >= 0)
		return started < 0 || now == started;
	return pid > 0 && kill(pid, 0) != 0 && errno == EPERM; /* ours we can see: it is a zombie, or none */
}
