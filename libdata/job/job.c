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

struct prx_job {
    struct prx_job_opts opts;
    char *folder; /* of the destination, with a slash behind, or "" */
    char *base;   /* "%06d.tar" */
    char *dir;    /* of the job, with a slash behind */
    bool is_finished;
    struct prx_claims claims;
    bool *are_done; /* units that are published */
    uint64_t n_done;
    uint64_t i_next; /* the unit to look at next */

    struct prx_unit unit; /* claimed; its sink NULL: none */
    char *work;           /* unit.folder, owned */
};

/* Each time in a row twice as long, up to N_MOMENTS_MAX. */
static int wait_a_while(const struct prx_job *job, int *n_moments)
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

/* NAME in the job's folder, or for a unit, "000012.NAME", or "000012". */
static int format_path(const struct prx_job *job, uint64_t i_unit, const char *name,
                       struct prx_str *path)
{
    prx_str_reset(path);
    return prx_str_printf(path, "%s%06" PRIu64 "%s%s", job->dir, i_unit,
                          *name ? "." : "", name);
}

/* Is @name in @folder?  That is opened, not only looked at: so NFS asks its server. */
static bool is_in(const char *folder, const char *name)
{
    int dir = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_there = dir >= 0 && faccessat(dir, name, F_OK, 0) == 0;

    if (dir >= 0)
        close(dir);
    return is_there;
}

static bool has_index(const struct prx_job *job)
{
    return is_in(job->folder, "index.json");
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *place)
{
    (void)st, (void)type, (void)place;
    (void)remove(path);
    return 0;
}

/* What cannot be removed stays: it is in nobody's way. */
static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- the plan ------------------------------------------------------------------ */

/* Wait for the lock; the folder may go away with a job that is being finished. */
static int lock_plan(const struct prx_job *job, struct prx_journal *plan)
{
    struct prx_str path = {0};
    int n_moments = 1;
    int rc = prx_str_printf(&path, "%splan", job->dir);

    while (rc == 0) {
        PRX_GO(prx_mkdirs(job->dir));
        rc = prx_journal_open(plan, path.bytes);
        if (rc != PRX_EEXIST && rc != PRX_ENOENT)
            break;
        rc = wait_a_while(job, &n_moments);
    }
out:
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
    job->is_finished = has_index(job);
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
        remove_tree(job->dir);
    /* Nothing is left where nothing is begun. */
    prx_journal_close(&plan, rc < 0 && !is_there);
    if (rc < 0)
        (void)rmdir(job->dir);
    if (rc == 0 && !job->is_finished)
        rc = prx_claims_open(&job->claims, job->dir, opts->n_units,
                             opts->claim_timeout_ms);
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

/* --- a unit --------------------------------------------------------------------- */

/* 1: the unit stands, made by us; 0: by another one. */
static int publish(struct prx_job *job)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(format_path(job, job->unit.i_unit, "", &path));
    /* Where the claim is lost the job may be finished, and its folder gone. */
    if (prx_job_has_lost(job) || !prx_claims_has(&job->claims))
        goto out;
    if (rename(job->work, path.bytes) == 0) {
        if (!job->opts.sink_opts->no_sync)
            PRX_GO(prx_sync_dir(path.bytes));
        job->are_done[job->unit.i_unit] = true;
        job->n_done++;
        rc = 1;
    } else if (errno != EEXIST && errno != ENOTEMPTY) {
        rc = prx_err_sys("%s", path.bytes);
    }
out:
    prx_str_release(&path);
    return rc;
}

/* Give back the unit, whose sink is closed: what is there is for the next one. */
static void leave_unit(struct prx_job *job)
{
    struct prx_str path = {0};

    if (job->work && !prx_job_has_lost(job) && prx_claims_has(&job->claims) &&
        format_path(job, job->unit.i_unit, "part", &path) == 0) {
        remove_tree(path.bytes);
        (void)rename(job->work, path.bytes);
    }
    /* Where that was not to be done, or has failed, it is of no use to anybody. */
    if (job->work)
        remove_tree(job->work);
    prx_str_release(&path);
    prx_claims_drop(&job->claims);
    free(job->work);
    job->work = NULL;
    job->unit = (struct prx_unit){0};
}

static int open_sink(struct prx_job *job, uint64_t i_unit)
{
    struct prx_sink_opts opts = *job->opts.sink_opts;
    struct prx_str dest = {0}, plan = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&dest, "%s%s", job->work, job->base));
    PRX_GO(prx_str_printf(&plan, "%s\nunit %" PRIu64 "\n", opts.plan ? opts.plan : "",
                          i_unit));
    opts.exists = PRX_SINK_RESUME;
    opts.plan = plan.bytes;
    opts.source = NULL;
    PRX_GO(prx_sink_open(dest.bytes, &opts, &job->unit.n_done_serials,
                         &job->unit.sink));
out:
    prx_str_release(&dest);
    prx_str_release(&plan);
    return rc;
}

/* The unit is ours: go on with what is left of it, or begin.  1: begun; 0: there was
 * nothing left to do but to publish it. */
static int begin_unit(struct prx_job *job, uint64_t i_unit, const char *heir_of)
{
    struct prx_str path = {0};
    int rc = 0;

    job->unit.i_unit = i_unit;
    PRX_GO(format_path(job, i_unit, job->claims.card.nonce, &path));
    PRX_GO(prx_str_puts(&path, "/"));
    PRX_GO(prx_strdup(path.bytes, &job->work));
    job->unit.folder = job->work;
    remove_tree(job->work);
    PRX_GO(format_path(job, i_unit, *heir_of ? heir_of : "part", &path));
    bool is_heir = rename(path.bytes, job->work) == 0;
    if (is_heir && is_in(job->work, "index.json")) {
        PRX_GO(publish(job));
        rc = 0;
        goto out;
    }
    rc = open_sink(job, i_unit);
    /* What we came into may be of no use. */
    if (is_heir && (rc == PRX_EEXIST || rc == PRX_ECORRUPT)) {
        remove_tree(job->work);
        rc = open_sink(job, i_unit);
    }
    rc = rc < 0 ? rc : 1;
out:
    prx_str_release(&path);
    if (rc <= 0)
        leave_unit(job);
    return rc;
}

/* Is unit @i_unit published?  Then it need not be looked at again. */
static bool look_at(struct prx_job *job, uint64_t i_unit)
{
    char name[24];

    snprintf(name, sizeof(name), "%06" PRIu64, i_unit);
    if (!job->are_done[i_unit] && is_in(job->dir, name)) {
        job->are_done[i_unit] = true;
        job->n_done++;
    }
    return job->are_done[i_unit];
}

/* 1: the unit is begun; 0: it is done, or another process has it. */
static int take_unit(struct prx_job *job, uint64_t i_unit)
{
    char heir_of[PRX_NONCE_BYTES];

    if (look_at(job, i_unit))
        return 0;
    int rc = prx_claims_take(&job->claims, i_unit, heir_of);
    if (rc < 0 && has_index(job))
        return 0;
    if (rc <= 0)
        return rc;
    /* Done by another one, whose claim we have seen no more? */
    if (look_at(job, i_unit) || has_index(job)) {
        prx_claims_drop(&job->claims);
        return 0;
    }
    return begin_unit(job, i_unit, heir_of);
}

int prx_job_next(struct prx_job *job, const struct prx_unit **unit)
{
    int n_moments = 1;

    PRX_BUG_IF(job->unit.sink);
    for (;;) {
        job->is_finished = job->is_finished || has_index(job);
        for (uint64_t n = 0; n < job->opts.n_units && !job->is_finished; n++) {
            uint64_t i_unit = job->i_next;
            job->i_next = i_unit + 1 < job->opts.n_units ? i_unit + 1 : 0;
            int got = take_unit(job, i_unit);
            if (got == 1)
                *unit = &job->unit;
            if (got != 0)
                return got;
        }
        if (job->is_finished || job->n_done == job->opts.n_units)
            return 0;
        PRX_TRY(wait_a_while(job, &n_moments));
    }
}

bool prx_job_has_lost(const struct prx_job *job)
{
    return atomic_load(&job->claims.has_lost);
}

int prx_job_put(struct prx_job *job, json_t *extra)
{
    struct prx_sink *sink = job->unit.sink;

    PRX_BUG_IF(!sink);
    job->unit.sink = NULL;
    int rc = prx_sink_finish(sink, extra, NULL);
    if (rc == 0)
        rc = publish(job);
    /* What fails because others have finished and cleared away does not matter. */
    if (rc < 0 && (prx_job_has_lost(job) || has_index(job)))
        rc = 0;
    leave_unit(job);
    return rc;
}

void prx_job_drop(struct prx_job *job)
{
    PRX_BUG_IF(!job->unit.sink);
    prx_sink_abort(job->unit.sink);
    leave_unit(job);
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
        PRX_GO(format_path(job, i, "", &folder));
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
    job->is_finished = has_index(job);
    if (job->is_finished) {
        rc = read_totals(job, totals);
    } else {
        PRX_BUG_IF(job->n_done < job->opts.n_units);
        rc = complete(job, extra, visit, ctx, totals);
        job->is_finished = rc == 0;
        rc = rc == 0 ? 1 : rc;
    }
    if (job->is_finished)
        remove_tree(job->dir);
    prx_journal_close(&plan, false);
    return rc;
}
