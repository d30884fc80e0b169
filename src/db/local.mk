src_libstepd_a_SOURCES += src/db/db.h src/db/db_ev.h 
