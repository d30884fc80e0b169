src_libstepd_a_SOURCES += \
	src/base/backoff.c src/base/backoff.h \
	src/base/buf.c src/base/buf.h \
	src/base/clock.c src/base/clock.h \
	src/base/conninfo.c \
	src/base/cronday.c src/base/cronday.h \
	src/base/crondesc.c src/base/crondesc.h \
	src/base/cronnext.c \
	src/base/cronspec.c src/base/cronspec.h \
	src/base/decimal.c src/base/decimal.h \
	src/base/err.c src/base/err.h \
	src/base/fdutil.c src/base/fdutil.h \
	src/base/json.c src/base/json.h \
	src/base/log.c src/base/log.h \
	src/base/mem.c src/base/mem.h \
	src/base/schema.c src/base/schema.h src/base/schema_impl.h \
	src/base/schema_array.c \
	src/base/schema_check.c \
	src/base/schema_coerce.c \
	src/base/schema_meta.c \
	src/base/schema_object.c \
	src/base/schema_regex.c \
	src/base/schema_uri.c \
	src/base/schema_value.c \
	src/base/schema_word.c \
	src/base/suggest.c src/base/suggest.h \
	src/base/tzrule.c src/base/tzrule.h \
	src/base/units.c src/base/units.h \
	src/base/utf8.h \
	src/base/uuid.c src/base/uuid.h \
	src/base/yaml.c src/base/yaml.h \
	src/base/zone.c src/base/zone.h
