/*
 * What a process uses, together with all that it started: memory that is its
 * own, and CPU time.  Read from /proc, where anyone may look; meant for the
 * supervisor, which looks at its workers ten times a second.
 *
 * A family is a process, its descendants, and of the orphans (children of the
 * caller, who is the subreaper) those of its process group.  What has left both
 * is not found here.
 *
 * Memory counts what is anonymous, shared memory, and what of it is swapped
 * out; not pages of files, which the kernel can drop.  Pages that a fork shares
 * count once if the kernel lets us see which they are, else for each process.
 */
#ifndef SD_PROC_USAGE_H
#define SD_PROC_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* An orphan; its group says whose it was. */
struct sd_orphan {
	pid_t pid, pgrp;
};

struct sd_usage {
	int64_t memory;	 /* bytes */
	int64_t sum;	 /* the same with shared pages counted for each process */
	int64_t peak;	 /* bytes: the most that the process alone ever had resident, files included */
	int64_t cpu_us;	 /* of the living and of the dead that were waited for */
	unsigned processes; /* 0: the process is gone */
};

/* memory false: only CPU is read.  Above `worth` bytes shared pages are told apart, which takes longer. */
void sd_usage_of(pid_t pid, const struct sd_orphan *orphans, size_t n, bool memory, int64_t worth, struct sd_usage *out);
/* The caller's children, but those for which known() says true; at most max. */
size_t sd_usage_orphans(struct sd_orphan *out, size_t max, bool (*known)(const void *arg, pid_t pid), const void *arg);

/* One field each of the texts under /proc; -1: it is not there.  Of stat: number from 1 as in proc(5), from 3 on. */
int64_t sd_proc_stat_field(const char *stat, int number);
int64_t sd_proc_status_kb(const char *status, const char *name); /* "VmHWM" */

/* Resident bytes of a process, with those of mapped files or without; 0 when unknown. */
int64_t sd_usage_resident(pid_t pid, bool files);

#endif
