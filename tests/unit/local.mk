# Unit tests: one cmocka program a subject, linked with the library the daemon runs.
# Each: check_PROGRAMS += tests/unit/test_x / tests_unit_test_x_SOURCES = … / tests_unit_test_x_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_lane
tests_unit_test_lane_SOURCES = tests/unit/test_lane.c
tests_unit_test_lane_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_router tests/unit/test_frame
tests_unit_test_router_SOURCES = tests/unit/test_router.c
tests_unit_test_router_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_frame_SOURCES = tests/unit/test_frame.c
tests_unit_test_frame_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_conf
tests_unit_test_conf_SOURCES = tests/unit/test_conf.c
tests_unit_test_conf_CPPFLAGS = $(AM_CPPFLAGS) -DSD_TOP_SRCDIR='"$(abs_top_srcdir)"'
tests_unit_test_conf_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

# Against a server: $STEPD_TEST_PG; skipped without it.
check_PROGRAMS += tests/unit/test_db tests/unit/test_migrate
tests_unit_test_db_SOURCES = tests/unit/test_db.c
tests_unit_test_db_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_migrate_SOURCES = tests/unit/test_migrate.c
tests_unit_test_migrate_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_attempt tests/unit/test_runner tests/unit/test_registry
tests_unit_test_attempt_SOURCES = tests/unit/test_attempt.c tests/unit/step_fixture.h
tests_unit_test_attempt_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_runner_SOURCES = tests/unit/test_runner.c tests/unit/step_fixture.h
tests_unit_test_runner_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
# Builds good and broken step files with the compiler, and runs the sample steps of this build.
tests_unit_test_registry_SOURCES = tests/unit/test_registry.c
tests_unit_test_registry_CPPFLAGS = $(AM_CPPFLAGS) -DSD_CC='"$(CC)"' -DSD_STEP_INCLUDE='"$(abs_top_srcdir)/src/step"' \
	-DSD_SAMPLES='"$(abs_top_builddir)/steps"'
tests_unit_test_registry_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_decide tests/unit/test_proc
tests_unit_test_decide_SOURCES = tests/unit/test_decide.c
tests_unit_test_decide_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_proc_SOURCES = tests/unit/test_proc.c
tests_unit_test_proc_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

# Defines the roles' mains itself.
check_PROGRAMS += tests/unit/test_supervisor
tests_unit_test_supervisor_SOURCES = tests/unit/test_supervisor.c
tests_unit_test_supervisor_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
