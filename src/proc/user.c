/* Leaving root. */
#include "proc/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

int sd_user_find(const char *name, struct sd_user *user, struct sd_err *err)
{
	struct passwd *pw;

	errno = 0;
	pw = getpwnam(name);
	if (pw == NULL)
		return errno != 0 && errno != ENOENT ? sd_err_errno(err, errno, "cannot look up user \"%s\"", name)
						     : sd_err_set(err, SD_ERR_PERMANENT, "there is no user \"%s\"", name);
	snprintf(user->name, sizeof user->name, "%s", name);
	user->uid = pw->pw_uid;
	user->gid = pw->pw_gid;
	snprintf(user->home, sizeof user->home, "%s", pw->pw_dir != NULL ? pw->pw_dir : "/");
	return 0;
}

int sd_user_become(const struct sd_user *user, struct sd_err *err)
{
	if (initgroups(user->name, user->gid) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
	    setresuid(user->uid, user->uid, user->uid) != 0)
		return sd_err_errno(err, errno, "cannot become user \"%s\"", user->name);
	if (user->uid != 0 && setuid(0) == 0)
		return sd_err_set(err, SD_ERR_BUG, "root could be regained after becoming user \"%s\"", user->name);
	return 0;
}
