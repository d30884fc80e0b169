src_libstepd_a_SOURCES += src/proc/chan.h src/proc/scoreboard.h 
