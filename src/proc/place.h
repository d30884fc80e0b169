/*
 * Where a process runs, precisely enough to say later whether it still does.
 *
 * A daemon killed with -9 leaves its node in the database with a lease that
 * has not expired.  The next start on the same machine need not wait for that:
 * when the machine has not been booted since, and the pid namespace is the
 * same, a pid and its start time say for certain whether the process lives.
 */
#ifndef SD_PROC_PLACE_H
#define SD_PROC_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* "kernel boot id/pid namespace" of this process; "" when /proc does not tell, which is no error. */
void sd_place_here(char *out, size_t len);

/*
 * Does the process that was started then (-1: whichever has that pid) live, as far as can be seen?  One that is there and
 * hidden from us (hidepid, ProtectProc=) does.
 */
bool sd_place_lives(pid_t pid, int64_t started);

/* When pid was started, in clock ticks since boot (proc(5), stat field 22); -1: there is no such process, or it is a zombie. */
int64_t sd_place_started(pid_t pid);

#endif
