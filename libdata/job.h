/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.h - one destination by several processes, on machines that share its folder.
 *
 * A job is a list of units of work, numbered from 0.  A process claims a unit, makes
 * it as a destination of its own, publishes that, and goes on to the next, until
 * every unit is published; one of the processes then moves all shards to their final
 * names and writes the index.  Beside the destination "out/%06d.tar" stands
 *
 *     out/.prx-job/plan           what is being made, and of how many units; the lock
 *     out/.prx-job/NONCE.card     of a process: who it is; touched while it lives
 *     out/.prx-job/000012.claim   a link to the card of the one that has unit 12
 *     out/.prx-job/000012.NONCE/  what that one has made of it so far
 *     out/.prx-job/000012.part/   what one that was stopped has left of it
 *     out/.prx-job/000012/        unit 12, published: shards with an index
 *
 * The invariants:
 *
 *  1. Only the process NONCE writes to 000012.NONCE/; another one takes the folder
 *     over only where that process is known to be dead.
 *  2. A unit is published by renaming that folder, which fails where the name is
 *     taken.  So a unit is the whole work of one process.
 *  3. What is in a unit depends on the plan and its number alone.
 *
 * So the result does not depend on how many processes there are, nor on when they
 * come, stop or are killed; and a claim is only there to save doing work twice.
 *
 * A claim is taken over where its owner is dead: no process of this machine has the
 * number and the start time on the card; or else silent: its card has not been
 * touched while this process has watched for the time-out.  Clocks of machines are
 * not compared.
 *
 * File systems: local, NFS, Lustre and others with hard links, flock(2) and atomic
 * rename(2).  The system gives up the lock of a process that dies, but not of one
 * that is suspended: where that happens while it completes the destination, the others
 * wait.
 * A struct prx_job is one thread's.
 */
#ifndef PRX_LIBDATA_JOB_H
#define PRX_LIBDATA_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/sink.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_job;

struct prx_job_opts {
    /* Both are borrowed until the job is closed. */
    const char *dest; /* prx_sink_is_numbered() */
    /* Of the destination: limits, and the plan of the whole; exists is not looked
     * at. */
    const struct prx_sink_opts *sink_opts;
    uint64_t n_units;
    uint64_t i_first;     /* the unit to begin to look at; below n_units, or 0 */
    int claim_timeout_ms; /* 0 = 60 s */
    /* Called each 100 ms while the job waits for other processes; a return other
     * than 0 makes it fail with PRX_ECANCELED. */
    int (*on_wait)(void *ctx);
    void *ctx;
};

/* A unit that this process has claimed. */
struct prx_unit {
    uint64_t i_unit;
    const char *folder; /* with a slash behind; other files may be put there */
    struct prx_sink *sink;
    uint64_t n_done_serials; /* settled by one who had the unit before */
};

/**
 * prx_job_open - join the job at opts->dest, or begin it.
 *
 * Where the same job has been finished there is nothing left to do, and no error.
 * Errors: PRX_EEXIST (another job, or something else, is there), PRX_ECANCELED,
 *         PRX_EIO, PRX_ENOMEM, and others of prx_sink_open().
 */
PRX_MUST_USE int prx_job_open(const struct prx_job_opts *opts, struct prx_job **out);

/**
 * prx_job_next - claim a unit; wait where all are claimed, but not all published.
 *
 * @unit: to be given to prx_job_put() or prx_job_drop(); valid until then.
 * Returns 1, 0 (every unit is published) or < 0, as prx_job_open().
 */
PRX_MUST_USE int prx_job_next(struct prx_job *job, const struct prx_unit **unit);

/** prx_job_has_lost - has another process taken the unit over?  Any thread. */
bool prx_job_has_lost(const struct prx_job *job);

/**
 * prx_job_put - finish the sink of the unit, with @extra, and publish it.
 *
 * Returns 1, or 0 where that was in vain, since another process had taken the unit
 * over; < 0 as prx_sink_finish(), and the unit is left to others.
 */
PRX_MUST_USE int prx_job_put(struct prx_job *job, json_t *extra);

/**
 * prx_job_drop - give the unit back; another process goes on with what is there.
 *
 * Returns false where the unit had been taken over: what went wrong with it is then
 * nobody's concern.
 */
bool prx_job_drop(struct prx_job *job);

/**
 * prx_job_finish - after the last unit: complete the destination.
 *
 * @extra:  members for the index, or NULL.
 * @visit:  called for each unit in order, with the path of its folder, before the
 *          destination is complete; a negative return ends it all.  May be NULL.
 * @totals: of the whole job.
 * Returns 1, or 0 where another process has completed it (@visit is then not called);
 * < 0 as prx_job_open() and prx_sink_finish().
 */
PRX_MUST_USE int prx_job_finish(struct prx_job *job, json_t *extra,
                                int (*visit)(void *ctx, const char *folder), void *ctx,
                                struct prx_sink_totals *totals);

/** prx_job_close - leave the job; a unit that is claimed is dropped.  NULL is fine. */
void prx_job_close(struct prx_job *job);

#ifdef __cplusplus
}
#endif
#endif
