/* See usage.h.  Every number is the kernel's; a process may be gone between any two looks. */
#include "proc/usage.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FAMILY 512 /* processes; beyond it those that were found count */

enum { STAT_PPID = 4, STAT_PGRP = 5, STAT_UTIME = 14, STAT_CSTIME = 17 };

int64_t sd_proc_stat_field(const char *stat, int number)
{
	const char *p = strrchr(stat, ')'); /* the name before it may hold anything */

	if (p == NULL || number < 3)
		return -1;
	for (int i = 3; i <= number; i++) {
		p = strchr(p + 1, ' ');
		if (p == NULL)
			return -1;
	}
	if (number == 3)
		return p[1];
	return strtoll(p + 1, NULL, 10);
}

int64_t sd_proc_status_kb(const char *status, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = status; p != NULL && *p != '\0'; p = strchr(p, '\n'), p = p != NULL ? p + 1 : NULL)
		if (strncmp(p, name, len) == 0 && p[len] == ':')
			return strtoll(p + len + 1, NULL, 10);
	return -1;
}

/* false: it is gone, or not for our eyes. */
static bool read_text(char *out, size_t size, const char *fmt, int pid, int tid)
{
	char path[64];
	ssize_t n = 0, len = 0;
	int fd;

	snprintf(path, sizeof path, fmt, pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	while ((size_t)len < size - 1 && (n = read(fd, out + len, size - 1 - (size_t)len)) > 0)
		len += n;
	close(fd);
	out[len] = '\0';
	return n >= 0 && len > 0;
}

/* ---- families ---- */

struct family {
	pid_t pid[MAX_FAMILY];
	size_t n;
};

static void add(struct family *f, pid_t pid)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->pid[i] == pid)
			return;
	if (f->n < MAX_FAMILY)
		f->pid[f->n++] = pid;
}

static void add_listed(struct family *f, const char *children)
{
	char *end;

	for (const char *p = children;; p = end) {
		long pid = strtol(p, &end, 10);

		if (end == p || pid <= 0)
			return;
		add(f, (pid_t)pid);
	}
}

/* The children of each of its threads. */
static void add_children(struct family *f, pid_t pid)
{
	char path[32], text[8192];
	struct dirent *e;
	DIR *tasks;

	snprintf(path, sizeof path, "/proc/%d/task", pid);
	tasks = opendir(path);
	if (tasks == NULL)
		return;
	while ((e = readdir(tasks)) != NULL)
		if (e->d_name[0] != '.' && read_text(text, sizeof text, "/proc/%d/task/%d/children", pid, atoi(e->d_name)))
			add_listed(f, text);
	closedir(tasks);
}

static void find_family(struct family *f, pid_t pid, const struct sd_orphan *orphans, size_t n)
{
	f->n = 0;
	add(f, pid);
	for (size_t i = 0; i < n; i++)
		if (orphans[i].pgrp == pid)
			add(f, orphans[i].pid);
	for (size_t i = 0; i < f->n; i++) /* it grows meanwhile */
		add_children(f, f->pid[i]);
}

size_t sd_usage_orphans(struct sd_orphan *out, size_t max, bool (*known)(const void *arg, pid_t pid), const void *arg)
{
	struct family f = {.n = 0};
	char stat[1024];
	size_t n = 0;

	add_children(&f, getpid());
	for (size_t i = 0; i < f.n && n < max; i++)
		if (!known(arg, f.pid[i]) && read_text(stat, sizeof stat, "/proc/%d/stat", f.pid[i], 0))
			out[n++] = (struct sd_orphan){f.pid[i], (pid_t)sd_proc_stat_field(stat, STAT_PGRP)};
	return n;
}

/* ---- one process ---- */

static int64_t kb(const char *text, const char *name)
{
	int64_t v = sd_proc_status_kb(text, name);

	return v > 0 ? v * 1024 : 0;
}

/* What it would free if it were alone, counting its part of what it shares. */
static int64_t own_part(pid_t pid, int64_t fallback)
{
	char text[4096];

	if (!read_text(text, sizeof text, "/proc/%d/smaps_rollup", pid, 0) || sd_proc_status_kb(text, "Pss_Anon") < 0)
		return fallback;
	return kb(text, "Pss_Anon") + kb(text, "Pss_Shmem") + kb(text, "SwapPss");
}

static int64_t memory_of(pid_t pid, int64_t *peak)
{
	char text[8192];

	if (!read_text(text, sizeof text, "/proc/%d/status", pid, 0))
		return 0;
	*peak = kb(text, "VmHWM");
	return kb(text, "RssAnon") + kb(text, "RssShmem") + kb(text, "VmSwap");
}

static bool cpu_of(pid_t pid, int64_t *us)
{
	static long per_second;
	int64_t ticks = 0;
	char stat[1024];

	if (per_second == 0)
		per_second = sysconf(_SC_CLK_TCK);
	if (!read_text(stat, sizeof stat, "/proc/%d/stat", pid, 0))
		return false;
	for (int field = STAT_UTIME; field <= STAT_CSTIME; field++) {
		int64_t v = sd_proc_stat_field(stat, field);

		ticks += v > 0 ? v : 0;
	}
	*us = ticks * SD_SEC / per_second;
	return true;
}

void sd_usage_of(pid_t pid, const struct sd_orphan *orphans, size_t n, bool memory, int64_t worth, struct sd_usage *out)
{
	int64_t each[MAX_FAMILY], peak, us;
	struct family f;

	*out = (struct sd_usage){0};
	find_family(&f, pid, orphans, n);
	for (size_t i = 0; i < f.n; i++) {
		each[i] = 0;
		if (!cpu_of(f.pid[i], &us))
			continue;
		out->processes++;
		out->cpu_us += us;
		peak = 0;
		each[i] = memory ? memory_of(f.pid[i], &peak) : 0;
		out->memory += each[i];
		if (i == 0)
			out->peak = peak;
	}
	out->sum = out->memory;
	if (out->memory <= worth || out->processes < 2)
		return;
	out->memory = 0;
	for (size_t i = 0; i < f.n; i++)
		out->memory += each[i] > 0 ? own_part(f.pid[i], each[i]) : 0;
}

/* The file is the kernel's, the digits are still read with care. */
int64_t sd_usage_resident(pid_t pid, bool files)
{
	char path[40], text[128], *p;
	int64_t pages;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	strtoll(text, &p, 10);
	pages = strtoll(p, &p, 10);
	return (files ? pages : pages - strtoll(p, NULL, 10)) * sysconf(_SC_PAGESIZE);
}
