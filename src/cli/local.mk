src_libstepd_a_SOURCES += src/cli/cli.h src/cli/args.c src/cli/connect.c src/cli/find.h src/cli/find.c src/cli/output.c \
	src/cli/cmd_jobs.c src/cli/cmd_enqueue.c src/cli/cmd_queues.c src/cli/cmd_control.c src/cli/cmd_migrate.c \
	src/cli/cmd_status.c src/cli/cmd_steps.c src/cli/cmd_schedules.c src/cli/cmd_check.c

bin_PROGRAMS += src/stepctl
src_stepctl_SOURCES = src/cli/stepctl.c
src_stepctl_LDADD = $(SD_LIBS)
dist_man_MANS += src/cli/stepctl.1 src/stepd.8
