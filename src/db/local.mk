src_libstepd_a_SOURCES += \
	src/db/connect.c src/db/db.c src/db/db.h src/db/db_impl.h src/db/db_ev.c src/db/db_ev.h src/db/error.c src/db/migrate.c src/db/migrate.h \
	src/db/number.c src/db/number.h src/db/params.c src/db/params.h src/db/pipeline.c src/db/req.c src/db/req.h

# The version of the schema that belongs to this build: how many files sql/ has, whose numbers have no gaps.
BUILT_SOURCES += src/db/schema_version.h
CLEANFILES += src/db/schema_version.h
src/db/schema_version.h: $(srcdir)/sql/local.mk
	$(AM_V_GEN)$(MKDIR_P) $(@D) && set -- $(dist_sql_DATA) && echo "#define SD_SCHEMA_VERSION $$#" >$@
src/cli/connect.$(OBJEXT): src/db/schema_version.h
