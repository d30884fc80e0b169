/* Limits of an attempt: the decisions from values, and what /proc says of real processes. */
#include "base/clock.h"
#include "proc/cgroup.h"
#include "role/limit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (INT64_C(1) << 20)

static const struct sd_conf_pool both = {.max_memory = 100 * MIB, .max_cpu_ms = 2000}, none;

static int look(struct sd_meter *m, const struct sd_conf_pool *pool, int64_t job, int64_t started, int64_t memory, int64_t cpu_ms,
		int64_t peak)
{
	const struct sd_seen seen = {.job = job, .started_us = started};
	const struct sd_usage now = {.memory = memory, .cpu_us = cpu_ms * SD_MS, .peak = peak, .processes = 1};

	return sd_limit_decide(m, pool, &seen, &now);
}

static void test_memory(void **state)
{
	struct sd_meter m = {0};

	(void)state;
	assert_int_equal(look(&m, &both, 7, 1, 100 * MIB, 0, 0), SD_SLOT_REASON_NONE);
	assert_int_equal(look(&m, &both, 7, 1, 100 * MIB + 1, 0, 0), SD_SLOT_REASON_MEMORY);
	assert_int_equal(look(&m, &none, 7, 1, 1000 * MIB, 1000000, 0), SD_SLOT_REASON_NONE);
	/* nothing runs: nobody is to blame */
	assert_int_equal(look(&m, &both, 0, 0, 1000 * MIB, 0, 0), SD_SLOT_REASON_NONE);
	/* a process that is gone used nothing */
	assert_int_equal(sd_limit_decide(&m, &both, &(struct sd_seen){.job = 8}, &(struct sd_usage){.memory = 1000 * MIB}), SD_SLOT_REASON_NONE);
	/* an http request is an attempt too */
	assert_int_equal(sd_limit_decide(&m, &both, &(struct sd_seen){.request = 3}, &(struct sd_usage){.memory = 200 * MIB, .processes = 1}),
			 SD_SLOT_REASON_MEMORY);
}

static void test_cpu(void **state)
{
	struct sd_meter m = {0};

	(void)state;
	/* what the worker used before does not count, nor for the next attempt of the same job */
	assert_int_equal(look(&m, &both, 7, 1, 0, 500000, 0), SD_SLOT_REASON_NONE);
	assert_int_equal(look(&m, &both, 7, 1, 0, 502000, 0), SD_SLOT_REASON_NONE);
	assert_int_equal(look(&m, &both, 7, 2, 0, 502001, 0), SD_SLOT_REASON_NONE);
	assert_int_equal(look(&m, &both, 7, 2, 0, 504001, 0), SD_SLOT_REASON_NONE);
	assert_int_equal(look(&m, &both, 7, 2, 0, 504002, 0), SD_SLOT_REASON_CPU);
	assert_int_equal(m.cpu_us, 2001 * SD_MS);
	/* an orphan took its time along: what was used stays used */
	m = (struct sd_meter){0};
	look(&m, &both, 9, 1, 0, 100, 0);
	look(&m, &both, 9, 1, 0, 1900, 0);
	assert_int_equal(look(&m, &both, 9, 1, 0, 200, 0), SD_SLOT_REASON_NONE);
	assert_int_equal(m.cpu_us, 1800 * SD_MS);
}

static void test_wall(void **state)
{
	const struct sd_conf_pool small = {.max_memory = 16 * MIB}, large = {.max_memory = 1000 * MIB};

	(void)state;
	assert_int_equal(sd_limit_wall(&none), 0);
	assert_int_equal(sd_limit_wall(&small), 80 * MIB);
	assert_int_equal(sd_limit_wall(&large), 1250 * MIB);
	assert_false(sd_limit_wild(&large, &(struct sd_usage){.memory = 1250 * MIB}));
	assert_true(sd_limit_wild(&large, &(struct sd_usage){.memory = 1250 * MIB + 1}));
	assert_false(sd_limit_wild(&none, &(struct sd_usage){.memory = INT64_MAX}));
	assert_false(sd_limit_worn(&(struct sd_meter){.memory = 750 * MIB}, &large, &(struct sd_seen){.jobs_done = 1}));
	assert_true(sd_limit_worn(&(struct sd_meter){.memory = 750 * MIB + 1}, &large, &(struct sd_seen){.jobs_done = 1}));
	assert_false(sd_limit_worn(&(struct sd_meter){.memory = 750 * MIB + 1}, &large, &(struct sd_seen){.jobs_done = 0}));
	assert_false(sd_limit_worn(&(struct sd_meter){.memory = INT64_MAX}, &none, &(struct sd_seen){.jobs_done = 1}));
}

static void test_who_died_of_it(void **state)
{
	const struct sd_seen seen = {.job = 7, .started_us = 1}, next = {.job = 8, .started_us = 2}, nothing = {.job = 0};
	struct sd_meter m = {0};

	(void)state;
	/* never looked at: it was born and died within one tick */
	assert_true(sd_limit_killed(&m, &both, &seen, 100 * MIB));
	assert_false(sd_limit_killed(&m, &both, &seen, 100 * MIB - 1));
	assert_false(sd_limit_killed(&m, &both, &nothing, 200 * MIB));
	assert_false(sd_limit_killed(&m, &none, &seen, 200 * MIB));
	/* passed it in this attempt, though it had been looked at */
	look(&m, &both, 0, 0, 5 * MIB, 0, 20 * MIB);
	look(&m, &both, 7, 1, 90 * MIB, 0, 90 * MIB);
	assert_true(sd_limit_killed(&m, &both, &seen, 120 * MIB));
	/* the one before it had passed it: this one died of something else */
	look(&m, &both, 7, 1, 90 * MIB, 0, 120 * MIB);
	assert_true(sd_limit_killed(&m, &both, &seen, 120 * MIB));
	assert_false(sd_limit_killed(&m, &both, &next, 120 * MIB));
	look(&m, &both, 8, 2, 10 * MIB, 0, 120 * MIB);
	assert_false(sd_limit_killed(&m, &both, &next, 120 * MIB));
}

static void test_shared_pages(void **state)
{
	struct sd_meter m = {0};
	struct sd_usage u = {.memory = 50 * MIB, .sum = 50 * MIB, .processes = 3};

	(void)state;
	/* below the limit nobody looks closer */
	assert_int_equal(sd_limit_worth(&m, &both), 100 * MIB);
	sd_limit_estimate(&m, &u);
	assert_int_equal(u.memory, 50 * MIB);
	/* it seemed 150, it was 50: it is worth a closer look again when it seems 300 */
	u = (struct sd_usage){.memory = 50 * MIB, .sum = 150 * MIB, .processes = 3};
	sd_limit_estimate(&m, &u);
	assert_int_equal(u.memory, 50 * MIB);
	assert_int_equal(sd_limit_worth(&m, &both), 300 * MIB);
	u = (struct sd_usage){.memory = 240 * MIB, .sum = 240 * MIB, .processes = 3};
	sd_limit_estimate(&m, &u);
	assert_int_equal(u.memory, 80 * MIB);
	assert_int_equal(sd_limit_decide(&m, &both, &(struct sd_seen){.job = 7, .started_us = 1}, &u), SD_SLOT_REASON_NONE);
	/* another attempt, or one process: what was found is void */
	assert_int_equal(sd_limit_worth(&m, &both), 100 * MIB);
	m.exact = 1, m.sum = 2;
	u = (struct sd_usage){.memory = 90 * MIB, .sum = 90 * MIB, .processes = 1};
	sd_limit_estimate(&m, &u);
	assert_int_equal(u.memory, 90 * MIB);
	assert_int_equal(sd_limit_worth(&m, &both), 100 * MIB);
}

static void test_text_and_slot(void **state)
{
	struct sd_slot slot;
	char text[SD_LIMIT_TEXT];

	(void)state;
	memset(&slot, 0, sizeof slot);
	assert_string_equal(sd_limit_text(SD_SLOT_REASON_MEMORY, 512 * MIB, 520 * MIB, text), "memory limit 512MiB exceeded (520 MiB in use)");
	assert_string_equal(sd_limit_text(SD_SLOT_REASON_CPU, 1500, 1549, text), "CPU time limit 1500ms exceeded (1.55 s used)");
	assert_true(strlen(sd_limit_text(SD_SLOT_REASON_CPU, INT64_MIN + 1, INT64_MAX, text)) < SD_LIMIT_TEXT);
	assert_null(sd_limit_of_slot(&slot, 7, text));
	atomic_store(&slot.ending_limit, 2000);
	atomic_store(&slot.ending_used, 2100);
	atomic_store(&slot.ending_run, 7);
	atomic_store(&slot.ending, SD_SLOT_REASON_CPU);
	assert_string_equal(sd_limit_of_slot(&slot, 7, text), "CPU time limit 2s exceeded (2.10 s used)");
	assert_null(sd_limit_of_slot(&slot, 8, text)); /* that one ended, another began */
	assert_null(sd_limit_of_slot(&slot, 0, text));
	sd_slot_renew(&slot);
	assert_null(sd_limit_of_slot(&slot, 7, text));
}

static void test_proc_texts(void **state)
{
	static const char stat[] = "12 (a) b (c)) S 1 22 22 0 -1 4194560 100 200 0 0 11 12 13 14 20 0\n";
	static const char status[] = "Name:\tVmHWM: 7\nVmHWM:\t    1234 kB\nRssAnon:\t       0 kB\n";

	(void)state;
	assert_int_equal(sd_proc_stat_field(stat, 3), 'S');
	assert_int_equal(sd_proc_stat_field(stat, 4), 1);
	assert_int_equal(sd_proc_stat_field(stat, 5), 22);
	assert_int_equal(sd_proc_stat_field(stat, 14), 11);
	assert_int_equal(sd_proc_stat_field(stat, 17), 14);
	assert_int_equal(sd_proc_stat_field(stat, 99), -1);
	assert_int_equal(sd_proc_stat_field("", 4), -1);
	assert_int_equal(sd_proc_stat_field("1 (x", 4), -1);
	assert_int_equal(sd_proc_status_kb(status, "VmHWM"), 1234);
	assert_int_equal(sd_proc_status_kb(status, "RssAnon"), 0);
	assert_int_equal(sd_proc_status_kb(status, "VmSwap"), -1);
	assert_int_equal(sd_proc_status_kb("", "VmSwap"), -1);
}

static void tell(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(1);
}

static void burn_ms(long ms)
{
	struct timespec t = {0};

	while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < ms)
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
}

static void stay(void)
{
	alarm(30); /* should the test fail */
	pause();
}

/* A process group: a parent that holds 40 MiB, a fork that shares them, and a grandchild that the parent has lost. */
static pid_t start_family(void)
{
	int fd[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		char *p = mmap(NULL, 40 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memset(p, 1, 40 * MIB);
		if (fork() == 0) {
			if (fork() == 0) {
				memset(p, 2, 10 * MIB); /* its own now */
				burn_ms(120);
				tell(fd[1]);
				stay();
			}
			_exit(0);
		}
		wait(NULL);
		if (fork() == 0) {
			tell(fd[1]);
			stay();
		}
		stay();
	}
	assert_true(pid > 0);
	assert_int_equal(read(fd[0], &c, 1), 1);
	assert_int_equal(read(fd[0], &c, 1), 1);
	close(fd[0]);
	close(fd[1]);
	return pid;
}

/* What valgrind and the sanitizers need themselves. */
static int64_t overhead(void)
{
#ifdef __SANITIZE_ADDRESS__
	return 400 * MIB;
#endif
	return getenv("VALGRIND") != NULL ? 400 * MIB : 0;
}

static bool is_head(const void *arg, pid_t pid)
{
	return *(const pid_t *)arg == pid;
}

static void test_family(void **state)
{
	struct sd_orphan orphans[8];
	struct sd_usage u;
	size_t n;
	pid_t pid;

	(void)state;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = start_family();
	n = sd_usage_orphans(orphans, 8, is_head, &pid);
	assert_int_equal(n, 1);
	assert_int_equal(orphans[0].pgrp, pid);
	sd_usage_of(pid, orphans, n, true, 0, &u);
	assert_int_equal(u.processes, 3);
	assert_in_range(u.memory, 49 * MIB, 62 * MIB + overhead()); /* shared pages once, the changed ones twice */
	assert_in_range(u.peak, 40 * MIB, 60 * MIB + overhead());
	assert_in_range(u.cpu_us, 100 * SD_MS, 20 * SD_SEC);
	/* not worth the longer look */
	sd_usage_of(pid, orphans, n, true, 2000 * MIB, &u);
	assert_in_range(u.memory, 115 * MIB, 160 * MIB + overhead());
	/* CPU only, and without the orphan */
	sd_usage_of(pid, NULL, 0, false, 0, &u);
	assert_int_equal(u.processes, 2);
	assert_int_equal(u.memory, 0);
	kill(-pid, SIGKILL);
	while (wait(NULL) > 0)
		;
	sd_usage_of(pid, NULL, 0, true, 0, &u);
	assert_int_equal(u.processes, 0);
}

static void test_record(void **state)
{
	int64_t rss = 6112, cpu = 209;

	(void)state;
	sd_limit_correct(SD_SLOT_REASON_NONE, 999999999, &rss, &cpu);
	assert_true(rss == 6112 && cpu == 209);
	sd_limit_correct(SD_SLOT_REASON_CPU, 3090, &rss, &cpu);
	assert_true(rss == 6112 && cpu == 3090);
	sd_limit_correct(SD_SLOT_REASON_MEMORY, 93 * MIB, &rss, &cpu);
	assert_true(rss == 93 * 1024 && cpu == 3090);
	sd_limit_correct(SD_SLOT_REASON_MEMORY, 70 * MIB, &rss, &cpu);
	sd_limit_correct(SD_SLOT_REASON_CPU, 3000, &rss, &cpu);
	assert_true(rss == 93 * 1024 && cpu == 3090);
}

/* ---- cgroups ---- */

#define HYBRID                                                                                                         \
	"25 1 0:22 / /sys rw - sysfs sysfs rw\n30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"      \
	"40 25 0:35 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"

static void test_cgroup_found(void **state)
{
	char out[128];
	bool top;

	(void)state;
	assert_true(sd_cgroup_find("0::/system.slice/stepd.service\n", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", out, sizeof out, &top));
	assert_string_equal(out, "/sys/fs/cgroup/system.slice/stepd.service");
	assert_false(top);
	assert_true(sd_cgroup_find("4:memory:/x\n0::/a b\n", HYBRID, out, sizeof out, &top));
	assert_string_equal(out, "/sys/fs/cgroup/unified/a b");
	assert_true(sd_cgroup_find("0::/\n", HYBRID, out, sizeof out, &top));
	assert_string_equal(out, "/sys/fs/cgroup/unified");
	assert_true(top);
	/* a part of the tree is mounted */
	assert_true(sd_cgroup_find("0::/pod/c1/x\n", "1 0 0:1 /pod/c1 /cg rw - cgroup2 none rw\n", out, sizeof out, &top));
	assert_string_equal(out, "/cg/x");
	assert_false(top);
	assert_true(sd_cgroup_find("0::/pod/c1\n", "1 0 0:1 /pod/c1 /cg rw - cgroup2 none rw\n", out, sizeof out, &top));
	assert_string_equal(out, "/cg");
	assert_true(top);
	assert_false(sd_cgroup_find("0::/pod/c12\n", "1 0 0:1 /pod/c1 /cg rw - cgroup2 none rw\n", out, sizeof out, &top));
	/* not to be seen from here, none, nonsense, too long */
	assert_false(sd_cgroup_find("0::/../x\n", HYBRID, out, sizeof out, &top));
	assert_false(sd_cgroup_find("1:memory:/x\n", HYBRID, out, sizeof out, &top));
	assert_false(sd_cgroup_find("0::/x\n", "25 1 0:22 / /sys rw - sysfs sysfs rw\n", out, sizeof out, &top));
	assert_false(sd_cgroup_find("0::x\n", HYBRID, out, sizeof out, &top));
	assert_false(sd_cgroup_find("", "", out, sizeof out, &top));
	assert_false(sd_cgroup_find("0::/system.slice\n", HYBRID, out, 20, &top));
}

static void test_cgroup_field(void **state)
{
	(void)state;
	assert_int_equal(sd_cgroup_field("low 0\noom 3\noom_kill 2\n", "oom_kill"), 2);
	assert_int_equal(sd_cgroup_field("oom_kill_extra 9\noom 3", "oom_kill"), -1);
	assert_int_equal(sd_cgroup_field("oom 3", "oom"), 3);
	assert_int_equal(sd_cgroup_field("", "oom"), -1);
}

/* Files as the kernel has them, in an ordinary folder. */
static void write_file(const char *folder, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void expect_file(const char *folder, const char *name, const char *text)
{
	char path[256], got[64] = "";
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(got, sizeof got, f));
	fclose(f);
	assert_string_equal(got, text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void test_cgroup_files(void **state)
{
	char folder[] = "/tmp/stepd-cgroup-XXXXXX", box[64];
	struct sd_cgroup *c;
	struct sd_usage u;
	struct sd_err err;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(box, sizeof box, "%s/worker-1-1", folder);
	assert_null(sd_cgroup_open_at(folder, &err));
	assert_non_null(strstr(err.message, "memory controller"));
	write_file(folder, "cgroup.controllers", "cpu memory_x pids\n");
	assert_null(sd_cgroup_open_at(folder, &err));
	write_file(folder, "cgroup.controllers", "memory pids\n");
	assert_null(sd_cgroup_open_at(folder, &err));
	assert_non_null(strstr(err.message, "cgroup.subtree_control"));
	write_file(folder, "cgroup.subtree_control", "");
	c = sd_cgroup_open_at(folder, &err);
	assert_non_null(c);
	expect_file(folder, "cgroup.subtree_control", "+memory");

	assert_int_equal(sd_cgroup_box(c, "worker-1-1", MIB, &err), -1); /* the kernel makes no files here */
	assert_int_equal(mkdir(box, 0755), 0);
	write_file(box, "memory.max", "");
	write_file(box, "memory.oom.group", "");
	write_file(box, "cgroup.procs", "");
	assert_int_equal(sd_cgroup_box(c, "worker-1-1", 80 * MIB, &err), 0);
	expect_file(box, "memory.max", "83886080");
	expect_file(box, "memory.oom.group", "1");
	write_file(box, "memory.swap.max", "");
	assert_int_equal(sd_cgroup_box(c, "worker-1-1", 80 * MIB, &err), 0);
	expect_file(box, "memory.swap.max", "0");
	assert_int_equal(sd_cgroup_cpus(c, "worker-1-1", 1.5, &err), -1);
	assert_non_null(strstr(err.message, "the cpu controller is not available"));
	write_file(folder, "cgroup.controllers", "cpu memory pids\n");
	assert_int_equal(sd_cgroup_cpus(c, "worker-1-1", 1.5, &err), -1);
	assert_non_null(strstr(err.message, "cpu.max"));
	write_file(box, "cpu.max", "");
	assert_int_equal(sd_cgroup_cpus(c, "worker-1-1", 1.5, &err), 0);
	expect_file(box, "cpu.max", "150000 100000");
	expect_file(folder, "cgroup.subtree_control", "+cpuory"); /* the kernel would take both */
	assert_int_equal(sd_cgroup_enter(c, "worker-1-1", 4711, &err), 0);
	expect_file(box, "cgroup.procs", "4711");
	assert_int_equal(sd_cgroup_enter(c, "worker-2-1", 4711, &err), -1);

	assert_false(sd_cgroup_usage(c, "worker-1-1", &u));
	write_file(box, "memory.stat", "anon 1000\nfile 500000\nkernel 7\nshmem 20\n");
	write_file(box, "cpu.stat", "usage_usec 123456\nuser_usec 100000\n");
	assert_true(sd_cgroup_usage(c, "worker-1-1", &u));
	assert_int_equal(u.memory, 1020);
	assert_int_equal(u.cpu_us, 123456);
	write_file(box, "memory.swap.current", "300\n");
	assert_true(sd_cgroup_usage(c, "worker-1-1", &u));
	assert_int_equal(u.memory, 1320);
	assert_false(sd_cgroup_out_of_memory(c, "worker-1-1"));
	write_file(box, "memory.events", "oom 1\noom_kill 0\n");
	assert_false(sd_cgroup_out_of_memory(c, "worker-1-1"));
	write_file(box, "memory.events", "oom 0\noom_kill 3\n"); /* a group above, or the machine, ran out */
	assert_false(sd_cgroup_out_of_memory(c, "worker-1-1"));
	write_file(box, "memory.events", "oom 1\noom_kill 3\n");
	assert_true(sd_cgroup_out_of_memory(c, "worker-1-1"));
	write_file(box, "cgroup.kill", "");
	sd_cgroup_drop(c, "worker-1-1");
	expect_file(box, "cgroup.kill", "1");
	sd_cgroup_drop(c, "worker-9-9");
	sd_cgroup_close(c);
	assert_int_equal(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory), cmocka_unit_test(test_cpu), cmocka_unit_test(test_wall),
		cmocka_unit_test(test_who_died_of_it), cmocka_unit_test(test_shared_pages), cmocka_unit_test(test_text_and_slot), cmocka_unit_test(test_proc_texts),
		cmocka_unit_test(test_family),	cmocka_unit_test(test_record), cmocka_unit_test(test_cgroup_found), cmocka_unit_test(test_cgroup_field),
		cmocka_unit_test(test_cgroup_files),
	};

	return cmocka_run_group_tests_name("limit", tests, NULL, NULL);
}
