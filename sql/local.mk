# The migrations, applied by the daemon and by stepctl migrate: see src/db/migrate.c for their two kinds.
sqldir = $(pkgdatadir)/sql
dist_sql_DATA = \
	sql/001_schema.sql \
	sql/002_history.sql \
	sql/003_node.sql \
	sql/004_configure.sql \
	sql/005_enqueue.sql \
	sql/006_claim.sql \
	sql/007_effect.sql \
	sql/008_settle.sql \
	sql/009_finish.sql \
	sql/010_rescue.sql \
	sql/011_control.sql \
	sql/012_state.sql \
	sql/013_cron.sql \
	sql/014_http.sql \
	sql/015_view.sql \
	sql/016_maintain.sql \
	sql/017_comment.sql \
	sql/018_limit.sql \
	sql/019_accepted_key.sql \
	sql/020_progress.sql \
	sql/021_report.sql \
	sql/022_cron_cost.sql \
	sql/023_pool.sql \
	sql/024_node_pool.sql \
	sql/025_secret.sql \
	sql/026_http_jobs.sql \
	sql/027_diagnosis.sql \
	sql/028_queue_override.sql \
	sql/029_queue_set.sql \
	sql/030_group_hold.sql \
	sql/031_group_hold_lean.sql \
	sql/032_lease_begun.sql \
	sql/033_group_hash.sql \
	sql/034_lease_stripes.sql \
	sql/035_stripe.sql \
	sql/036_lease_groups.sql \
	sql/037_group.sql \
	sql/038_warm.sql \
	sql/039_lease_lz4.sql \
	sql/040_argument.sql \
	sql/041_begun.sql \
	sql/042_pool_scope.sql \
	sql/043_doubt.sql
