src_libstepd_a_SOURCES += 
