/* The pointer of a running embedded instance. */
#ifndef SD_CLI_FIND_H
#define SD_CLI_FIND_H

/* Its conninfo and the pointer's path (*where), both for the caller to free; NULL when there is none that may be trusted. */
char *sd_cli_embedded(char **where);

#endif
