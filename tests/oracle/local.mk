# Built on demand: asked by tests/oracle/*.py, no test itself.
EXTRA_PROGRAMS += tests/oracle/crontool
tests_oracle_crontool_SOURCES = tests/oracle/crontool.c
tests_oracle_crontool_LDADD = $(SD_LIBS)
CLEANFILES += tests/oracle/crontool
