/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h: order, bounds, the lowest failure, cancelling, idling. */
#include "libdata/pool.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

struct task {
    uint64_t serial;
    uint64_t weight;
    bool is_worked;
};

struct bench {
    struct prx_pool *pool;
    uint64_t n_tasks;
    uint64_t weight;    /* of each */
    uint64_t grown;     /* added by the work */
    uint64_t fail_from; /* serials that fail: from here, each third */
    uint64_t end_with;  /* rc of the producer */
    int put_rc;
    atomic_uint_fast64_t n_alive, n_alive_max, n_worked, n_idle;
    atomic_int n_scratches;
    int idle_rc;
    int stall_ms;
};

static void nap(int ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000L};
    nanosleep(&time, NULL);
}

static int new_scratch(void *ctx, void **out)
{
    struct bench *bench = ctx;
    atomic_fetch_add(&bench->n_scratches, 1);
    *out = bench;
    return 0;
}

static void free_scratch(void *ctx, void *scratch)
{
    assert_ptr_equal(ctx, scratch);
    atomic_fetch_sub(&((struct bench *)ctx)->n_scratches, 1);
}

static int work(void *ctx, void *scratch, void *arg)
{
    struct bench *bench = ctx;
    struct task *task = arg;

    assert_ptr_equal(scratch, ctx);
    /* Later ones are faster, so that results come out of order. */
    if (task->serial % 5 == 0)
        nap(1 + bench->stall_ms);
    atomic_fetch_add(&bench->n_worked, 1);
    task->is_worked = true;
    task->weight += bench->grown;
    if (task->serial >= bench->fail_from && (task->serial - bench->fail_from) % 3 == 0)
        return prx_err(PRX_ECORRUPT, "task %d", (int)task->serial);
    return 0;
}

static uint64_t weigh(void *ctx, const void *task)
{
    (void)ctx;
    return ((const struct task *)task)->weight;
}

static void drop(void *ctx, void *task)
{
    atomic_fetch_sub(&((struct bench *)ctx)->n_alive, 1);
    free(task);
}

static int idle(void *ctx)
{
    struct bench *bench = ctx;
    atomic_fetch_add(&bench->n_idle, 1);
    return bench->idle_rc ? prx_err(bench->idle_rc, "idle") : 0;
}

static void *produce(void *arg)
{
    struct bench *bench = arg;
    int rc = 0;

    for (uint64_t i = 0; i < bench->n_tasks && rc == 0; i++) {
        struct task *task = calloc(1, sizeof(*task));
        *task = (struct task){.serial = i, .weight = bench->weight};
        uint64_t n_alive = atomic_fetch_add(&bench->n_alive, 1) + 1;
        if (n_alive > atomic_load(&bench->n_alive_max))
            atomic_store(&bench->n_alive_max, n_alive);
        rc = prx_pool_put(bench->pool, task);
    }
    bench->put_rc = rc;
    if (rc == 0 && bench->end_with)
        rc = prx_err(PRX_EIO, "producer");
    prx_pool_end(bench->pool, rc);
    return NULL;
}

/* Run it all; returns what next() ended with, after @n_taken tasks in order. */
static int run(struct bench *bench, int n_threads, size_t n_tasks_max,
               uint64_t weight_max, uint64_t n_take_max, uint64_t *n_taken)
{
    struct prx_pool_opts opts = {
        .n_threads = n_threads,
        .n_tasks_max = n_tasks_max,
        .weight_max = weight_max,
        .new_scratch = new_scratch,
        .free_scratch = free_scratch,
        .work = work,
        .weigh = weigh,
        .drop = drop,
        .idle = idle,
        .ctx = bench,
    };
    pthread_t producer;
    void *task;
    int got = 1;

    assert_int_equal(prx_pool_new(&opts, &bench->pool), 0);
    assert_int_equal(pthread_create(&producer, NULL, produce, bench), 0);
    *n_taken = 0;
    while (*n_taken < n_take_max && (got = prx_pool_next(bench->pool, &task)) == 1) {
        assert_int_equal(((struct task *)task)->serial, (*n_taken)++);
        assert_true(((struct task *)task)->is_worked);
        drop(bench, task);
    }
    prx_pool_cancel(bench->pool);
    pthread_join(producer, NULL);
    prx_pool_free(bench->pool);
    assert_int_equal(atomic_load(&bench->n_alive), 0);
    assert_int_equal(atomic_load(&bench->n_scratches), 0);
    return got;
}

static void test_order(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= 16; n_threads *= 2) {
        struct bench bench = {.n_tasks = 500, .weight = 1, .fail_from = UINT64_MAX};
        uint64_t n_taken;
        assert_int_equal(run(&bench, n_threads, 64, 1000, UINT64_MAX, &n_taken), 0);
        assert_int_equal(n_taken, 500);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    /* By number: 8 in the pool, one at the producer's hand, one at the consumer's. */
    struct bench bench = {.n_tasks = 300, .weight = 1, .fail_from = UINT64_MAX};
    uint64_t n_taken;
    assert_int_equal(run(&bench, 4, 8, 1000, UINT64_MAX, &n_taken), 0);
    assert_true(atomic_load(&bench.n_alive_max) <= 10);
    /* By weight. */
    bench = (struct bench){.n_tasks = 300, .weight = 10, .fail_from = UINT64_MAX};
    assert_int_equal(run(&bench, 4, 64, 59, UINT64_MAX, &n_taken), 0);
    assert_true(atomic_load(&bench.n_alive_max) <= 7);
    /* One too heavy for the pool passes alone, and growing ones pass too. */
    bench = (struct bench){
        .n_tasks = 50, .weight = 100, .grown = 1000, .fail_from = UINT64_MAX};
    assert_int_equal(run(&bench, 4, 64, 59, UINT64_MAX, &n_taken), 0);
    assert_true(atomic_load(&bench.n_alive_max) <= 3);
    assert_int_equal(n_taken, 50);
}

static void test_lowest_failure_wins(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct bench bench = {.n_tasks = 200, .weight = 1, .fail_from = 40};
        uint64_t n_taken;
        assert_int_equal(run(&bench, 8, 32, 1000, UINT64_MAX, &n_taken), PRX_ECORRUPT);
        assert_int_equal(n_taken, 40);
        assert_string_equal(prx_err_message(), "task 40");
        assert_int_equal(bench.put_rc, PRX_ECANCELED);
        assert_true(atomic_load(&bench.n_worked) < 40 + 34);
    }
}

static void test_producer_fails(void **state)
{
    struct bench bench = {
        .n_tasks = 30, .weight = 1, .fail_from = UINT64_MAX, .end_with = 1};
    uint64_t n_taken;

    (void)state;
    assert_int_equal(run(&bench, 3, 8, 1000, UINT64_MAX, &n_taken), PRX_EIO);
    assert_int_equal(n_taken, 30);
    assert_string_equal(prx_err_message(), "producer");
}

static void test_consumer_leaves(void **state)
{
    struct bench bench = {.n_tasks = 1000000, .weight = 1, .fail_from = UINT64_MAX};
    uint64_t n_taken;

    (void)state;
    assert_int_equal(run(&bench, 3, 8, 1000, 17, &n_taken), 1);
    assert_int_equal(bench.put_rc, PRX_ECANCELED);
}

static void test_idle(void **state)
{
    struct bench bench = {
        .n_tasks = 1, .weight = 1, .fail_from = UINT64_MAX, .stall_ms = 600};
    uint64_t n_taken;

    (void)state;
    assert_int_equal(run(&bench, 1, 8, 1000, UINT64_MAX, &n_taken), 0);
    assert_true(atomic_load(&bench.n_idle) >= 2);
    bench = (struct bench){.n_tasks = 1,
                           .weight = 1,
                           .fail_from = UINT64_MAX,
                           .stall_ms = 600,
                           .idle_rc = PRX_ECANCELED};
    assert_int_equal(run(&bench, 1, 8, 1000, UINT64_MAX, &n_taken), PRX_ECANCELED);
    assert_int_equal(n_taken, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_lowest_failure_wins),
        cmocka_unit_test(test_producer_fails),
        cmocka_unit_test(test_consumer_leaves),
        cmocka_unit_test(test_idle),
    };
    prx_pool_free(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
