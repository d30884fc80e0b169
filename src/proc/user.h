/* Leaving root: a user to run as, found by name, and the step to it that cannot be taken back. */
#ifndef SD_PROC_USER_H
#define SD_PROC_USER_H

#include "base/err.h"

#include <sys/types.h>

struct sd_user {
	char name[64];
	uid_t uid;
	gid_t gid;
	char home[256];
};

/* An unknown name is SD_ERR_PERMANENT. */
int sd_user_find(const char *name, struct sd_user *user, struct sd_err *err) SD_MUST_CHECK;
/* Groups, gid, uid; checked that root cannot be regained. */
int sd_user_become(const struct sd_user *user, struct sd_err *err) SD_MUST_CHECK;

#endif
