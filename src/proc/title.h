/* The title of a process in ps(1): written over argv, which needs the environment moved out of the way first. */
#ifndef SD_PROC_TITLE_H
#define SD_PROC_TITLE_H

#include "base/err.h"

/* Once, early, in main: find the room behind argv and move the environment to the heap. */
void sd_title_init(int argc, char **argv);
void sd_title_set(const char *fmt, ...) SD_PRINTF(1, 2); /* cut to the room there is; without sd_title_init: nothing */

#endif
