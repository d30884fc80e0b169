/* The supervisor: everything of `stepd` but its command line. */
#ifndef SD_ROLE_SUPERVISOR_H
#define SD_ROLE_SUPERVISOR_H

#include "conf/conf.h"

struct sd_supervise {
	struct sd_conf *conf;	  /* taken */
	const char *conf_file;	  /* read again at a reload; NULL: built-in defaults */
	const char *embedded_dir; /* NULL: the database of conf */
};

/* Run until told to stop; returns the exit code of the daemon. */
int sd_supervise(const struct sd_supervise *what);

/*
 * `stepd --check` behind the configuration: load every step in a child, as the daemon would, and print each problem
 * as "file: message".  Returns the number of problems, -1 when it could not be done (said on stderr).
 */
int sd_supervise_check(const struct sd_conf *conf, bool embedded);

#endif
