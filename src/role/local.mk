# Roles: what each kind of child process does.
src_libstepd_a_SOURCES += src/role/role.h src/role/child.c src/role/ask.h src/role/ask.c \
	src/role/worker.h src/role/worker.c src/role/worker_claim.c src/role/worker_commit.c src/role/worker_ask.c \
	src/role/worker_judge.c src/role/worker_lease.c src/role/worker_orphan.c src/role/worker_report.c src/role/worker_wake.c src/role/worker_wear.c src/role/refused.h src/role/refused.c
src_libstepd_a_SOURCES += src/role/http.h src/role/http.c src/role/http_request.c src/role/http_worker.c src/role/http_admin.c \
	src/role/http_accept.c src/role/http_db.c src/role/http_tls.c src/role/http_depths.c src/role/http_cors.c \
	src/role/http_stream.c src/role/http_death.c src/role/http_jobs.c
src_libstepd_a_SOURCES += src/role/web.h src/role/web.c src/role/web_link.c src/role/web_commit.c src/role/web_stream.c
# The supervisor.
src_libstepd_a_SOURCES += src/role/table.c src/role/supervisor.h src/role/supervisor.c src/role/settle.c src/role/super.h \
	src/role/setup.h src/role/setup.c src/role/generation.c src/role/kids.c src/role/reap.c src/role/enforce.c src/role/reload.c \
	src/role/deaths.h src/role/deaths.c src/role/decide.h src/role/decide.c src/role/limit.h src/role/limit.c src/role/confine.c src/role/loader.h src/role/loader.c \
	src/role/pools.h src/role/pools.c src/role/size.h src/role/size.c src/role/resize.c \
	src/role/embedded.h src/role/embedded.c src/role/postgres.c
src_libstepd_a_SOURCES += src/role/keeper.h src/role/keeper.c src/role/keeper_start.c src/role/keeper_wake.c src/role/keeper_demand.c src/role/keeper_pools.c \
	src/role/keeper_death.c src/role/keeper_place.c
src_libstepd_a_SOURCES += src/role/cron.c src/role/cron_plan.c src/role/cron_plan.h
