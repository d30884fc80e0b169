# The queue: SQL's functions as C values.
src_libstepd_a_SOURCES += \
	src/queue/sqlcalls.h src/queue/sqlcalls.c \
	src/queue/lane.h src/queue/lane.c \
	src/queue/claim.h src/queue/claim.c \
	src/queue/finish.h src/queue/finish.c
