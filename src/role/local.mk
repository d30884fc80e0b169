# Roles: what each kind of child process does.
src_libstepd_a_SOURCES += src/role/role.h src/role/child.c \
	src/role/worker.h src/role/worker.c src/role/worker_claim.c src/role/worker_commit.c src/role/worker_ask.c
src_libstepd_a_SOURCES += src/role/http.h src/role/http.c src/role/http_request.c src/role/http_worker.c src/role/http_admin.c
src_libstepd_a_SOURCES += src/role/web.h src/role/web.c src/role/web_link.c src/role/web_commit.c
