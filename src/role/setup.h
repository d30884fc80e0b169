/* What is done once, before the loop: user, log, sockets; and what `--check` does instead of a loop. */
#ifndef SD_ROLE_SETUP_H
#define SD_ROLE_SETUP_H

#include "conf/conf.h"
#include "proc/user.h"

/*
 * Who to become.  1: *user is filled; 0: stay who we are.  Started as root: conf->user, else for an embedded PostgreSQL
 * (which refuses root) the first of stepd, postgres, nobody; else root stays.
 */
int sd_setup_user(const struct sd_conf *conf, bool embedded, struct sd_user *user, struct sd_err *err) SD_MUST_CHECK;
/*
 * Who the workers of each pool are to be: users[i] belongs to conf->pools[i], with an empty name where a pool runs as
 * everything else does.  *any: there is one to become, so that the supervisor has to stay root.
 */
int sd_setup_pool_users(const struct sd_conf *conf, bool embedded, struct sd_user users[SD_CONF_MAX_POOLS], bool *any,
			struct sd_err *err) SD_MUST_CHECK;
/* Level and format of the log, from the first line on. */
void sd_setup_log_format(const struct sd_conf *conf);
/* Level, format and file of the log; the file is made user's (NULL: it is not). */
int sd_setup_log(const struct sd_conf *conf, const struct sd_user *user, struct sd_err *err) SD_MUST_CHECK;
/* http_tls.c: the files of http.tls, for --check.  What is wrong goes to stderr, with its place in the configuration; how many problems (warnings are none). */
int sd_setup_check_tls(const struct sd_conf *conf);

#endif
