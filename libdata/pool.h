/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - worker threads whose results leave in the order the tasks came.
 *
 * A producer puts tasks, workers work on them in any order, a consumer takes
 * them back in order of their serial numbers (from 0, as put).  What is in the
 * pool is bounded by weight (bytes, say) and by number: the producer waits.
 *
 *     put ──▶ waiting ──▶ working ──▶ done ──▶ next
 *               any worker            in order
 *
 * The first failure in order of serials wins: every task before it is still
 * handed out, then prx_pool_next() fails as that task did; later tasks are not
 * begun.  So a failing run stops at the same place whatever the threads do.
 *
 * One producer and one consumer, which may be one thread as long as it puts no
 * more than fits.  The error of a worker is carried to the consumer.
 */
#ifndef PRX_LIBDATA_POOL_H
#define PRX_LIBDATA_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_pool;

struct prx_pool_opts {
    int n_threads;       /* workers; 0 = processors online */
    size_t n_tasks_max;  /* in the pool at once; 0 = 1024 */
    size_t n_tasks_min;  /* besides one more are let in whatever they weigh */
    uint64_t weight_max; /* together, of any more */

    /* In a worker, once, before its first task and after its last; may be NULL. */
    int (*new_scratch)(void *ctx, void **out);
    void (*free_scratch)(void *ctx, void *scratch);
    int (*work)(void *ctx, void *scratch, void *task);
    uint64_t (*weigh)(void *ctx, const void *task); /* when put, and again when done */
    void (*drop)(void *ctx, void *task);            /* a task that nobody took */
    /* In the consumer, each 250 ms it waits; < 0 ends the waiting; may be NULL. */
    int (*idle)(void *ctx);
    void *ctx;
};

/** prx_pool_new - start the workers. Errors: PRX_ENOMEM, PRX_EIO (no thread). */
PRX_MUST_USE int prx_pool_new(const struct prx_pool_opts *opts, struct prx_pool **out);

/**
 * prx_pool_put - give @task away, waiting for room.
 *
 * Errors: PRX_ECANCELED (a task failed, or the pool is being freed); @task has
 * then been dropped.
 */
PRX_MUST_USE int prx_pool_put(struct prx_pool *pool, void *task);

/**
 * prx_pool_end - no more tasks come.
 *
 * @rc: 0, or the producer's failure, which prx_pool_next() reports after the
 *      last task, with this thread's message.
 */
void prx_pool_end(struct prx_pool *pool, int rc);

/**
 * prx_pool_next - the next task in order, worked on; the caller's from now.
 *
 * Its weight counts until the next call.  Returns 1, 0 (the end) or the failure
 * of the lowest serial, or of idle.
 */
PRX_MUST_USE int prx_pool_next(struct prx_pool *pool, void **task);

/** prx_pool_cancel - make a waiting producer give up; any thread. */
void prx_pool_cancel(struct prx_pool *pool);

/** prx_pool_free - stop, drop what is left; the producer must be gone. NULL is fine. */
void prx_pool_free(struct prx_pool *pool);

/** prx_n_processors - processors online, at least 1. */
int prx_n_processors(void);

#ifdef __cplusplus
}
#endif
#endif
