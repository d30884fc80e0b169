# Fuzzers.  `make check` replays the committed corpus; tests/fuzz/run looks for more with libFuzzer.
check_PROGRAMS += tests/fuzz/replay_json tests/fuzz/replay_yaml tests/fuzz/replay_cron tests/fuzz/replay_zone tests/fuzz/replay_text \
	tests/fuzz/replay_conf
tests_fuzz_replay_json_SOURCES = tests/fuzz/fuzz_json.c tests/fuzz/replay.c
tests_fuzz_replay_json_LDADD = $(SD_LIBS)
tests_fuzz_replay_yaml_SOURCES = tests/fuzz/fuzz_yaml.c tests/fuzz/replay.c
tests_fuzz_replay_yaml_LDADD = $(SD_LIBS)
tests_fuzz_replay_cron_SOURCES = tests/fuzz/fuzz_cron.c tests/fuzz/replay.c
tests_fuzz_replay_cron_LDADD = $(SD_LIBS)
tests_fuzz_replay_zone_SOURCES = tests/fuzz/fuzz_zone.c tests/fuzz/replay.c
tests_fuzz_replay_zone_LDADD = $(SD_LIBS)
tests_fuzz_replay_text_SOURCES = tests/fuzz/fuzz_text.c tests/fuzz/replay.c
tests_fuzz_replay_text_LDADD = $(SD_LIBS)
tests_fuzz_replay_conf_SOURCES = tests/fuzz/fuzz_conf.c tests/fuzz/replay.c
tests_fuzz_replay_conf_LDADD = $(SD_LIBS)
check_PROGRAMS += tests/fuzz/replay_http
tests_fuzz_replay_http_SOURCES = tests/fuzz/fuzz_http.c tests/fuzz/replay.c
tests_fuzz_replay_http_LDADD = $(SD_LIBS)
check_PROGRAMS += tests/fuzz/replay_schema
tests_fuzz_replay_schema_SOURCES = tests/fuzz/fuzz_schema.c tests/fuzz/replay.c
tests_fuzz_replay_schema_LDADD = $(SD_LIBS)
check_PROGRAMS += tests/fuzz/replay_state
tests_fuzz_replay_state_SOURCES = tests/fuzz/fuzz_state.c tests/fuzz/replay.c
tests_fuzz_replay_state_LDADD = $(SD_LIBS)
check_PROGRAMS += tests/fuzz/replay_wild
tests_fuzz_replay_wild_SOURCES = tests/fuzz/fuzz_wild.c tests/fuzz/replay.c
tests_fuzz_replay_wild_LDADD = $(SD_LIBS)
