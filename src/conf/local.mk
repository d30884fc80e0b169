src_libstepd_a_SOURCES += src/conf/conf.h src/conf/conf.c src/conf/load.c src/conf/options.h src/conf/options.c \
	src/conf/value.h src/conf/value.c src/conf/expand.h src/conf/expand.c
