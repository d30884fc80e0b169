src_libstepd_a_SOURCES += src/proc/chan.c src/proc/chan.h src/proc/listen.c src/proc/listen.h \
	src/proc/notify.c src/proc/notify.h src/proc/scoreboard.c src/proc/scoreboard.h \
	src/proc/spawn.c src/proc/spawn.h src/proc/title.c src/proc/title.h src/proc/user.c src/proc/user.h \
	src/proc/wake.c src/proc/wake.h
src_libstepd_a_SOURCES += src/proc/place.c src/proc/place.h src/proc/usage.c src/proc/usage.h src/proc/cgroup.c src/proc/cgroup.h
