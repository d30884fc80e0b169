src_libstepd_a_SOURCES += src/base/buf.h src/base/clock.h src/base/err.h src/base/fdutil.h src/base/json.h src/base/log.h src/base/mem.h 
