/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pipeline: a reading thread, the ordered pool, and the caller as writer.
 *
 * A worker reads what the source only pointed at, then applies the stages, then
 * writes changed metadata back.  A sample rejected on the way skips the rest but
 * keeps its place, so the sink accounts for it in order.
 */
#include "libdata/pipeline.h"

#include <pthread.h>
#include <stdlib.h>

#include "libdata/pool.h"

#define N_BYTES_MAX          ((uint64_t)2 << 20)
#define N_BYTES_MAX_A_THREAD ((uint64_t)1 << 20)

struct task {
    struct prx_sample sample;
    uint64_t n_bytes_in; /* of its fields, as they came */
};

struct run {
    struct prx_source *source;
    const struct prx_stage *stages;
    size_t n_stages;
    struct prx_sink *sink;
    const struct prx_pipeline_opts *opts;
    struct prx_counts *counts;
    struct prx_pool *pool;
};

static void drop_task(void *ctx, void *task)
{
    (void)ctx;
    prx_sample_release(&((struct task *)task)->sample);
    free(task);
}

static uint64_t weigh_task(void *ctx, const void *task)
{
    (void)ctx;
    return sizeof(struct task) + prx_sample_bytes(&((const struct task *)task)->sample);
}

/* Scratch of a worker: what each stage wants, in their order. */
static void free_scratch(void *ctx, void *scratch)
{
    const struct run *run = ctx;
    void **scratches = scratch;

    for (size_t i = 0; scratches && i < run->n_stages; i++)
        if (run->stages[i].free_scratch && scratches[i])
            run->stages[i].free_scratch(scratches[i]);
    free(scratches);
}

static int new_scratch(void *ctx, void **out)
{
    const struct run *run = ctx;
    void **scratches = calloc(run->n_stages + 1, sizeof(*scratches));

    *out = scratches;
    if (!scratches)
        return prx_err_nomem("a worker");
    for (size_t i = 0; i < run->n_stages; i++)
        if (run->stages[i].new_scratch)
            PRX_TRY(run->stages[i].new_scratch(run->stages[i].ctx, &scratches[i]));
    return 0;
}

/* Of a sample's own data only: anything else concerns the run. */
static int reject_or_fail(struct prx_sample *sample, const char *stage, int rc)
{
    if (rc == PRX_ENOMEM)
        return rc;
    prx_sample_reject(sample, stage, "%s", prx_err_message());
    return 0;
}

static int work_on_task(void *ctx, void *scratch, void *task)
{
    const struct run *run = ctx;
    struct prx_sample *sample = &((struct task *)task)->sample;
    void **scratches = scratch;
    int rc;

    if (sample->reject_reason)
        return 0;
    rc = prx_sample_load(sample);
    if (rc < 0)
        return reject_or_fail(sample, "load", rc);
    for (size_t i = 0; i < run->n_stages && !sample->reject_reason; i++) {
        const struct prx_stage *stage = &run->stages[i];
        rc = stage->apply(stage->ctx, scratches[i], sample);
        if (rc < 0)
            return prx_err_frame(rc, "%s", sample->key);
    }
    rc = prx_sample_finish(sample);
    return rc < 0 ? prx_err_frame(rc, "%s", sample->key) : 0;
}

static int read_one(struct run *run, struct task **out)
{
    struct task *task = calloc(1, sizeof(*task));

    if (!task)
        return prx_err_nomem("a sample");
    int got = prx_source_next(run->source, &task->sample);
    if (got == 1) {
        task->n_bytes_in = prx_sample_bytes(&task->sample);
        *out = task;
    } else {
        drop_task(run, task);
    }
    return got;
}

static int read_all(struct run *run)
{
    struct task *task = NULL;
    int got;

    while ((got = read_one(run, &task)) == 1) {
        if (task->sample.serial < run->opts->n_skip)
            drop_task(run, task);
        else
            PRX_TRY(prx_pool_put(run->pool, task));
    }
    return got;
}

static void *run_reader(void *arg)
{
    struct run *run = arg;
    prx_pool_end(run->pool, read_all(run));
    return NULL;
}

static int tick(void *ctx)
{
    const struct run *run = ctx;

    if (run->opts->on_sample && run->opts->on_sample(run->opts->ctx, run->counts) != 0)
        return prx_err(PRX_ECANCELED, "interrupted");
    return 0;
}

static int write_one(struct run *run, struct task *task)
{
    struct prx_sample *sample = &task->sample;
    struct prx_counts *counts = run->counts;

    counts->n_read++;
    counts->n_bytes_in += task->n_bytes_in;
    PRX_TRY(prx_sink_put(run->sink, sample));
    if (!sample->reject_reason) {
        counts->n_written++;
    } else {
        counts->n_rejected++;
        if (run->opts->on_reject && run->opts->on_reject(run->opts->ctx, sample) != 0)
            return prx_err(PRX_ECANCELED, "interrupted");
    }
    return tick(run);
}

static int write_all(struct run *run)
{
    void *task;
    int got;

    while ((got = prx_pool_next(run->pool, &task)) == 1) {
        int rc = write_one(run, task);
        drop_task(run, task);
        PRX_TRY(rc);
    }
    return got;
}

int prx_pipeline_run(struct prx_source *source, const struct prx_stage *stages,
                     size_t n_stages, struct prx_sink *sink,
                     const struct prx_pipeline_opts *opts, struct prx_counts *counts)
{
    static const struct prx_pipeline_opts no_opts;
    struct prx_counts own_counts;
    struct run run = {source, stages, n_stages, sink,
                      opts ? opts : &no_opts, counts ? counts : &own_counts, NULL};
    int n_threads = run.opts->n_threads > 0 ? run.opts->n_threads : prx_n_processors();
    struct prx_pool_opts pool_opts = {
        .n_threads = n_threads,
        .n_tasks_min = (size_t)n_threads, /* each has one to work on */
        .weight_max = run.opts->n_bytes_max
                          ? run.opts->n_bytes_max
                          : N_BYTES_MAX + (uint64_t)n_threads * N_BYTES_MAX_A_THREAD,
        .new_scratch = new_scratch,
        .free_scratch = free_scratch,
        .work = work_on_task,
        .weigh = weigh_task,
        .drop = drop_task,
        .idle = tick,
        .ctx = &run,
    };
    pthread_t reader;

    *run.counts = (struct prx_counts){0};
    PRX_TRY(prx_pool_new(&pool_opts, &run.pool));
    if (pthread_create(&reader, NULL, run_reader, &run) != 0) {
        prx_pool_free(run.pool);
        return prx_err(PRX_EIO, "no thread to read with");
    }
    int rc = write_all(&run);
    struct prx_error error;
    prx_err_save(&error);
    if (rc < 0) {
        prx_pool_cancel(run.pool);
        prx_source_cancel(source);
    }
    pthread_join(reader, NULL);
    prx_pool_free(run.pool);
    return rc < 0 ? prx_err_restore(&error) : 0;
}
