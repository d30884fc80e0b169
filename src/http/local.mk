src_libstepd_a_SOURCES += src/http/frame.c src/http/frame.h src/http/router.c src/http/router.h src/http/target.c src/http/target.h
