/* Counters of requests, and Prometheus text. */
#include "http/metrics.h"

#include <stdio.h>

static const double bounds_s[SD_METRICS_BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30};

void sd_http_metrics_count(struct sd_http_metrics *m, int status, int64_t took_us)
{
	int class = status / 100, i = 0;

	m->by_class[class >= 1 && class <= 5 ? class : 5]++;
	while (i < SD_METRICS_BUCKETS && (double)took_us > bounds_s[i] * 1e6)
		i++;
	m->buckets[i]++;
	m->sum_us += took_us > 0 ? (uint64_t)took_us : 0;
}

void sd_metric_head(struct sd_buf *b, const char *name, const char *type, const char *help)
{
	sd_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void sd_metric_line(struct sd_buf *b, const char *name, const char *labels, double value)
{
	sd_buf_printf(b, *labels ? "%s{%s} %.17g\n" : "%s%s %.17g\n", name, labels, value);
}

void sd_http_metrics_print(struct sd_buf *b, const struct sd_http_metrics *m)
{
	static const char name[] = "stepd_http_request_duration_seconds";
	uint64_t total = 0;
	char labels[32];

	sd_metric_head(b, "stepd_http_requests_total", "counter", "Requests answered on the public listener, by class of status.");
	for (int c = 2; c <= 5; c++) {
		snprintf(labels, sizeof(labels), "status=\"%dxx\"", c);
		sd_metric_line(b, "stepd_http_requests_total", labels, (double)m->by_class[c]);
	}
	sd_metric_head(b, name, "histogram", "Time from a request's last byte to its reply.");
	for (int i = 0; i <= SD_METRICS_BUCKETS; i++) {
		total += m->buckets[i];
		if (i < SD_METRICS_BUCKETS)
			sd_buf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, bounds_s[i], (unsigned long long)total);
	}
	sd_buf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name, (unsigned long long)total, name,
		      (double)m->sum_us / 1e6, name, (unsigned long long)total);
}
