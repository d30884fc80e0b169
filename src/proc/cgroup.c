/* See cgroup.h; cgroups(7), and the kernel's admin-guide/cgroup-v2.rst for the files' meaning. */
#include "proc/cgroup.h"

#include "base/fdutil.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LEAF "stepd"
#define MAX_TEXT 65536
#define MAX_BOX 64
#define CPU_PERIOD_US 100000 /* the kernel's default; its quota is at least 1000 */

struct leftover {
	struct leftover *next;
	char box[MAX_BOX];
};

struct sd_cgroup {
	char folder[512];
	struct leftover *left; /* dropped, and not empty yet */
};

/* ---- files ---- */

static int open_file(const struct sd_cgroup *c, const char *box, const char *file, int flags)
{
	char path[1024];

	snprintf(path, sizeof path, "%s%s%s/%s", c->folder, *box ? "/" : "", box, file);
	return open(path, flags | O_CLOEXEC);
}

static int put(const struct sd_cgroup *c, const char *box, const char *file, const char *text, struct sd_err *err)
{
	int fd = open_file(c, box, file, O_WRONLY), rc = 0;

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		rc = sd_err_errno(err, errno, "cannot write \"%s\" to %s%s%s/%s", text, c->folder, *box ? "/" : "", box, file);
	sd_close(&fd);
	return rc;
}

/* Text that the caller frees; NULL: not there. */
static char *get(const struct sd_cgroup *c, const char *box, const char *file)
{
	struct sd_buf b = SD_BUF_INIT;
	char path[1024];

	snprintf(path, sizeof path, "%s%s%s/%s", c->folder, *box ? "/" : "", box, file);
	if (sd_read_file(path, MAX_TEXT, &b, NULL) == 0 && b.data != NULL)
		return sd_buf_take(&b, NULL);
	sd_buf_fini(&b);
	return NULL;
}

int64_t sd_cgroup_field(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = text; *p != '\0';) {
		if (strncmp(p, name, len) == 0 && p[len] == ' ')
			return strtoll(p + len + 1, NULL, 10);
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	return -1;
}

static int64_t number(const struct sd_cgroup *c, const char *box, const char *file, const char *name)
{
	char *text = get(c, box, file);
	int64_t v = text == NULL ? -1 : name != NULL ? sd_cgroup_field(text, name) : strtoll(text, NULL, 10);

	free(text);
	return v;
}

/* ---- finding our own ---- */

/* "36 25 0:31 ROOT POINT OPTIONS … - cgroup2 …" */
static bool find_mount(const char *mountinfo, char root[256], char point[256])
{
	for (const char *p = mountinfo; *p != '\0';) {
		size_t len = strcspn(p, "\n");
		const char *type = memmem(p, len, " - cgroup2 ", 11);

		if (type != NULL && sscanf(p, "%*d %*d %*s %255s %255s", root, point) == 2)
			return true;
		p += len;
		p += *p == '\n';
	}
	return false;
}

bool sd_cgroup_find(const char *cgroup, const char *mountinfo, char *out, size_t size, bool *top)
{
	const char *own = strncmp(cgroup, "0::", 3) == 0 ? cgroup : strstr(cgroup, "\n0::");
	char root[256], point[256], path[512];
	size_t n;

	if (own == NULL || !find_mount(mountinfo, root, point))
		return false;
	own += *own == '\n' ? 4 : 3;
	n = strcspn(own, "\n");
	if (n >= sizeof path || *own != '/')
		return false;
	memcpy(path, own, n);
	path[n] = '\0';
	if (strstr(path, "/..") != NULL) /* outside of what we see */
		return false;
	n = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (n > 0 && (strncmp(path, root, n) != 0 || (path[n] != '/' && path[n] != '\0')))
		return false;
	*top = strcmp(path + n, "") == 0 || strcmp(path + n, "/") == 0;
	return (size_t)snprintf(out, size, "%s%s", point, *top ? "" : path + n) < size;
}

static bool is_delegated(const char *folder)
{
	char v[8];

	return (getxattr(folder, "user.delegate", v, sizeof v) == 1 && v[0] == '1') ||
	       (getxattr(folder, "trusted.delegate", v, sizeof v) == 1 && v[0] == '1');
}

/* systemd before 251 says so to root alone; but it gives the group, and not the one above, to the unit's user. */
static bool was_given(const char *folder)
{
	struct stat own, above;
	char parent[600];

	snprintf(parent, sizeof parent, "%s/..", folder);
	return geteuid() != 0 && stat(folder, &own) == 0 && stat(parent, &above) == 0 && own.st_uid == geteuid() &&
	       above.st_uid != geteuid();
}

/* Of all processes in it we are the only one. */
static bool is_ours_alone(const char *folder)
{
	struct sd_buf b = SD_BUF_INIT;
	char path[600], *end;
	bool alone = false;

	snprintf(path, sizeof path, "%s/cgroup.procs", folder);
	if (sd_read_file(path, MAX_TEXT, &b, NULL) == 0 && b.data != NULL)
		alone = strtol(b.data, &end, 10) == getpid() && strcmp(end, "\n") == 0;
	sd_buf_fini(&b);
	return alone;
}

struct sd_cgroup *sd_cgroup_open(struct sd_err *err)
{
	struct sd_buf cgroup = SD_BUF_INIT, mounts = SD_BUF_INIT;
	char folder[512];
	bool top = false, found = sd_read_file("/proc/self/cgroup", MAX_TEXT, &cgroup, NULL) == 0 &&
		     sd_read_file("/proc/self/mountinfo", 16 * MAX_TEXT, &mounts, NULL) == 0 && cgroup.data != NULL &&
		     mounts.data != NULL && sd_cgroup_find(cgroup.data, mounts.data, folder, sizeof folder, &top);

	sd_buf_fini(&cgroup);
	sd_buf_fini(&mounts);
	if (!found) {
		sd_err_set(err, SD_ERR_PERMANENT, "there is no cgroup version 2 here");
		return NULL;
	}
	if (!is_delegated(folder) && !was_given(folder) && !(top && is_ours_alone(folder))) {
		sd_err_set(err, SD_ERR_PERMANENT, "%s is not delegated to stepd", folder);
		return NULL;
	}
	return sd_cgroup_open_at(folder, err);
}

/* ---- taking over ---- */

/* Everyone in the group, into the leaf.  New ones may come while we move the others. */
static int move_all(const struct sd_cgroup *c, struct sd_err *err)
{
	for (int round = 0; round < 10; round++) {
		char *text = get(c, "", "cgroup.procs"), *end, pid[24];
		bool any = false;

		for (char *p = text; p != NULL && strtol(p, &end, 10) > 0 && end != p; p = end) {
			any = true;
			snprintf(pid, sizeof pid, "%ld", strtol(p, NULL, 10));
			if (put(c, LEAF, "cgroup.procs", pid, err) != 0 && err->errnum != ESRCH) {
				free(text);
				return -1;
			}
		}
		free(text);
		if (!any)
			return 0;
	}
	return sd_err_set(err, SD_ERR_PERMANENT, "processes keep coming into %s", c->folder);
}

static int make(const struct sd_cgroup *c, const char *box, struct sd_err *err)
{
	char path[1024];

	snprintf(path, sizeof path, "%s/%s", c->folder, box);
	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		return sd_err_errno(err, errno, "cannot make %s", path);
	return 0;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = text; (p = strstr(p, word)) != NULL; p += len)
		if ((p == text || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\n' || p[len] == '\0'))
			return true;
	return false;
}

static bool has_controller(const struct sd_cgroup *c, const char *name)
{
	char *have = get(c, "", "cgroup.controllers");
	bool has = have != NULL && has_word(have, name);

	free(have);
	return has;
}

static int take_over(const struct sd_cgroup *c, struct sd_err *err)
{
	if (!has_controller(c, "memory"))
		return sd_err_set(err, SD_ERR_PERMANENT, "the memory controller is not available in %s", c->folder);
	if (make(c, LEAF, err) != 0 || move_all(c, err) != 0 || put(c, "", "cgroup.subtree_control", "+memory", err) != 0)
		return -1;
	return 0;
}

struct sd_cgroup *sd_cgroup_open_at(const char *folder, struct sd_err *err)
{
	struct sd_cgroup *c = sd_xcalloc(1, sizeof *c);

	snprintf(c->folder, sizeof c->folder, "%s", folder);
	if (take_over(c, err) == 0)
		return c;
	free(c);
	return NULL;
}

int sd_cgroup_give(struct sd_cgroup *c, uid_t uid, gid_t gid, struct sd_err *err)
{
	static const char *const files[] = {"", "/cgroup.procs", "/cgroup.subtree_control", "/" LEAF, "/" LEAF "/cgroup.procs"};
	char path[1024];

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		snprintf(path, sizeof path, "%s%s", c->folder, files[i]);
		if (chown(path, uid, gid) != 0)
			return sd_err_errno(err, errno, "cannot give %s to the user", path);
	}
	return 0;
}

const char *sd_cgroup_folder(const struct sd_cgroup *c)
{
	return c->folder;
}

void sd_cgroup_close(struct sd_cgroup *c)
{
	if (c == NULL)
		return;
	sd_cgroup_sweep(c);
	while (c->left != NULL) {
		struct leftover *l = c->left;

		c->left = l->next;
		free(l);
	}
	free(c);
}

/* ---- boxes ---- */

static bool try_remove(const struct sd_cgroup *c, const char *box)
{
	char path[1024];

	snprintf(path, sizeof path, "%s/%s", c->folder, box);
	return rmdir(path) == 0 || errno != EBUSY;
}

int sd_cgroup_box(struct sd_cgroup *c, const char *box, int64_t memory_max, struct sd_err *err)
{
	char max[24] = "max";
	struct sd_err ignored; /* a kernel that does not count swap has no such file */

	if (memory_max > 0)
		snprintf(max, sizeof max, "%lld", (long long)memory_max);
	if (make(c, box, err) != 0)
		return -1;
	put(c, box, "memory.swap.max", memory_max > 0 ? "0" : "max", &ignored);
	if (put(c, box, "memory.max", max, err) == 0 && put(c, box, "memory.oom.group", "1", err) == 0)
		return 0;
	try_remove(c, box);
	return -1;
}

int sd_cgroup_cpus(struct sd_cgroup *c, const char *box, double cpus, struct sd_err *err)
{
	char quota[48];

	if (!has_controller(c, "cpu"))
		return sd_err_set(err, SD_ERR_PERMANENT, "the cpu controller is not available in %s (in a unit: Delegate=memory cpu)", c->folder);
	snprintf(quota, sizeof quota, "%.0f %d", cpus * CPU_PERIOD_US, CPU_PERIOD_US);
	if (put(c, "", "cgroup.subtree_control", "+cpu", err) != 0)
		return -1;
	return put(c, box, "cpu.max", quota, err);
}

int sd_cgroup_enter(const struct sd_cgroup *c, const char *box, pid_t pid, struct sd_err *err)
{
	char text[16];

	snprintf(text, sizeof text, "%d", pid);
	return put(c, box, "cgroup.procs", text, err);
}

static int64_t not_negative(int64_t v)
{
	return v > 0 ? v : 0;
}

bool sd_cgroup_usage(const struct sd_cgroup *c, const char *box, struct sd_usage *out)
{
	char *stat = get(c, box, "memory.stat");
	int64_t cpu = number(c, box, "cpu.stat", "usage_usec");
	bool known = stat != NULL && cpu >= 0 && sd_cgroup_field(stat, "anon") >= 0;

	*out = (struct sd_usage){.cpu_us = not_negative(cpu), .processes = 1};
	if (known)
		out->memory = not_negative(sd_cgroup_field(stat, "anon")) + not_negative(sd_cgroup_field(stat, "shmem")) +
			      not_negative(number(c, box, "memory.swap.current", NULL));
	free(stat);
	return known;
}

bool sd_cgroup_out_of_memory(const struct sd_cgroup *c, const char *box)
{
	return number(c, box, "memory.events", "oom_kill") > 0 && number(c, box, "memory.events", "oom") > 0;
}

void sd_cgroup_drop(struct sd_cgroup *c, const char *box)
{
	struct leftover *l;
	struct sd_err err;

	put(c, box, "cgroup.kill", "1", &err); /* a kernel before 5.14 has none: then the end of the process group has to do */
	if (try_remove(c, box))
		return;
	l = sd_xcalloc(1, sizeof *l);
	snprintf(l->box, sizeof l->box, "%s", box);
	l->next = c->left;
	c->left = l;
}

void sd_cgroup_sweep(struct sd_cgroup *c)
{
	struct leftover **p = &c->left;

	while (*p != NULL) {
		struct leftover *l = *p;

		if (!try_remove(c, l->box)) {
			p = &l->next;
			continue;
		}
		*p = l->next;
		free(l);
	}
}
