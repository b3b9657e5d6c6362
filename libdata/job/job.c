/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a job: joined, worked at unit by unit, completed.
 *
 *     no folder ──open──▶ plan stands ──put, put …──▶ all units stand
 *                                                          │ finish
 *     no folder ◀──remove── index stands ◀──adopt shards───┘
 *
 * Begun and completed it is under the lock of the plan, a journal of one line.  The
 * shards of the units become the destination's by its own sink, whose journal knows
 * how far that is; so whoever completes a job may be killed, too.
 *
 * What tells that a job is finished is the index.  It stands before the first file of
 * the job's folder is removed, so whoever misses something there looks for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libdata/job/job_internal.h"
#include "libdata/journal.h"
#include "libdata/outfile.h"

#define N_MOMENT_NS   100000000
#define N_MOMENTS_MAX 32

/* Each time in a row twice as long, up to N_MOMENTS_MAX. */
int prx_job_wait(const struct prx_job *job, int *n_moments)
{
    const struct timespec moment = {.tv_nsec = N_MOMENT_NS};

    for (int i = 0; i < *n_moments; i++) {
        if (job->opts.on_wait && job->opts.on_wait(job->opts.ctx) != 0)
            return prx_err(PRX_ECANCELED, "interrupted");
        nanosleep(&moment, NULL);
    }
    if (*n_moments < N_MOMENTS_MAX)
        *n_moments *= 2;
    return 0;
}

int prx_job_format(const struct prx_job *job, uint64_t i_unit, const char *name,
                   struct prx_str *path)
{
    prx_str_reset(path);
    return prx_str_printf(path, "%s%06" PRIu64 "%s%s", job->dir, i_unit,
                          *name ? "." : "", name);
}

bool prx_job_is_in(const char *folder, const char *name)
{
    int dir = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_there = dir >= 0 && faccessat(dir, name, F_OK, 0) == 0;

    if (dir >= 0)
        close(dir);
    return is_there;
}

bool prx_job_has_index(const struct prx_job *job)
{
    return prx_job_is_in(job->folder, "index.json");
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *place)
{
    (void)st, (void)type, (void)place;
    (void)remove(path);
    return 0;
}

void prx_job_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- the plan ------------------------------------------------------------------ */

/* Wait for the lock; the folder may go away with a job that is being finished. */
static int lock_plan(const struct prx_job *job, struct prx_journal *plan)
{
    struct prx_str folder = {0}, path = {0};
    int n_moments = 1;
    int rc;

    PRX_GO(prx_str_printf(&folder, "%s" PRX_SINK_JOB_FOLDER, job->folder));
    PRX_GO(prx_str_printf(&path, "%splan", job->dir));
    while (rc == 0) {
        PRX_GO(prx_mkdirs(folder.bytes));
        rc = prx_journal_open(plan, path.bytes);
        if (rc != PRX_EEXIST && rc != PRX_ENOENT)
            break;
        rc = prx_job_wait(job, &n_moments);
    }
out:
    prx_str_release(&folder);
    prx_str_release(&path);
    return rc;
}

static int format_plan(const struct prx_job *job, struct prx_str *line)
{
    const struct prx_sink_opts *opts = job->opts.sink_opts;
    char hash[PRX_HASH_HEX_BYTES];

    PRX_TRY(prx_str_printf(
        line, "%s\n%s bytes %" PRIu64 " samples %" PRIu64 " dali %d\n",
        opts->plan ? opts->plan : "", job->base, opts->n_shard_bytes_max,
        opts->n_shard_samples_max, !opts->no_dali_index));
    prx_hash_hex(line->bytes, line->n_bytes, hash);
    prx_str_reset(line);
    return prx_str_printf(line, "{\"plan\":\"%s\",\"units\":%" PRIu64 "}", hash,
                          job->opts.n_units);
}

struct plan_check {
    const char *want;
    bool is_there, is_same;
};

static int check_line(void *ctx, const char *text, uint64_t end_bytes)
{
    struct plan_check *check = ctx;

    (void)end_bytes;
    check->is_there = true;
    check->is_same = strcmp(text, check->want) == 0;
    return 1;
}

static int open_dest(const struct prx_job *job, uint64_t *n_adopted,
                     struct prx_sink **sink)
{
    struct prx_sink_opts opts = *job->opts.sink_opts;

    opts.exists = PRX_SINK_JOIN;
    return prx_sink_open(job->opts.dest, &opts, n_adopted, sink);
}

/* Under the lock: is this our job, is it new, is it done? */
static int settle_plan(struct prx_job *job, struct prx_journal *plan, bool *is_there)
{
    struct prx_str line = {0};
    struct plan_check check = {0};
    struct prx_sink *sink = NULL;
    uint64_t n_adopted;
    int rc = 0;

    PRX_GO(format_plan(job, &line));
    check.want = line.bytes;
    PRX_GO(prx_journal_read(plan, check_line, &check));
    *is_there = check.is_there;
    if (check.is_there && !check.is_same) {
        rc = prx_err(PRX_EEXIST,
                     "%s: a job of another plan: input or options are not the same",
                     job->dir);
        goto out;
    }
    PRX_GO(open_dest(job, &n_adopted, &sink));
    prx_sink_abort(sink);
    job->is_finished = prx_job_has_index(job);
    if (!job->is_finished && !check.is_there) {
        PRX_GO(prx_journal_cut(plan, 0));
        PRX_GO(prx_journal_put(plan, line.bytes, !job->opts.sink_opts->no_sync));
    }
out:
    prx_str_release(&line);
    return rc;
}

/* --- open, close ---------------------------------------------------------------- */

static int split_dest(struct prx_job *job)
{
    const char *dest = job->opts.dest, *slash = strrchr(dest, '/');
    size_t n_folder = slash ? (size_t)(slash - dest) + 1 : 0;
    struct prx_str dir = {0};
    int rc = 0;

    job->folder = strndup(dest, n_folder);
    if (!job->folder)
        return prx_err_nomem("a job");
    PRX_GO(prx_strdup(dest + n_folder, &job->base));
    PRX_GO(prx_str_printf(&dir, "%s" PRX_SINK_JOB_FOLDER "/", job->folder));
    PRX_GO(prx_strdup(dir.bytes, &job->dir));
out:
    prx_str_release(&dir);
    return rc;
}

int prx_job_open(const struct prx_job_opts *opts, struct prx_job **out)
{
    struct prx_journal plan = {.fd = -1};
    struct prx_job *job = calloc(1, sizeof(*job));
    bool is_there = false;
    int rc = 0;

    if (!job)
        return prx_err_nomem("a job");
    PRX_BUG_IF(!prx_sink_is_numbered(opts->dest));
    job->opts = *opts;
    job->i_next = opts->i_first;
    PRX_GO(split_dest(job));
    job->are_done = calloc(opts->n_units + 1, sizeof(*job->are_done));
    if (!job->are_done) {
        rc = prx_err_nomem("units of work");
        goto out;
    }
    PRX_GO(lock_plan(job, &plan));
    rc = settle_plan(job, &plan, &is_there);
    if (job->is_finished)
        prx_job_remove(job->dir);
    /* Nothing is left where nothing is begun. */
    prx_journal_close(&plan, rc < 0 && !is_there);
    if (rc < 0)
        (void)rmdir(job->dir);
    if (rc == 0 && !job->is_finished)
        rc = prx_claims_open(&job->claims, job->dir, opts->n_units,
                             opts->claim_timeout_ms);
    /* Finished since, and its folder gone? */
    if (rc == PRX_ENOENT && prx_job_has_index(job)) {
        job->is_finished = true;
        rc = 0;
    }
out:
    if (rc < 0)
        prx_job_close(job);
    else
        *out = job;
    return rc;
}

void prx_job_close(struct prx_job *job)
{
    if (!job)
        return;
    if (job->unit.sink)
        prx_job_drop(job);
    prx_claims_close(&job->claims);
    /* The last one to leave a finished job finds the folder empty. */
    if (job->dir && job->is_finished)
        (void)rmdir(job->dir);
    free(job->are_done);
    free(job->folder);
    free(job->base);
    free(job->dir);
    free(job);
}

/* --- completion ------------------------------------------------------------------ */

/* Adopt the shards of the unit in @folder that are not among the first @n_adopted. */
static int adopt_unit(const char *folder, uint64_t n_adopted, struct prx_sink *sink,
                      uint64_t *i_shard, uint64_t *n_rejected)
{
    struct prx_index index = {0};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%sindex.json", folder));
    PRX_GO(prx_index_read(path.bytes, &index));
    *n_rejected += index.n_rejected;
    for (size_t i = 0; i < index.n_shards; i++) {
        struct prx_shard *shard = &index.shards[i];
        shard->n_rejected = *n_rejected;
        *n_rejected = 0;
        if ((*i_shard)++ < n_adopted)
            continue;
        prx_str_reset(&path);
        PRX_GO(prx_str_printf(&path, "%s%s", folder, shard->name));
        PRX_GO(prx_sink_adopt(sink, path.bytes, shard));
    }
out:
    prx_index_release(&index);
    prx_str_release(&path);
    return rc;
}

/* Under the lock, all units published: rejects count with the shard behind them. */
static int complete(const struct prx_job *job, json_t *extra,
                    int (*visit)(void *ctx, const char *folder), void *ctx,
                    struct prx_sink_totals *totals)
{
    struct prx_str folder = {0};
    struct prx_sink *sink = NULL;
    struct prx_shard rejects = {0};
    uint64_t n_adopted, i_shard = 0;
    int rc = 0;

    PRX_GO(open_dest(job, &n_adopted, &sink));
    for (uint64_t i = 0; i < job->opts.n_units; i++) {
        PRX_GO(prx_job_format(job, i, "", &folder));
        PRX_GO(prx_str_puts(&folder, "/"));
        if (visit)
            PRX_GO(visit(ctx, folder.bytes));
        PRX_GO(adopt_unit(folder.bytes, n_adopted, sink, &i_shard,
                          &rejects.n_rejected));
    }
    PRX_GO(prx_sink_adopt(sink, NULL, &rejects));
    rc = prx_sink_finish(sink, extra, totals);
    sink = NULL;
out:
    if (sink)
        prx_sink_abort(sink);
    prx_str_release(&folder);
    return rc;
}

static int read_totals(const struct prx_job *job, struct prx_sink_totals *totals)
{
    struct prx_index index = {0};
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%sindex.json", job->folder));
    PRX_GO(prx_index_read(path.bytes, &index));
    *totals = (struct prx_sink_totals){
        .n_samples = index.n_samples,
        .n_bytes = index.n_bytes,
        .n_shards = index.n_shards,
        .n_rejected = index.n_rejected,
    };
out:
    prx_index_release(&index);
    prx_str_release(&path);
    return rc;
}

int prx_job_finish(struct prx_job *job, json_t *extra,
                   int (*visit)(void *ctx, const char *folder), void *ctx,
                   struct prx_sink_totals *totals)
{
    struct prx_journal plan = {.fd = -1};
    int rc = 0;

    PRX_BUG_IF(job->unit.sink);
    if (job->is_finished)
        return read_totals(job, totals);
    PRX_TRY(lock_plan(job, &plan));
    job->is_finished = prx_job_has_index(job);
    if (job->is_finished) {
        rc = read_totals(job, totals);
    } else {
        PRX_BUG_IF(job->n_done < job->opts.n_units);
        rc = complete(job, extra, visit, ctx, totals);
        job->is_finished = rc == 0;
        rc = rc == 0 ? 1 : rc;
    }
    if (job->is_finished)
        prx_job_remove(job->dir);
    prx_journal_close(&plan, false);
    return rc;
}
