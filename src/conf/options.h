/*
 * The table of options: one row for each scalar or list that can be set.  The
 * parser, the defaults, the reload check, the sample file and stepd.yaml(5)
 * follow it; tests/unit/test_conf.c fails when one of them does not.
 */
#ifndef SD_CONF_OPTIONS_H
#define SD_CONF_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sd_option_type {	 /* the member at offset */
	SD_OPTION_STRING,	 /* const char * */
	SD_OPTION_FILE,	 /* const char *; relative to the configuration's directory */
	SD_OPTION_CONNINFO, /* const char *: what libpq takes */
	SD_OPTION_INT,	 /* int */
	SD_OPTION_COUNT,	 /* int64_t */
	SD_OPTION_TIME,	 /* int64_t, milliseconds */
	SD_OPTION_SIZE,	 /* int64_t, bytes */
	SD_OPTION_FACTOR,	 /* double; min and max are thousandths */
	SD_OPTION_WORD,	 /* int: the index in words */
	SD_OPTION_WORDTEXT, /* const char *: one of words */
	SD_OPTION_WORDSET,	 /* unsigned: bit i for words[i]; a list, or one word */
	SD_OPTION_LISTEN,	 /* struct sd_conf_listen */
	SD_OPTION_RATE,	 /* int, with rate_window_ms of the same struct sd_conf_queue */
	SD_OPTION_NAMES,	 /* struct sd_conf_names; a list, or one name */
	SD_OPTION_ENVIRONMENT, /* struct sd_conf_names of NAME=VALUE; a mapping */
	SD_OPTION_DIRS,	 /* const char **, with nsteps; a list, or one directory; relative as above */
};

struct sd_option {
	const char *path; /* keys joined by '.'; "*" is a name that the user chooses */
	enum sd_option_type type;
	size_t offset;	  /* in struct sd_conf; in sd_conf_pool or sd_conf_queue behind a "*" */
	const char *def;  /* as one would write it; NULL: unset */
	int64_t min, max;
	const char *none; /* this word stands for 0, "no limit"; NULL: there is no such word */
	const char *const *words;
	bool reloadable;
	const char *doc;
};

extern const struct sd_option sd_options[];
extern const size_t sd_noptions;

#endif
