/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A data set at rest, looked at from outside in.
 *
 *     words ──▶ plan: sets, parts        indexes against folders
 *     parts ──▶ pool                     shards against indexes, .idx, skip lists
 *     parts ──▶ pipeline ──▶ verify      samples against themselves
 *               each sample, in order    their keys and encoders against each other
 *     repairs
 *
 * Repairs of indexes come last but one: by then all is known.  Skip lists gain their
 * rows at the very end, and are the one place where bad samples go.
 */
#include "libdata/verify.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/pipeline.h"
#include "libdata/pool.h"
#include "libdata/verify/verify_internal.h"

#define PARTS_IN_FLIGHT 256

struct run {
    const struct prx_verify_opts *opts;
    struct prx_verify_totals *totals;
    struct verify_plan plan;
    struct verify_keys *keys;
    struct verify_prints *prints;
    struct prx_skip_set *skips; /* NULL: no repair */
    struct prx_error error;     /* of a callback that can only stop */
};

static int emit(struct run *run, const struct prx_finding *finding)
{
    run->totals->n_findings++;
    return run->opts->on_finding(run->opts->ctx, finding);
}

static int emit_notes(struct run *run, struct verify_notes *all)
{
    for (size_t i = 0; i < all->n_notes; i++) {
        const struct verify_note *note = &all->notes[i];
        const struct prx_finding finding = {note->check, note->file, note->key,
                                            note->what};
        PRX_TRY(emit(run, &finding));
    }
    prx_verify_notes_release(all);
    return 0;
}

static int tick(struct run *run, uint64_t n_samples, uint64_t n_bytes)
{
    return run->opts->on_tick ? run->opts->on_tick(run->opts->ctx, n_samples, n_bytes)
                              : 0;
}

/* Hide a bad sample, if that is asked for and a list can say its key. */
static int hide(struct run *run, const char *shard, const char *key, const char *why)
{
    int rc = run->skips ? prx_skip_set_add(run->skips, shard, key, why) : 0;

    if (rc != PRX_EINVAL)
        return rc;
    prx_err_clear();
    return 0;
}

/* --- parts ------------------------------------------------------------------ */

static int work_on_part(void *ctx, void *scratch, void *task)
{
    const struct run *run = ctx;

    (void)scratch;
    return prx_verify_part(&run->plan, task, run->opts);
}

static uint64_t weigh_part(void *ctx, const void *task)
{
    (void)ctx, (void)task;
    return 1;
}

/* Parts are the plan's. */
static void drop_part(void *ctx, void *task)
{
    (void)ctx, (void)task;
}

static int idle(void *ctx)
{
    return tick(ctx, 0, 0);
}

/* This thread puts and takes, so it puts no more than fits. */
static int look_at_parts(struct run *run)
{
    const struct prx_pool_opts opts = {
        .n_threads = run->opts->n_threads,
        .weight_max = PARTS_IN_FLIGHT,
        .work = work_on_part,
        .weigh = weigh_part,
        .drop = drop_part,
        .idle = idle,
        .ctx = run,
    };
    struct verify_plan *plan = &run->plan;
    struct prx_pool *pool;
    void *task;
    size_t i_put = 0;
    int rc = 0;

    PRX_TRY(prx_pool_new(&opts, &pool));
    for (size_t i = 0; i < plan->n_parts; i++) {
        for (; i_put < plan->n_parts && i_put < i + PARTS_IN_FLIGHT / 2; i_put++)
            if (prx_pool_put(pool, &plan->parts[i_put]) < 0)
                break; /* the failure comes with its task */
        rc = prx_pool_next(pool, &task);
        if (rc < 0)
            goto out;
        struct verify_part *part = task;
        run->totals->n_shards += part->is_shard;
        PRX_GO(emit_notes(run, &part->notes));
        PRX_GO(tick(run, 0, 0));
    }
    rc = 0;
out:
    prx_pool_end(pool, 0);
    prx_pool_free(pool);
    return rc;
}

/* --- samples ---------------------------------------------------------------- */

static int take_sample(void *ctx, struct prx_sample *sample)
{
    struct run *run = ctx;
    const char *shard = prx_sample_shard(sample), *reason = sample->reject_reason;
    bool has_key = prx_key_check(sample->key) == 0;

    run->totals->n_samples++;
    run->totals->n_bytes += prx_sample_bytes(sample);
    if (reason) {
        const char *what = prx_verify_what(reason, sample->origin);
        const struct prx_finding finding = {sample->reject_stage, sample->origin,
                                            sample->key, what};
        PRX_TRY(emit(run, &finding));
        PRX_TRY(hide(run, shard, sample->key, what));
    } else {
        PRX_TRY(prx_verify_prints_add(run->prints, sample));
    }
    if (has_key)
        return prx_verify_keys_add(run->keys, shard, sample->key, !reason);
    prx_err_clear();
    return 0;
}

static int on_sample(void *ctx, const struct prx_counts *counts)
{
    struct run *run = ctx;
    int rc = tick(run, counts->n_read, counts->n_bytes_in);

    if (rc < 0)
        prx_err_save(&run->error);
    return rc;
}

static int read_samples(struct run *run, const struct prx_paths *words)
{
    const struct prx_pipeline_opts opts = {
        .n_threads = run->opts->n_threads,
        .on_sample = on_sample,
        .ctx = run,
    };
    struct prx_source *source = NULL;
    struct prx_sink *sink = NULL;
    struct prx_stage stage = {0};
    int rc;

    PRX_GO(prx_source_open((const char *const *)words->paths, words->n_paths, NULL,
                           &source));
    PRX_GO(prx_verify_stage(run->opts, &stage));
    PRX_GO(prx_sink_call(take_sample, run, &sink));
    rc = prx_pipeline_run(source, &stage, 1, sink, &opts, NULL);
    run->totals->n_hidden = prx_source_hidden(source);
    if (rc < 0 && run->error.code < 0)
        rc = prx_err_restore(&run->error);
out:
    prx_sink_abort(sink);
    prx_stage_release(&stage);
    prx_source_close(source);
    return rc;
}

static int look_at_samples(struct run *run)
{
    struct prx_paths words = {0};
    int rc = 0;

    for (size_t i = 0; i < run->plan.n_parts; i++)
        if (!run->plan.parts[i].is_unreadable)
            PRX_GO(prx_paths_add(&words, run->plan.parts[i].path));
    if (words.n_paths > 0)
        rc = read_samples(run, &words);
out:
    prx_paths_release(&words);
    return rc;
}

/* --- the whole -------------------------------------------------------------- */

static int on_twin(void *ctx, const char *shard, const char *key,
                   const char *first_shard)
{
    struct run *run = ctx;
    char what[PRX_ERR_TEXT_BYTES];

    if (strcmp(shard, first_shard) == 0)
        snprintf(what, sizeof(what),
                 "twice in this shard, so that a skip list hides both");
    else
        snprintf(what, sizeof(what), "the key of a sample of %s", first_shard);
    const struct prx_finding finding = {"duplicate", shard, key, what};
    PRX_TRY(emit(run, &finding));
    return hide(run, shard, key, what);
}

static int compare_samples(struct run *run)
{
    struct verify_notes notes = {0};
    int rc = prx_verify_keys_each(run->keys, on_twin, run);

    if (rc == 0)
        rc = prx_verify_prints_notes(run->prints, &notes);
    if (rc == 0)
        rc = emit_notes(run, &notes);
    prx_verify_notes_release(&notes);
    run->totals->fingerprints = prx_verify_prints_json(run->prints);
    if (rc == 0 && !run->totals->fingerprints)
        rc = prx_err_nomem("fingerprints");
    return rc;
}

static int make_repairs(struct run *run)
{
    if (run->opts->repairs & PRX_REPAIR_INDEX)
        for (size_t i = 0; i < run->plan.n_sets; i++)
            PRX_TRY(prx_verify_set_repair(&run->plan, i, run->opts,
                                          &run->totals->n_indexes_written));
    return run->skips ? prx_skip_set_write(run->skips, &run->totals->n_rows_written)
                      : 0;
}

/* A pipe is gone when it is read: nothing stands beside it. */
static int check_at_rest(const char *word)
{
    struct stat st;
    bool is_stream = strcmp(word, "-") == 0 ||
                     (stat(word, &st) == 0 && !S_ISREG(st.st_mode) &&
                      !S_ISDIR(st.st_mode));

    return is_stream ? prx_err(PRX_EINVAL, "%s: a stream, which cannot be repaired",
                               word)
                     : 0;
}

static int plan_word(struct run *run, const char *word)
{
    struct prx_paths spelled = {0};
    int rc = 0;

    PRX_GO(prx_source_spell(word, &spelled));
    for (size_t i = 0; i < spelled.n_paths; i++) {
        if (run->opts->repairs)
            PRX_GO(check_at_rest(spelled.paths[i]));
        PRX_GO(prx_verify_plan_add(&run->plan, spelled.paths[i]));
    }
out:
    prx_paths_release(&spelled);
    return rc;
}

int prx_verify(const char *const *words, size_t n_words,
               const struct prx_verify_opts *opts, struct prx_verify_totals *totals)
{
    struct run run = {.opts = opts, .totals = totals};
    struct prx_stage stage;
    int rc = 0;

    *totals = (struct prx_verify_totals){0};
    PRX_GO(prx_verify_stage(opts, &stage)); /* what it refuses, it refuses now */
    for (size_t i = 0; i < n_words; i++)
        PRX_GO(plan_word(&run, words[i]));
    PRX_GO(prx_verify_keys_new(opts->temp_folder, PRX_VERIFY_KEYS_A_PASS, &run.keys));
    PRX_GO(prx_verify_prints_new(&run.prints));
    if (opts->repairs & PRX_REPAIR_SKIP)
        PRX_GO(prx_skip_set_new(&run.skips));
    PRX_GO(emit_notes(&run, &run.plan.notes));
    PRX_GO(look_at_parts(&run));
    PRX_GO(look_at_samples(&run));
    PRX_GO(compare_samples(&run));
    rc = make_repairs(&run);
out:
    prx_verify_plan_release(&run.plan);
    prx_verify_keys_free(run.keys);
    prx_verify_prints_free(run.prints);
    prx_skip_set_free(run.skips);
    return rc;
}
