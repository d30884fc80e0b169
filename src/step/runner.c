/*
 * The step thread.
 *
 * One mutex guards three things: what was given and has not started, what ended
 * and was not taken, and the one open question.  The step thread holds it only
 * to move an attempt from one list to the other; a handler runs without it.
 *
 * Waking the loop thread.  Ending a job of a few microseconds must not cost a
 * system call and a context switch, and a job that ended must not stay unseen
 * while the next one runs for an hour.  So the bell is rung at once (eventfd)
 * only when the loop thread is needed: nothing is left to run, or a handler
 * asks.  Otherwise a timer (timerfd) is set, once until the loop thread has
 * answered it.  An epoll descriptor makes one of the two.
 *
 * Slot fields, in the order scoreboard.h asks for: job is set before the
 * handler starts and deadline after job; deadline is cleared before job.
 */
#include "step/runner.h"
#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "proc/spawn.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define STACK_SIZE (8u << 20) /* address space; only what is used is memory */
#define SOON_NS 2000000L
#define LEASE_LOOK_NS 20000000L /* nobody tells when the lease is renewed */

struct list {
	struct sd_attempt *head, **tail;
	size_t n;
};

struct sd_runner {
	const struct sd_registry *registry;
	struct sd_slot *slot;
	const struct sd_scoreboard *board;
	int bell, timer, fd;
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t work;   /* something was given, or stop */
	pthread_cond_t answer; /* the question was answered */
	struct list given, ended;
	struct sd_attempt *current;
	struct sd_ask *ask;
	bool ask_seen, answered, idle, stop;
	bool held; /* the hook asked to wait for sd_runner_resume */
	sd_runner_hook *hook;
	void *hook_arg;
	const struct sd_stream_ops *stream;
	void *stream_arg;
	_Atomic bool stopping;
	bool rung, timer_set;
	struct sd_buf report; /* what the running handler said last … */
	uint64_t said, told;  /* … of so many, and the number of the last one that was told */
	bool report_seen;

	struct sd_slot *own_slot; /* when none was given */
};

static void list_init(struct list *l)
{
	l->head = NULL;
	l->tail = &l->head;
	l->n = 0;
}

static void list_push(struct list *l, struct sd_attempt *a)
{
	a->next = NULL;
	*l->tail = a;
	l->tail = &a->next;
	l->n++;
}

static struct sd_attempt *list_pop(struct list *l)
{
	struct sd_attempt *a = l->head;

	l->head = a->next;
	if (l->head == NULL)
		l->tail = &l->head;
	l->n--;
	a->next = NULL;
	return a;
}

static struct sd_attempt *list_take(struct list *l)
{
	struct sd_attempt *chain = l->head;

	list_init(l);
	return chain;
}

/* ---- the bell; all with the lock held ---- */

static void ring(struct sd_runner *r)
{
	uint64_t one = 1;

	if (r->rung)
		return;
	r->rung = true;
	while (write(r->bell, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void ring_soon(struct sd_runner *r)
{
	static const struct itimerspec soon = {.it_value = {.tv_nsec = SOON_NS}};

	if (r->rung || r->timer_set)
		return;
	if (timerfd_settime(r->timer, 0, &soon, NULL) == 0)
		r->timer_set = true;
	else
		ring(r);
}

void sd_runner_clear(struct sd_runner *r)
{
	uint64_t n;

	pthread_mutex_lock(&r->lock);
	if (r->rung && read(r->bell, &n, sizeof n) == (ssize_t)sizeof n)
		r->rung = false;
	if (r->timer_set) {
		static const struct itimerspec off;

		timerfd_settime(r->timer, 0, &off, NULL); /* also forgets an expiry that was not read */
		r->timer_set = false;
	}
	pthread_mutex_unlock(&r->lock);
}

/* ---- the step thread ---- */

#define PUT(field, value) atomic_store_explicit(&slot->field, (value), memory_order_release)

static void announce(struct sd_slot *slot, const struct sd_attempt *a)
{
	PUT(cancel_job, 0); /* a cancelled job that is retried here must not find its old cancel */
	PUT(attempt, a->attempt);
	PUT(step, a->step_index);
	PUT(started_us, a->started_us);
	if (a->http != NULL) {
		PUT(request, a->http->id);
		PUT(serving, 1);
	}
	PUT(job, a->job_id);
	PUT(deadline_us, a->timeout_ms > 0 ? a->started_us + a->timeout_ms * SD_MS : 0);
}

static void withdraw(struct sd_slot *slot, const struct sd_attempt *a)
{
	PUT(deadline_us, 0);
	PUT(last_job, a->job_id);
	PUT(job, 0);
	PUT(serving, 0);
	/* only this thread writes these two, so no atomic addition is needed */
	PUT(jobs_done, atomic_load_explicit(&slot->jobs_done, memory_order_relaxed) + 1);
	if (a->outcome == SD_OUTCOME_ERROR || a->outcome == SD_OUTCOME_FAIL)
		PUT(jobs_failed, atomic_load_explicit(&slot->jobs_failed, memory_order_relaxed) + 1);
}

/*
 * The keeper writes the lease of a new life before its node_id, and takes the old node_id away before both.  So the lease
 * is read first: if the node is still ours after that, it is ours that was read, however long we were stopped in between.
 */
bool sd_runner_is_leased(const struct sd_runner *r, const struct sd_attempt *a)
{
	if (r->board == NULL)
		return true;
	int64_t until = atomic_load(&r->board->lease_until_us);
	return a->node_id == atomic_load(&r->board->node_id) && sd_boot_us() < until;
}

/*
 * A queue worker that is to drain starts no other job: it gives back what it holds, unless it was only relieved.  Nor does
 * one whose node may have been declared dead meanwhile, or whose supervisor is.  A web worker serves what it was sent.
 */
static bool may_start(const struct sd_runner *r)
{
	const struct sd_attempt *a = r->given.head;

	return a != NULL && !r->held && (a->http != NULL || (!sd_slot_halted(r->slot) && sd_runner_is_leased(r, a) && !sd_is_orphan()));
}

/* With the lock held. */
static void wait_for_work(struct sd_runner *r)
{
	struct timespec until;

	if (r->given.head == NULL || r->board == NULL) {
		pthread_cond_wait(&r->work, &r->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LEASE_LOOK_NS;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_cond_timedwait(&r->work, &r->lock, &until);
}

/* What nobody was told goes with the attempt. */
static void keep_report(struct sd_runner *r, struct sd_attempt *a)
{
	if (r->said == r->told)
		return;
	a->progress = sd_arena_memdup(a->arena, r->report.data, r->report.len);
	r->told = r->said;
	r->report_seen = false;
}

/* The next attempt to run, with the lock held; NULL: stop. */
static struct sd_attempt *next(struct sd_runner *r)
{
	while (!may_start(r)) {
		if (r->stop)
			return NULL;
		r->idle = true;
		wait_for_work(r);
		r->idle = false;
	}
	return list_pop(&r->given);
}

/* A handler that ends its thread (pthread_exit) would leave a worker that looks alive: end the process instead. */
static void thread_ended(void *arg)
{
	sd_log(SD_LOG_ERROR, "a handler ended its thread");
	abort();
}

static void *run(void *arg)
{
	struct sd_runner *r = arg;
	struct sd_attempt *a;
	bool go_on;

	pthread_cleanup_push(thread_ended, NULL);
	pthread_mutex_lock(&r->lock);
	while ((a = next(r)) != NULL) {
		a->started_us = sd_now_us();
		r->current = a;
		pthread_mutex_unlock(&r->lock);

		announce(r->slot, a);
		sd_step_run(a->step, a, r);
		withdraw(r->slot, a);
		go_on = r->hook == NULL || r->hook(r->hook_arg, a);

		pthread_mutex_lock(&r->lock);
		keep_report(r, a);
		r->current = NULL;
		r->held = !go_on;
		list_push(&r->ended, a);
		if (r->given.head == NULL || r->held)
			ring(r);
		else
			ring_soon(r);
	}
	pthread_mutex_unlock(&r->lock);
	pthread_cleanup_pop(0);
	return NULL;
}

void sd_runner_await(struct sd_runner *r, struct sd_ask *ask)
{
	ask->json = NULL;
	ask->failed = false;
	if (r == NULL) {
		ask->failed = true;
		sd_err_set(&ask->err, SD_ERR_PERMANENT, "there is no database here");
		return;
	}
	pthread_mutex_lock(&r->lock);
	r->ask = ask;
	r->ask_seen = r->answered = false;
	ring(r);
	while (!r->answered)
		pthread_cond_wait(&r->answer, &r->lock);
	r->ask = NULL;
	pthread_mutex_unlock(&r->lock);
}

bool sd_runner_cancelled(struct sd_runner *r, const struct sd_attempt *a)
{
	return r != NULL && a->job_id != 0 && atomic_load_explicit(&r->slot->cancel_job, memory_order_acquire) == a->job_id;
}

void sd_runner_say(struct sd_runner *r, const struct sd_buf *report)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	sd_buf_reset(&r->report);
	sd_buf_append(&r->report, report->data, report->len);
	r->said++;
	if (!r->report_seen)
		ring_soon(r);
	pthread_mutex_unlock(&r->lock);
}

bool sd_runner_stopping(const struct sd_runner *r)
{
	return r != NULL && r->stopping;
}

const struct sd_stream_ops *sd_runner_stream(const struct sd_runner *r, void **arg)
{
	if (r == NULL)
		return NULL;
	*arg = r->stream_arg;
	return r->stream;
}

/* ---- the loop thread ---- */

bool sd_runner_reported(struct sd_runner *r)
{
	bool fresh;

	pthread_mutex_lock(&r->lock);
	fresh = r->said != r->told && !r->report_seen;
	r->report_seen = r->report_seen || fresh;
	pthread_mutex_unlock(&r->lock);
	return fresh;
}

uint64_t sd_runner_report(struct sd_runner *r, struct sd_buf *out, int64_t *lease_id, int64_t *job_id)
{
	uint64_t number = 0;

	pthread_mutex_lock(&r->lock);
	if (r->said != r->told && r->current != NULL) {
		sd_buf_reset(out);
		sd_buf_append(out, r->report.data, r->report.len);
		*lease_id = r->current->lease_id;
		*job_id = r->current->job_id;
		number = r->said;
	}
	r->report_seen = false;
	pthread_mutex_unlock(&r->lock);
	return number;
}

void sd_runner_told(struct sd_runner *r, uint64_t number)
{
	pthread_mutex_lock(&r->lock);
	if (number > r->told)
		r->told = number;
	pthread_mutex_unlock(&r->lock);
}

int sd_runner_fd(const struct sd_runner *r)
{
	return r->fd;
}

void sd_runner_set_hook(struct sd_runner *r, sd_runner_hook *hook, void *arg)
{
	r->hook = hook;
	r->hook_arg = arg;
}

void sd_runner_set_board(struct sd_runner *r, const struct sd_scoreboard *board)
{
	r->board = board;
}

void sd_runner_set_stream(struct sd_runner *r, const struct sd_stream_ops *ops, void *arg)
{
	r->stream = ops;
	r->stream_arg = arg;
}

void sd_runner_set_stopping(struct sd_runner *r)
{
	r->stopping = true;
}

void sd_runner_resume(struct sd_runner *r)
{
	pthread_mutex_lock(&r->lock);
	r->held = false;
	if (r->idle)
		pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
}

void sd_runner_give(struct sd_runner *r, struct sd_attempt *list)
{
	pthread_mutex_lock(&r->lock);
	while (list != NULL) {
		struct sd_attempt *a = list;

		list = a->next;
		list_push(&r->given, a);
	}
	if (r->idle && r->given.head != NULL)
		pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
}

struct sd_attempt *sd_runner_take(struct sd_runner *r)
{
	struct sd_attempt *chain;

	pthread_mutex_lock(&r->lock);
	chain = list_take(&r->ended);
	pthread_mutex_unlock(&r->lock);
	return chain;
}

struct sd_ask *sd_runner_ask(struct sd_runner *r)
{
	struct sd_ask *ask = NULL;

	pthread_mutex_lock(&r->lock);
	if (r->ask != NULL && !r->ask_seen) {
		r->ask_seen = true;
		ask = r->ask;
	}
	pthread_mutex_unlock(&r->lock);
	return ask;
}

void sd_runner_answer(struct sd_runner *r, struct sd_ask *ask)
{
	pthread_mutex_lock(&r->lock);
	if (r->ask == ask) {
		r->answered = true;
		pthread_cond_signal(&r->answer);
	}
	pthread_mutex_unlock(&r->lock);
}

struct sd_attempt *sd_runner_recall(struct sd_runner *r)
{
	struct sd_attempt *chain;

	pthread_mutex_lock(&r->lock);
	chain = list_take(&r->given);
	if (r->ended.head != NULL)
		ring(r); /* the timer counted on the next attempt's end */
	pthread_mutex_unlock(&r->lock);
	return chain;
}

const struct sd_attempt *sd_runner_current(struct sd_runner *r, int64_t *started_us)
{
	const struct sd_attempt *a;

	pthread_mutex_lock(&r->lock);
	a = r->current;
	*started_us = a != NULL ? a->started_us : 0;
	pthread_mutex_unlock(&r->lock);
	return a;
}

size_t sd_runner_queued(struct sd_runner *r)
{
	size_t n;

	pthread_mutex_lock(&r->lock);
	n = r->given.n;
	pthread_mutex_unlock(&r->lock);
	return n;
}

/* ---- birth and death ---- */

static int open_fds(struct sd_runner *r, struct sd_err *err)
{
	struct epoll_event in = {.events = EPOLLIN};

	r->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	r->fd = epoll_create1(EPOLL_CLOEXEC);
	if (r->bell < 0 || r->timer < 0 || r->fd < 0 || epoll_ctl(r->fd, EPOLL_CTL_ADD, r->bell, &in) < 0 ||
	    epoll_ctl(r->fd, EPOLL_CTL_ADD, r->timer, &in) < 0)
		return sd_err_errno(err, errno, "the step thread's descriptors");
	return 0;
}

static int start_thread(struct sd_runner *r, struct sd_err *err)
{
	pthread_attr_t attr;
	sigset_t ours, before;
	int rc;

	sigemptyset(&ours);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGUSR1);
	sigaddset(&ours, SIGUSR2);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_BLOCK, &ours, &before); /* the thread inherits the mask it is born under */
	rc = pthread_create(&r->thread, &attr, run, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0)
		return sd_err_errno(err, rc, "the step thread");
	pthread_setname_np(r->thread, "step");
	return 0;
}

static struct sd_slot *own_slot(struct sd_runner *r)
{
	r->own_slot = aligned_alloc(alignof(struct sd_slot), sizeof *r->own_slot);
	if (r->own_slot == NULL)
		abort();
	memset(r->own_slot, 0, sizeof *r->own_slot);
	return r->own_slot;
}

static void free_runner(struct sd_runner *r)
{
	sd_close(&r->bell);
	sd_close(&r->timer);
	sd_close(&r->fd);
	sd_buf_fini(&r->report);
	free(r->own_slot);
	free(r);
}

/* Waiting for it with a deadline goes by the clock that nobody sets. */
static void init_work(pthread_cond_t *work)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(work, &attr);
	pthread_condattr_destroy(&attr);
}

struct sd_runner *sd_runner_new(const struct sd_registry *registry, struct sd_slot *slot, struct sd_err *err)
{
	struct sd_runner *r = sd_xcalloc(1, sizeof *r);

	r->registry = registry;
	r->slot = slot != NULL ? slot : own_slot(r);
	r->bell = r->timer = r->fd = -1;
	list_init(&r->given);
	list_init(&r->ended);
	pthread_mutex_init(&r->lock, NULL);
	init_work(&r->work);
	pthread_cond_init(&r->answer, NULL);
	if (open_fds(r, err) == 0 && start_thread(r, err) == 0)
		return r;
	free_runner(r);
	return NULL;
}

void sd_runner_free(struct sd_runner *r)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->work);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->answer);
	pthread_cond_destroy(&r->work);
	pthread_mutex_destroy(&r->lock);
	free_runner(r);
}
