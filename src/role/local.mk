# Roles: what each kind of child process does.
src_libstepd_a_SOURCES += src/role/role.h src/role/child.c \
	src/role/worker.h src/role/worker.c src/role/worker_claim.c src/role/worker_commit.c src/role/worker_ask.c
