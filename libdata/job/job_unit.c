/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A unit: claimed, made in a folder of our own, published or left to others.
 *
 *     free ──next──▶ NONCE/ ──put──▶ 000012/
 *      ▲               │
 *      └── part/ ◀─drop┘         silent owner: begun anew, in another folder
 *                                dead owner: its folder is renamed to ours
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/job/job_internal.h"
#include "libdata/outfile.h"

/*
 * Remove the folder of a unit.  Killed in the midst of that we must not leave half of
 * it to an heir, so it first gets a name that nobody inherits.
 */
static void discard(const struct prx_job *job, const char *path)
{
    struct prx_str trash = {0};

    if (prx_str_printf(&trash, "%s%s.trash", job->dir, job->claims.card.nonce) == 0 &&
        rename(path, trash.bytes) == 0)
        prx_job_remove(trash.bytes);
    prx_str_release(&trash);
}

/* 1: the unit stands, made by us; 0: by another one. */
static int publish(struct prx_job *job)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_job_format(job, job->unit.i_unit, "", &path));
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

/* Give back the unit, whose sink is closed: what is there is for the next one.  False
 * where it was not ours any more. */
static bool leave_unit(struct prx_job *job)
{
    bool is_ours = !prx_job_has_lost(job) && prx_claims_has(&job->claims);
    struct prx_str path = {0};

    if (job->work && is_ours &&
        prx_job_format(job, job->unit.i_unit, "part", &path) == 0) {
        discard(job, path.bytes);
        (void)rename(job->work, path.bytes);
    }
    /* Where that was not to be done, or has failed, it is of no use to anybody. */
    if (job->work)
        discard(job, job->work);
    prx_str_release(&path);
    prx_claims_drop(&job->claims);
    free(job->work);
    job->work = NULL;
    job->unit = (struct prx_unit){0};
    return is_ours;
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

/* Make the folder of the unit that is called @name ours, if there is one. */
static bool inherit(const struct prx_job *job, const char *name)
{
    struct prx_str path = {0};
    bool is_heir = *name && prx_job_format(job, job->unit.i_unit, name, &path) == 0 &&
                   rename(path.bytes, job->work) == 0;

    prx_str_release(&path);
    return is_heir;
}

/* The unit is ours: go on with what is left of it, or begin.  1: begun; 0: there was
 * nothing left to do but to publish it. */
static int begin_unit(struct prx_job *job, uint64_t i_unit, const char *heir_of)
{
    struct prx_str path = {0};
    int rc = 0;

    job->unit.i_unit = i_unit;
    PRX_GO(prx_job_format(job, i_unit, job->claims.card.nonce, &path));
    PRX_GO(prx_str_puts(&path, "/"));
    PRX_GO(prx_strdup(path.bytes, &job->work));
    job->unit.folder = job->work;
    discard(job, job->work);
    bool is_heir = inherit(job, heir_of) || inherit(job, "part");
    if (is_heir && prx_job_is_in(job->work, "index.json")) {
        PRX_GO(publish(job));
        rc = 0;
        goto out;
    }
    rc = open_sink(job, i_unit);
    /* What we came into may be of no use. */
    if (is_heir && (rc == PRX_EEXIST || rc == PRX_ECORRUPT)) {
        discard(job, job->work);
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
    if (!job->are_done[i_unit] && prx_job_is_in(job->dir, name)) {
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
    if (rc < 0 && prx_job_has_index(job))
        return 0;
    if (rc <= 0)
        return rc;
    /* Done by another one, whose claim we have seen no more? */
    if (look_at(job, i_unit) || prx_job_has_index(job)) {
        prx_claims_drop(&job->claims);
        return 0;
    }
    rc = begin_unit(job, i_unit, heir_of);
    return rc < 0 && prx_job_has_index(job) ? 0 : rc;
}

int prx_job_next(struct prx_job *job, const struct prx_unit **unit)
{
    int n_moments = 1;

    PRX_BUG_IF(job->unit.sink);
    for (;;) {
        job->is_finished = job->is_finished || prx_job_has_index(job);
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
        PRX_TRY(prx_job_wait(job, &n_moments));
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
    if (rc < 0 && (prx_job_has_lost(job) || prx_job_has_index(job)))
        rc = 0;
    leave_unit(job);
    return rc;
}

bool prx_job_drop(struct prx_job *job)
{
    PRX_BUG_IF(!job->unit.sink);
    prx_sink_abort(job->unit.sink);
    return leave_unit(job);
}
