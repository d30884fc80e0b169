/*
 * The channel between the supervisor and one child: a SOCK_SEQPACKET pair of
 * small fixed messages.  EOF on it is the other side's death.
 */
#ifndef SD_PROC_CHAN_H
#define SD_PROC_CHAN_H

#include "base/err.h"

#include <stdint.h>

enum sd_msg_type {
	/* child → supervisor */
	SD_MSG_READY = 1,   /* the child can serve */
	SD_MSG_FAILED,	    /* it cannot start; exit_code says how the daemon should exit (69, 78), text why; the child then exits */
	SD_MSG_DEATH_ACK,   /* keeper: the death with this serial is recorded */
	SD_MSG_STATUS,	    /* text for sd_notify STATUS= */
	SD_MSG_DEMAND,	    /* keeper, http: work waits for this group; demand is filled */
	SD_MSG_CLOSED,	    /* http, after SD_MSG_DRAIN: no new connection reaches it any more */
	SD_MSG_WORN,	    /* worker: it has done its share and holds nothing: replace it */
	/* supervisor → child */
	/*
	 * Stop taking work, finish what runs, exit 0.  A keeper is drained last at a stop, and also when a reload or a
	 * recycling replaces it: it leaves the node (stepd.node_leave) only when scoreboard->stopping is set.
	 */
	SD_MSG_DRAIN = 64,
	SD_MSG_DEATH,	    /* to the keeper: a worker died; death is filled.  Also to http, when it was a web worker. */
	SD_MSG_REOPEN_LOGS,
	SD_MSG_LIVE,	    /* to the keeper: its configuration serves from now on */
};

struct sd_msg_death {
	uint64_t serial;
	uint32_t slot, generation;
	int32_t node_id; /* the scoreboard's at that time */
	int32_t pid;
	int32_t backend; /* pid of the server process it spoke to; 0: none */
	int64_t job;	 /* the one that ran; 0: none */
	int32_t ended;	 /* … it had ended, its outcome may not have been told, and nothing says that the death is its work */
	int32_t attempt;
	int32_t exit_code; /* -1: by signal */
	int32_t signal;	   /* 0: exited */
	int32_t reason;	   /* SD_SLOT_REASON_* */
	int64_t limit, used; /* of a memory or CPU limit: bytes, ms */
	int64_t started_us; /* of the attempt, sd_now_us */
	int64_t died_us;
	int64_t max_rss_kb;
	int64_t cpu_ms;
};

struct sd_msg_demand {
	int32_t group;	 /* of the scoreboard */
	int32_t waiting; /* pieces of work, at least */
};

struct sd_msg {
	uint32_t type;
	int32_t exit_code;
	uint64_t serial;
	union {
		struct sd_msg_death death;
		struct sd_msg_demand demand;
		char text[480];
	};
};

/* A pair of close-on-exec, non-blocking descriptors. */
int sd_chan_pair(int fd[2], struct sd_err *err) SD_MUST_CHECK;
/* 0 sent, -1 error; a full channel is SD_ERR_TRANSIENT. */
int sd_chan_send(int fd, const struct sd_msg *msg, struct sd_err *err) SD_MUST_CHECK;
/* 1 got one, 0 nothing now, -1 EOF or error (err->errnum == 0 for EOF).  Messages of a wrong size are errors. */
int sd_chan_recv(int fd, struct sd_msg *msg, struct sd_err *err) SD_MUST_CHECK;

#endif
