src_libstepd_a_SOURCES += src/role/role.h 
