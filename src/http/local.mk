# HTTP: the parts that are pure, and server*.c, which know h2o.
src_libstepd_a_SOURCES += \
	src/http/dispatch.c src/http/dispatch.h \
	src/http/error.c src/http/error.h \
	src/http/form.c src/http/form.h \
	src/http/frame.c src/http/frame.h \
	src/http/h2guard.c src/http/h2guard.h \
	src/http/head.c src/http/head.h \
	src/http/metrics.c src/http/metrics.h \
	src/http/reply.c src/http/reply.h \
	src/http/router.c src/http/router.h \
	src/http/server.c src/http/server_conn.c src/http/server_drain.c src/http/server_http2.c src/http/server_linger.c src/http/server_watch.c \
	src/http/server.h src/http/server_impl.h \
	src/http/target.c src/http/target.h \
	src/http/token.c src/http/token.h \
	src/http/tls.c src/http/tls.h
