src_libstepd_a_SOURCES += \
	src/db/connect.c src/db/db.c src/db/db.h src/db/db_ev.c src/db/db_ev.h src/db/error.c src/db/migrate.c src/db/migrate.h \
	src/db/params.c src/db/params.h src/db/req.c src/db/req.h
