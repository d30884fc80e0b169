/* What the http process counts about requests, and the Prometheus text format (version 0.0.4). */
#ifndef SD_HTTP_METRICS_H
#define SD_HTTP_METRICS_H

#include "base/buf.h"

#include <stdint.h>

#define SD_METRICS_BUCKETS 14

struct sd_http_metrics {
	uint64_t by_class[6];			 /* [2] is 2xx … */
	uint64_t buckets[SD_METRICS_BUCKETS + 1]; /* not cumulated; the last is +Inf */
	uint64_t sum_us;
};

void sd_http_metrics_count(struct sd_http_metrics *m, int status, int64_t took_us);
void sd_http_metrics_print(struct sd_buf *b, const struct sd_http_metrics *m);

/* "# HELP", "# TYPE" of a metric, then lines of it.  labels: "" or "a=\"b\"". */
void sd_metric_head(struct sd_buf *b, const char *name, const char *type, const char *help);
void sd_metric_line(struct sd_buf *b, const char *name, const char *labels, double value);

#endif
