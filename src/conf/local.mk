src_libstepd_a_SOURCES += src/conf/conf.h 
