/*
 * Pools against steps: what only shows when both are known.
 */
#ifndef SD_ROLE_POOLS_H
#define SD_ROLE_POOLS_H

#include "base/buf.h"
#include "conf/conf.h"
#include "step/manifest.h"

/*
 * Errors, a line each as `file:line:col: message`, go to errors: a pool names a
 * queue or step that there is none of.  Returns how many.  Warnings go to
 * warnings: work that no pool of this configuration does; another node may.
 */
size_t sd_pools_check(const struct sd_conf *conf, const struct sd_manifest *m, struct sd_buf *errors, struct sd_buf *warnings);

#endif
