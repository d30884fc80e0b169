/*
 * Every option of stepd.yaml.  To add one: a member in conf.h, a row here, a
 * line in etc/stepd.yaml and an entry in etc/stepd.yaml.5 (make check compares
 * the four).
 */
#include "conf/options.h"

#include "conf/conf.h"

#define CONF(member) offsetof(struct sd_conf, member)
#define POOL(member) offsetof(struct sd_conf_pool, member)
#define QUEUE(member) offsetof(struct sd_conf_queue, member)

#define S INT64_C(1000)
#define M (60 * S)
#define H (60 * M)
#define D (24 * H)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define RELOAD true
#define RESTART false

static const char *const serves_words[] = {"queue", "http", NULL};
static const char *const strategy_words[] = {"standard", "fifo", "priority", NULL};
static const char *const backoff_words[] = {"exponential", "linear", "fixed", NULL};
static const char *const level_words[] = {"debug", "info", "warn", "error", NULL};
static const char *const level_or_off_words[] = {"debug", "info", "warn", "error", "off", NULL};
static const char *const switch_words[] = {"off", "on", NULL};
static const char *const http_history_words[] = {"all", "effects", "none", NULL};
static const char *const http2_words[] = {"off", "on", "h2c", NULL};
static const char *const format_words[] = {"text", "json", NULL};

/* clang-format off */
const struct sd_option sd_options[] = {
{"database.url", SD_OPTION_CONNINFO, CONF(database_url), "postgresql:///stepd", 0, 0, NULL, NULL, RESTART,
 "Where PostgreSQL is: a libpq URL or conninfo string; several hosts are allowed."},
{"database.wait", SD_OPTION_TIME, CONF(database_wait_ms), "30s", 0, H, NULL, NULL, RESTART,
 "How long the start waits for the database before it gives up with exit code 69."},
{"database.lease", SD_OPTION_TIME, CONF(database_lease_ms), "30s", S, H, NULL, NULL, RESTART,
 "A node that was silent for this long is taken for dead and its jobs are rescued by another."},

{"node.name", SD_OPTION_STRING, CONF(node_name), NULL, 0, 0, NULL, NULL, RESTART,
 "Name of this node in the database; nodes that run the same steps may share one."},
{"user", SD_OPTION_STRING, CONF(user), NULL, 0, 0, NULL, NULL, RESTART,
 "The user to become when started as root."},

{"steps", SD_OPTION_DIRS, CONF(steps), SD_PKGLIBDIR "/steps", 0, 0, NULL, NULL, RELOAD,
 "Directories with step files; relative ones are relative to this file."},

{"http.listen", SD_OPTION_LISTEN, CONF(http.listen), "127.0.0.1:3111", 0, 0, NULL, NULL, RELOAD,
 "Address and port of the steps' routes, or off."},
{"http.bodyLimit", SD_OPTION_SIZE, CONF(http.body_limit), "1MiB", KIB, 64 * MIB, NULL, NULL, RELOAD,
 "The largest request body; a larger one is answered with 413."},
{"http.timeout", SD_OPTION_TIME, CONF(http.timeout_ms), "30s", 10, H, NULL, NULL, RELOAD,
 "How long a handler may take for a request, unless its trigger says, before it is answered with 504."},
{"http.maxInFlight", SD_OPTION_INT, CONF(http.max_in_flight), "1024", 1, 65536, NULL, NULL, RELOAD,
 "Requests waiting or running at the same time; more are answered with 503."},
{"http.maxConnections", SD_OPTION_INT, CONF(http.max_connections), "20000", 1, 1000000, NULL, NULL, RELOAD,
 "Open client connections; more wait until one closes, or was idle for a second."},
{"http.bodyMemory", SD_OPTION_SIZE, CONF(http.body_memory), "512MiB", MIB, 1024 * GIB, NULL, NULL, RELOAD,
 "Memory for all bodies that are under way; what comes beyond it is answered with 503."},
{"http.headerLimit", SD_OPTION_SIZE, CONF(http.header_limit), "32KiB", KIB, 256 * KIB, NULL, NULL, RELOAD,
 "The largest head of a request; a larger one, or one of more than 100 fields, is answered with 431."},
{"http.urlLimit", SD_OPTION_SIZE, CONF(http.url_limit), "8KiB", 256, 128 * KIB, NULL, NULL, RELOAD,
 "The longest request target (path and query); a longer one is answered with 414."},
{"http.idleTimeout", SD_OPTION_TIME, CONF(http.idle_timeout_ms), "60s", 100, H, NULL, NULL, RELOAD,
 "How long a connection without a request is kept."},
{"http.headerTimeout", SD_OPTION_TIME, CONF(http.header_timeout_ms), "10s", 100, H, NULL, NULL, RELOAD,
 "A head must arrive within this time of its first byte, or is answered with 408; also the time for a TLS handshake."},
{"http.readTimeout", SD_OPTION_TIME, CONF(http.read_timeout_ms), "30s", 100, H, NULL, NULL, RELOAD,
 "A body must arrive within this time of its head, or is answered with 408."},
{"http.writeTimeout", SD_OPTION_TIME, CONF(http.write_timeout_ms), "60s", S, H, NULL, NULL, RELOAD,
 "A client that takes nothing of its reply for this long is cut off."},
{"http.cors", SD_OPTION_STRING, CONF(http.cors), NULL, 0, 0, NULL, NULL, RELOAD,
 "Origins whose pages may read replies, divided by spaces, or * for any."},
{"http.history", SD_OPTION_WORD, CONF(http.history), "effects", 0, 0, NULL, http_history_words, RELOAD,
 "Runs to keep in stepd.jobs: all, those with effects or an error (effects), or with effects only (none)."},
{"http.jobs", SD_OPTION_STRING, CONF(http.jobs), "/_jobs", 0, 0, NULL, NULL, RELOAD,
 "Path below which clients read what became of their accepted requests, or off."},
{"http.jobsOutput", SD_OPTION_WORD, CONF(http.jobs_output), "off", 0, 0, NULL, switch_words, RELOAD,
 "What a job returned is part of what its client can read there: on or off."},
{"http.accessLog", SD_OPTION_WORD, CONF(http.access_log), "off", 0, 0, NULL, switch_words, RELOAD,
 "One line in the daemon's own log for each request: on or off."},
{"http.http2", SD_OPTION_WORD, CONF(http.http2), "off", 0, 0, NULL, http2_words, RELOAD,
 "HTTP/2: off, on (over TLS), or h2c (also without TLS, to clients that begin with it)."},
{"http.tls.cert", SD_OPTION_FILE, CONF(http.tls_cert), NULL, 0, 0, NULL, NULL, RELOAD,
 "File with the certificate chain, PEM."},
{"http.tls.key", SD_OPTION_FILE, CONF(http.tls_key), NULL, 0, 0, NULL, NULL, RELOAD,
 "File with the certificate's private key, PEM."},

{"admin.listen", SD_OPTION_LISTEN, CONF(admin.listen), "127.0.0.1:3113", 0, 0, NULL, NULL, RELOAD,
 "Address and port of health and metrics, or off."},
{"admin.token", SD_OPTION_STRING, CONF(admin.token), NULL, 0, 0, NULL, NULL, RELOAD,
 "Bearer token that admin requests must carry; needed when admin.listen is not a loopback address."},

{"pools.*.processes", SD_OPTION_INT, POOL(processes), "4", 1, 512, NULL, NULL, RELOAD,
 "Number of worker processes, or min, max and idleTimeout: as many as there is work for."},
{"pools.*.processes.min", SD_OPTION_INT, POOL(min), "1", 0, 512, NULL, NULL, RELOAD,
 "So many are there without any work; 0: the first one starts when work comes."},
{"pools.*.processes.max", SD_OPTION_INT, POOL(max), NULL, 1, 512, NULL, NULL, RELOAD,
 "More are started, up to this number, while all are busy and work waits."},
{"pools.*.processes.idleTimeout", SD_OPTION_TIME, POOL(idle_ms), "30s", 100, D, NULL, NULL, RELOAD,
 "Those above min that had nothing to do for this long end."},
{"pools.*.serves", SD_OPTION_WORDSET, POOL(serves), "queue", 0, 0, NULL, serves_words, RELOAD,
 "What its workers run: queue (queue and cron jobs) or http (requests)."},
{"pools.*.queues", SD_OPTION_NAMES, POOL(queues), NULL, 0, 0, NULL, NULL, RELOAD,
 "Run only jobs of these queues."},
{"pools.*.steps", SD_OPTION_NAMES, POOL(steps), NULL, 0, 0, NULL, NULL, RELOAD,
 "Run only jobs of these steps."},
{"pools.*.maxJobs", SD_OPTION_COUNT, POOL(max_jobs), "none", 1, 1000000000, "none", NULL, RELOAD,
 "A worker is replaced after this many jobs, and never runs more: for handlers that leak. A new one costs as much as thousands of quick jobs."},
{"pools.*.maxRss", SD_OPTION_SIZE, POOL(max_rss), "512MiB", 16 * MIB, 1024 * GIB, "none", NULL, RELOAD,
 "A worker that holds more memory than this between two jobs is replaced; what else it had claimed goes back."},
{"pools.*.maxAge", SD_OPTION_TIME, POOL(max_age_ms), "none", S, 365 * D, "none", NULL, RELOAD,
 "A worker is replaced when it has run for this long, after its job."},
{"pools.*.maxMemory", SD_OPTION_SIZE, POOL(max_memory), "none", 16 * MIB, 1024 * GIB, "none", NULL, RELOAD,
 "An attempt whose worker, with all that it started, holds more memory than this is stopped."},
{"pools.*.maxCpuTime", SD_OPTION_TIME, POOL(max_cpu_ms), "none", 100, 30 * D, "none", NULL, RELOAD,
 "An attempt that used more CPU time than this, with all that it started, is stopped."},
{"pools.*.maxCpus", SD_OPTION_FACTOR, POOL(max_cpus), "none", 10, 1024000, "none", NULL, RELOAD,
 "CPUs that a worker, with all that it started, may use at a time; needs a delegated cgroup."},
{"pools.*.nice", SD_OPTION_INT, POOL(nice), "0", 0, 19, NULL, NULL, RELOAD,
 "How much its workers give way to other processes: added to the daemon's nice value."},

{"pools.*.user", SD_OPTION_STRING, POOL(user), NULL, 0, 0, NULL, NULL, RELOAD,
 "The user its workers run as, when the daemon was started as root."},
{"pools.*.environment", SD_OPTION_ENVIRONMENT, POOL(environment), NULL, 0, 0, NULL, NULL, RELOAD,
 "Environment variables of its workers, beside those of the daemon."},

{"queues.*.strategy", SD_OPTION_WORD, QUEUE(strategy), "standard", 0, 0, NULL, strategy_words, RELOAD,
 "standard: oldest first; fifo: strict order in each group; priority: highest first."},
{"queues.*.maxRetries", SD_OPTION_INT, QUEUE(max_retries), "3", 0, 10000, NULL, NULL, RELOAD,
 "Retries after the first attempt."},
{"queues.*.retryDelay", SD_OPTION_TIME, QUEUE(retry_delay_ms), "1s", 0, 30 * D, NULL, NULL, RELOAD,
 "Delay before the first retry."},
{"queues.*.backoff", SD_OPTION_WORD, QUEUE(backoff), "exponential", 0, 0, NULL, backoff_words, RELOAD,
 "How the delay grows: exponential (doubles), linear (adds itself) or fixed."},
{"queues.*.maxRetryDelay", SD_OPTION_TIME, QUEUE(max_retry_delay_ms), "1h", 0, 365 * D, NULL, NULL, RELOAD,
 "The delay never grows above this."},
{"queues.*.jitter", SD_OPTION_FACTOR, QUEUE(jitter), "0.1", 0, 1000, NULL, NULL, RELOAD,
 "Each delay is varied at random by up to this part of it."},
{"queues.*.maxConcurrency", SD_OPTION_INT, QUEUE(max_concurrency), "none", 1, 1000000, "none", NULL, RELOAD,
 "Jobs of this queue that run at the same time, over all nodes."},
{"queues.*.timeout", SD_OPTION_TIME, QUEUE(timeout_ms), "none", 10, 30 * D, "none", NULL, RELOAD,
 "An attempt that runs longer is stopped and recorded as timeout."},
{"queues.*.rateLimit", SD_OPTION_RATE, QUEUE(rate_limit), "none", 1, 1000000, "none", NULL, RELOAD,
 "Starts per time over all nodes, such as 100/1s."},
{"queues.*.concurrencyPerGroup", SD_OPTION_INT, QUEUE(concurrency_per_group), "none", 1, 1000000, "none", NULL, RELOAD,
 "Jobs of one group that run at the same time, over all nodes; fifo queues always run one."},
{"queues.*.history", SD_OPTION_TIME, QUEUE(history_ms), "keep", D, 36500 * D, "keep", NULL, RELOAD,
 "How long finished jobs of this queue are kept; keep means as history.keep says."},

{"history.keep", SD_OPTION_TIME, CONF(history_keep_ms), "30d", D, 36500 * D, NULL, NULL, RELOAD,
 "How long finished jobs, their attempts and logs are kept."},

{"logging.level", SD_OPTION_WORDTEXT, CONF(log_level), "info", 0, 0, NULL, level_words, RELOAD,
 "The daemon's own log: the lowest level that is written."},
{"logging.format", SD_OPTION_WORDTEXT, CONF(log_format), "text", 0, 0, NULL, format_words, RELOAD,
 "The daemon's own log: text or json, one line an event."},
{"logging.file", SD_OPTION_FILE, CONF(log_file), NULL, 0, 0, NULL, NULL, RELOAD,
 "The daemon's own log: append to this file instead of standard error."},
{"logging.database", SD_OPTION_WORDTEXT, CONF(log_database), "info", 0, 0, NULL, level_or_off_words, RELOAD,
 "What steps log: the lowest level that goes to the table stepd.logs, or off."},

{"stop.timeout", SD_OPTION_TIME, CONF(stop_timeout_ms), "25s", 0, D, NULL, NULL, RELOAD,
 "How long running jobs may go on after SIGTERM."},
{"stop.killGrace", SD_OPTION_TIME, CONF(kill_grace_ms), "5s", 0, H, NULL, NULL, RELOAD,
 "How long a worker that is being stopped has between SIGTERM and SIGKILL."},
};
/* clang-format on */

const size_t sd_noptions = sizeof(sd_options) / sizeof(sd_options[0]);
