/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ordered pool: a ring of slots, one lock, three conditions.
 *
 * Serials run through the ring; slot = serial modulo its size.  Always
 *
 *     n_taken <= n_begun <= n_put <= n_taken + n_slots
 *
 * Slots [n_begun, n_put) wait, [n_taken, n_begun) are worked on or done, and
 * only slot n_taken can be handed out.  A failure at serial s lowers n_good to
 * s: tasks at or above it are not begun, and the consumer that reaches it gets
 * the saved error.  Tasks are as large as an image, so one lock is no contention;
 * the cost is in waking threads, so nobody is woken for nothing: the consumer
 * only for the serial it waits for, the producer once a quarter is free.
 */
#include "libdata/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define N_TASKS_MAX 1024
#define N_IDLE_NS   250000000L
#define N_SECOND_NS 1000000000L

struct slot {
    void *task;
    uint64_t weight;
    bool is_done;
};

struct prx_pool {
    struct prx_pool_opts opts;
    pthread_mutex_t lock;
    pthread_cond_t can_put;
    pthread_cond_t can_work;
    pthread_cond_t can_take;
    bool is_producer_waiting;
    bool is_consumer_waiting;
    int n_idle_workers;

    struct slot *slots;
    size_t n_slots;
    uint64_t n_put, n_begun, n_taken;
    uint64_t weight;       /* of all in the ring, and of the one just taken */
    uint64_t taken_weight; /* of the one just taken */

    bool is_ended;
    bool is_canceled;
    uint64_t n_good;        /* serials below it have not failed */
    struct prx_error error; /* of serial n_good */

    pthread_t *threads;
    int n_threads;
};

int prx_n_processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 1024 ? 1024
                                : (int)n;
}

static struct slot *slot_of(struct prx_pool *pool, uint64_t serial)
{
    return &pool->slots[serial % pool->n_slots];
}

/* With the lock held: the failure of @serial, as this thread has it. */
static void fail(struct prx_pool *pool, uint64_t serial)
{
    if (serial >= pool->n_good)
        return;
    pool->n_good = serial;
    prx_err_save(&pool->error);
    pthread_cond_signal(&pool->can_put);
    pthread_cond_signal(&pool->can_take);
}

static bool is_over(const struct prx_pool *pool)
{
    return pool->is_canceled || pool->n_begun >= pool->n_good ||
           (pool->is_ended && pool->n_begun == pool->n_put);
}

static void work_on(struct prx_pool *pool, void *scratch, uint64_t serial)
{
    const struct prx_pool_opts *opts = &pool->opts;
    struct slot *slot = slot_of(pool, serial);

    pthread_mutex_unlock(&pool->lock);
    int rc = opts->work(opts->ctx, scratch, slot->task);
    uint64_t weight = opts->weigh(opts->ctx, slot->task);
    pthread_mutex_lock(&pool->lock);
    pool->weight += weight - slot->weight;
    slot->weight = weight;
    slot->is_done = true;
    if (rc < 0)
        fail(pool, serial);
    if (pool->is_consumer_waiting && serial == pool->n_taken)
        pthread_cond_signal(&pool->can_take);
}

static void *run_worker(void *arg)
{
    struct prx_pool *pool = arg;
    const struct prx_pool_opts *opts = &pool->opts;
    void *scratch = NULL;
    int rc = opts->new_scratch ? opts->new_scratch(opts->ctx, &scratch) : 0;

    pthread_mutex_lock(&pool->lock);
    if (rc < 0)
        fail(pool, pool->n_begun);
    while (rc == 0 && !is_over(pool)) {
        if (pool->n_begun < pool->n_put) {
            work_on(pool, scratch, pool->n_begun++);
            continue;
        }
        pool->n_idle_workers++;
        pthread_cond_wait(&pool->can_work, &pool->lock);
        pool->n_idle_workers--;
    }
    pthread_mutex_unlock(&pool->lock);
    if (opts->free_scratch)
        opts->free_scratch(opts->ctx, scratch);
    return NULL;
}

static bool has_room(const struct prx_pool *pool, uint64_t weight)
{
    uint64_t n_tasks = pool->n_put - pool->n_taken;

    if (n_tasks <= pool->opts.n_tasks_min)
        return n_tasks < pool->n_slots;
    return n_tasks < pool->n_slots && pool->weight <= pool->opts.weight_max &&
           weight <= pool->opts.weight_max - pool->weight;
}

int prx_pool_put(struct prx_pool *pool, void *task)
{
    uint64_t weight = pool->opts.weigh(pool->opts.ctx, task);

    pthread_mutex_lock(&pool->lock);
    while (!pool->is_canceled && pool->n_put < pool->n_good &&
           !has_room(pool, weight)) {
        pool->is_producer_waiting = true;
        pthread_cond_wait(&pool->can_put, &pool->lock);
        pool->is_producer_waiting = false;
    }
    if (pool->is_canceled || pool->n_put >= pool->n_good) {
        pthread_mutex_unlock(&pool->lock);
        pool->opts.drop(pool->opts.ctx, task);
        return prx_err(PRX_ECANCELED, "canceled");
    }
    *slot_of(pool, pool->n_put++) = (struct slot){.task = task, .weight = weight};
    pool->weight += weight;
    if (pool->n_idle_workers > 0)
        pthread_cond_signal(&pool->can_work);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

void prx_pool_end(struct prx_pool *pool, int rc)
{
    pthread_mutex_lock(&pool->lock);
    if (rc < 0)
        fail(pool, pool->n_put);
    pool->is_ended = true;
    pthread_cond_broadcast(&pool->can_work);
    pthread_cond_signal(&pool->can_take);
    pthread_mutex_unlock(&pool->lock);
}

/* With the lock held: sleep until woken, or for a while; < 0 from idle. */
static int wait_to_take(struct prx_pool *pool)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += N_IDLE_NS;
    if (until.tv_nsec >= N_SECOND_NS) {
        until.tv_nsec -= N_SECOND_NS;
        until.tv_sec++;
    }
    pool->is_consumer_waiting = true;
    int woken = pthread_cond_timedwait(&pool->can_take, &pool->lock, &until);
    pool->is_consumer_waiting = false;
    if (woken != 0 && pool->opts.idle) {
        pthread_mutex_unlock(&pool->lock);
        rc = pool->opts.idle(pool->opts.ctx);
        pthread_mutex_lock(&pool->lock);
    }
    return rc;
}

/* With the lock held: give back the weight of the task taken last. */
static void settle_taken(struct prx_pool *pool)
{
    pool->weight -= pool->taken_weight;
    pool->taken_weight = 0;
    uint64_t n_tasks = pool->n_put - pool->n_taken;
    bool is_roomy = pool->weight <= pool->opts.weight_max / 4 * 3 &&
                    n_tasks <= pool->n_slots / 4 * 3;
    if (pool->is_producer_waiting && (is_roomy || n_tasks <= pool->opts.n_tasks_min))
        pthread_cond_signal(&pool->can_put);
}

int prx_pool_next(struct prx_pool *pool, void **task)
{
    int rc = 0;

    pthread_mutex_lock(&pool->lock);
    settle_taken(pool);
    while (rc == 0) {
        struct slot *slot = slot_of(pool, pool->n_taken);
        if (pool->n_taken == pool->n_good) {
            rc = prx_err_restore(&pool->error);
            break;
        }
        if (pool->n_taken < pool->n_begun && slot->is_done) {
            *task = slot->task;
            slot->task = NULL;
            pool->taken_weight = slot->weight;
            pool->n_taken++;
            rc = 1;
            break;
        }
        if (pool->is_ended && pool->n_taken == pool->n_put)
            break;
        rc = wait_to_take(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return rc;
}

void prx_pool_cancel(struct prx_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->is_canceled = true;
    pthread_cond_broadcast(&pool->can_work);
    pthread_cond_broadcast(&pool->can_put);
    pthread_mutex_unlock(&pool->lock);
}

void prx_pool_free(struct prx_pool *pool)
{
    if (!pool)
        return;
    prx_pool_cancel(pool);
    for (int i = 0; i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    for (uint64_t serial = pool->n_taken; serial < pool->n_put; serial++)
        pool->opts.drop(pool->opts.ctx, slot_of(pool, serial)->task);
    pthread_cond_destroy(&pool->can_put);
    pthread_cond_destroy(&pool->can_work);
    pthread_cond_destroy(&pool->can_take);
    pthread_mutex_destroy(&pool->lock);
    free(pool->slots);
    free(pool->threads);
    free(pool);
}

/* Timed waits must not jump when somebody sets the clock. */
static void init_locks(struct prx_pool *pool)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->can_put, NULL);
    pthread_cond_init(&pool->can_work, NULL);
    pthread_cond_init(&pool->can_take, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int prx_pool_new(const struct prx_pool_opts *opts, struct prx_pool **out)
{
    int n_threads = opts->n_threads > 0 ? opts->n_threads : prx_n_processors();
    struct prx_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return prx_err_nomem("a pool");
    pool->opts = *opts;
    pool->n_slots = opts->n_tasks_max ? opts->n_tasks_max : N_TASKS_MAX;
    if (pool->n_slots <= opts->n_tasks_min)
        pool->n_slots = opts->n_tasks_min + 1;
    pool->n_good = UINT64_MAX;
    init_locks(pool);
    pool->slots = calloc(pool->n_slots, sizeof(*pool->slots));
    pool->threads = calloc((size_t)n_threads, sizeof(*pool->threads));
    if (!pool->slots || !pool->threads) {
        prx_pool_free(pool);
        return prx_err_nomem("a pool");
    }
    for (; pool->n_threads < n_threads; pool->n_threads++) {
        if (pthread_create(&pool->threads[pool->n_threads], NULL, run_worker, pool) !=
            0) {
            prx_pool_free(pool);
            return prx_err(PRX_EIO, "no more threads than %d", pool->n_threads);
        }
    }
    *out = pool;
    return 0;
}
