src_libstepd_a_SOURCES += \
	src/step/api.c \
	src/step/api_effect.c \
	src/step/api_http.c \
	src/step/api_stream.c \
	src/step/attempt.c src/step/attempt.h \
	src/step/check.c src/step/check.h \
	src/step/ctx.c src/step/ctx.h \
	src/step/discover.c \
	src/step/input.c src/step/input.h \
	src/step/manifest.c src/step/manifest.h \
	src/step/object.c src/step/object.h \
	src/step/overlay.c src/step/overlay.h \
	src/step/registry.c src/step/registry.h \
	src/step/runner.c src/step/runner.h \
	src/step/stateop.c src/step/stateop.h \
	src/step/stream.h

# The public header, <stepd/step.h>.
stepdincludedir = $(includedir)/stepd
dist_stepdinclude_HEADERS = src/step/stepd/step.h src/step/stepd/abi.h

pkgconfigdir = $(libdir)/pkgconfig
pkgconfig_DATA = src/stepd-step.pc

dist_man_MANS += src/step/stepd_step.3
