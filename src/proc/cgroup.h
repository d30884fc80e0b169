/*
 * Control groups, version 2: a box for each worker that has limits, so that
 * the kernel counts all that a handler starts, wherever it hides, and stops
 * what is faster than we look.
 *
 * Only where the daemon's own group was handed to it: systemd's Delegate=, or
 * a container whose only process it is, which sees no group above its own.  A group that holds processes can have
 * no limited children, so the daemon moves itself and what it started into one
 * leaf, "stepd", and each box is another, "worker-SLOT-LIFE".
 *
 * Who has no cgroup does without: see proc/usage.h.
 */
#ifndef SD_PROC_CGROUP_H
#define SD_PROC_CGROUP_H

#include "base/err.h"
#include "proc/usage.h"

#include <stdbool.h>
#include <sys/types.h>

struct sd_cgroup;

/* Take over our own group.  NULL with the reason in *err: it is not ours, or cannot do what we need.  Call it while root. */
struct sd_cgroup *sd_cgroup_open(struct sd_err *err);
/* The same with a given folder, whoever it belongs to. */
struct sd_cgroup *sd_cgroup_open_at(const char *folder, struct sd_err *err);
/* Before the daemon becomes another user: what it needs later is that user's. */
int sd_cgroup_give(struct sd_cgroup *c, uid_t uid, gid_t gid, struct sd_err *err) SD_MUST_CHECK;
const char *sd_cgroup_folder(const struct sd_cgroup *c);
void sd_cgroup_close(struct sd_cgroup *c); /* boxes that are empty go; NULL is fine */

/* A box with this much memory at most (0: any), and no swap beside it; when that is used up all that is in it is killed. */
int sd_cgroup_box(struct sd_cgroup *c, const char *box, int64_t memory_max, struct sd_err *err) SD_MUST_CHECK;
/* What is in it gets that many CPUs at most. */
int sd_cgroup_cpus(struct sd_cgroup *c, const char *box, double cpus, struct sd_err *err) SD_MUST_CHECK;
/* Put a process into it, which has started no other yet. */
int sd_cgroup_enter(const struct sd_cgroup *c, const char *box, pid_t pid, struct sd_err *err) SD_MUST_CHECK;
/* As sd_usage_of, of all that ever was in it; peak is not told.  false: it cannot be read. */
bool sd_cgroup_usage(const struct sd_cgroup *c, const char *box, struct sd_usage *out);
/* Did the kernel kill somebody in it because its own memory was used up?  Not that of a group above, or the machine's. */
bool sd_cgroup_out_of_memory(const struct sd_cgroup *c, const char *box);
/* Kill what is left in it and remove it, now or with a later sweep. */
void sd_cgroup_drop(struct sd_cgroup *c, const char *box);
void sd_cgroup_sweep(struct sd_cgroup *c);

/* The number behind a name in a file of "name number" lines; -1: it is not there. */
int64_t sd_cgroup_field(const char *text, const char *name);
/* The folder of our group from the texts of /proc/self/cgroup and /proc/self/mountinfo; top: we see none above. false: there is none. */
bool sd_cgroup_find(const char *cgroup, const char *mountinfo, char *out, size_t size, bool *top);

#endif
