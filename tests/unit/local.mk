# Unit tests: one cmocka program a subject, linked with the library the daemon runs.
# Each: check_PROGRAMS += tests/unit/test_x / tests_unit_test_x_SOURCES = … / tests_unit_test_x_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_lane
tests_unit_test_lane_SOURCES = tests/unit/test_lane.c
tests_unit_test_lane_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_router tests/unit/test_frame tests/unit/test_dispatch tests/unit/test_head
tests_unit_test_head_SOURCES = tests/unit/test_head.c
tests_unit_test_head_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_router_SOURCES = tests/unit/test_router.c
tests_unit_test_router_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_frame_SOURCES = tests/unit/test_frame.c
tests_unit_test_frame_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_dispatch_SOURCES = tests/unit/test_dispatch.c
tests_unit_test_dispatch_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

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

check_PROGRAMS += tests/unit/test_attempt tests/unit/test_state tests/unit/test_runner tests/unit/test_registry
tests_unit_test_state_SOURCES = tests/unit/test_state.c tests/unit/step_fixture.h
tests_unit_test_state_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_attempt_SOURCES = tests/unit/test_attempt.c tests/unit/step_fixture.h
tests_unit_test_attempt_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_runner_SOURCES = tests/unit/test_runner.c tests/unit/step_fixture.h
tests_unit_test_runner_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
# Builds good and broken step files with the compiler, and runs the sample steps of this build.
tests_unit_test_registry_SOURCES = tests/unit/test_registry.c
tests_unit_test_registry_CPPFLAGS = $(AM_CPPFLAGS) -DSD_CC='"$(CC)"' -DSD_STEP_INCLUDE='"$(abs_top_srcdir)/src/step"' \
	-DSD_SAMPLES='"$(abs_top_builddir)/steps"'
tests_unit_test_registry_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_size
tests_unit_test_size_SOURCES = tests/unit/test_size.c
tests_unit_test_size_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_decide tests/unit/test_proc
tests_unit_test_decide_SOURCES = tests/unit/test_decide.c
tests_unit_test_decide_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_proc_SOURCES = tests/unit/test_proc.c
tests_unit_test_proc_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_limit
tests_unit_test_limit_SOURCES = tests/unit/test_limit.c
tests_unit_test_limit_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

# Defines the roles' mains itself.
check_PROGRAMS += tests/unit/test_supervisor
tests_unit_test_supervisor_SOURCES = tests/unit/test_supervisor.c
tests_unit_test_supervisor_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_err tests/unit/test_mem tests/unit/test_buf tests/unit/test_backoff tests/unit/test_words \
	tests/unit/test_fdutil tests/unit/test_json tests/unit/test_log tests/unit/test_yaml tests/unit/test_cron
tests_unit_test_err_SOURCES = tests/unit/test_err.c
tests_unit_test_err_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_mem_SOURCES = tests/unit/test_mem.c
tests_unit_test_mem_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_buf_SOURCES = tests/unit/test_buf.c
tests_unit_test_buf_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_backoff_SOURCES = tests/unit/test_backoff.c
tests_unit_test_backoff_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_words_SOURCES = tests/unit/test_words.c
tests_unit_test_words_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_fdutil_SOURCES = tests/unit/test_fdutil.c
tests_unit_test_fdutil_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_json_SOURCES = tests/unit/test_json.c
tests_unit_test_json_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_log_SOURCES = tests/unit/test_log.c
tests_unit_test_log_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_yaml_SOURCES = tests/unit/test_yaml.c
tests_unit_test_yaml_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_cron_SOURCES = tests/unit/test_cron.c
tests_unit_test_cron_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test_crondesc tests/unit/test_cronplan
tests_unit_test_crondesc_SOURCES = tests/unit/test_crondesc.c
tests_unit_test_crondesc_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_cronplan_SOURCES = tests/unit/test_cronplan.c
tests_unit_test_cronplan_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_schema tests/unit/test_schema_suite
tests_unit_test_schema_SOURCES = tests/unit/test_schema.c
tests_unit_test_schema_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_schema_suite_SOURCES = tests/unit/test_schema_suite.c
tests_unit_test_schema_suite_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_form
tests_unit_test_form_SOURCES = tests/unit/test_form.c
tests_unit_test_form_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_token
tests_unit_test_token_SOURCES = tests/unit/test_token.c
tests_unit_test_token_LDADD = $(SD_LIBS) $(CMOCKA_LIBS)
