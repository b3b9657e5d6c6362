/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --share: units of a destination that several processes write together.
 *
 * What a unit rejects is kept in its folder, as --rejects has it, and how many of
 * its samples are hidden in its index; so the process that completes the destination
 * writes --rejects and --stats of the whole, in the order of the input.  The others
 * write none, but know the totals, and judge them alike.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "libdata/job.h"
#include "libdata/log.h"
#include "tools/tool_run.h"
#include "tools/tool_signal.h"

#define REJECTS_NAME "rejects.jsonl"

struct share {
    const struct tool_work *work;
    struct prx_job *job;
    struct tool_run run;
    uint64_t n_units;
    uint64_t n_units_done; /* by this process */
    bool has_waited;
    bool has_report; /* run.report is that of the whole */
};

static int on_wait(void *ctx)
{
    struct share *share = ctx;

    if (!share->has_waited)
        prx_log_info("waiting for other processes");
    share->has_waited = true;
    return tool_signal() != 0;
}

static bool has_lost(const void *ctx)
{
    return prx_job_has_lost(ctx);
}

/* A report that cannot be written stops this process before its first unit. */
static int try_reports(const struct tool_work *work)
{
    struct tool_report report;
    int rc = tool_report_open(&report, work->tool);

    tool_report_abort(&report);
    return rc;
}

static int run_unit(struct share *share, const struct prx_unit *unit)
{
    struct tool_run *run = &share->run;
    struct prx_str path = {0};
    uint64_t n_rejected = run->report.n_rejected;
    char note[64];
    int rc;

    snprintf(note, sizeof(note), "unit %" PRIu64 " of %" PRIu64, unit->i_unit + 1,
             share->n_units);
    prx_log_debug("%s", note);
    tool_report_abort(&run->report);
    PRX_GO(prx_str_printf(&path, "%s" REJECTS_NAME, unit->folder));
    PRX_GO(tool_report_open_at(&run->report, share->work->tool, path.bytes, NULL));
    run->report.n_rejected = n_rejected; /* the log tells of the first ones only */
    run->n_settled = unit->n_done_serials;
    run->note = note;
    PRX_GO(prx_source_set_unit(share->work->source, unit->i_unit));
    PRX_GO(tool_run_pipeline(run, share->work, unit->sink));
    rc = tool_report_commit(&run->report, 0, 0, NULL);
out:
    run->note = NULL;
    prx_str_release(&path);
    return rc;
}

static int put_unit(struct share *share)
{
    json_t *extra = json_pack("{s:I}", "hidden", (json_int_t)share->run.n_hidden);
    int rc = extra ? prx_job_put(share->job, extra) : prx_err_nomem("an index");

    json_decref(extra);
    share->n_units_done += rc == 1;
    return rc < 0 ? rc : 0;
}

static int work_on_units(struct share *share)
{
    const struct prx_unit *unit;
    int got;

    while ((got = prx_job_next(share->job, &unit)) == 1) {
        int rc = share->n_units_done == 0 ? try_reports(share->work) : 0;
        if (rc == 0)
            rc = run_unit(share, unit);
        if (rc == 0) {
            PRX_TRY(put_unit(share));
            continue;
        }
        if (prx_job_drop(share->job) || tool_signal())
            return rc;
        prx_log_warning("a unit was taken over by another process");
    }
    return got;
}

static int tell_reject(struct share *share, const char *line)
{
    const char *key, *stage, *reason, *source = NULL;
    json_t *object = json_loads(line, 0, NULL);
    int rc = 0;

    if (json_unpack(object, "{s:s, s:s, s:s, s?:s}", "key", &key, "stage", &stage,
                    "reason", &reason, "source", &source) == 0 ||
        json_unpack(object, "{s:s, s:s, s:s}", "key", &key, "stage", &stage, "reason",
                    &reason) == 0)
        rc = tool_report_put(&share->run.report, key, stage, reason, source);
    json_decref(object);
    return rc;
}

/* Only by the process that completes the destination: the files are named alike. */
static int open_report(struct share *share)
{
    if (share->has_report)
        return 0;
    share->has_report = true;
    tool_report_abort(&share->run.report);
    share->run.n_hidden = 0;
    return tool_report_open(&share->run.report, share->work->tool);
}

/* Tell of a unit what it has kept for the report of the whole. */
static int visit_unit(void *ctx, const char *folder)
{
    struct share *share = ctx;
    struct prx_str path = {0};
    char *line = NULL;
    size_t cap_line = 0;
    FILE *file = NULL;
    json_int_t n_hidden = 0;
    int rc = 0;

    PRX_GO(open_report(share));
    PRX_GO(prx_str_printf(&path, "%sindex.json", folder));
    json_t *index = json_load_file(path.bytes, 0, NULL);
    (void)json_unpack(index, "{s?I}", "hidden", &n_hidden);
    json_decref(index);
    share->run.n_hidden += (uint64_t)n_hidden;

    prx_str_reset(&path);
    PRX_GO(prx_str_printf(&path, "%s" REJECTS_NAME, folder));
    file = fopen(path.bytes, "re");
    if (!file)
        PRX_GO(prx_err_sys("%s", path.bytes));
    while (rc == 0 && getline(&line, &cap_line, file) > 0)
        rc = tell_reject(share, line);
    if (rc == 0 && ferror(file))
        rc = prx_err_sys("%s", path.bytes);
out:
    if (file)
        fclose(file);
    free(line);
    prx_str_release(&path);
    return rc;
}

static int finish(struct share *share)
{
    struct tool_run *run = &share->run;
    struct prx_sink_totals totals;

    int got = prx_job_finish(share->job, share->work->index_extra, visit_unit, share,
                             &totals);
    if (got < 0)
        return got;
    prx_log_info("%" PRIu64 " of %" PRIu64 " units are done by this process",
                 share->n_units_done, share->n_units);
    if (got == 1) {
        PRX_TRY(open_report(share)); /* of no units at all */
    } else {
        tool_report_abort(&run->report);
        PRX_TRY(tool_report_open_at(&run->report, share->work->tool, NULL, NULL));
        run->report.n_rejected = totals.n_rejected;
    }
    PRX_TRY(tool_run_commit(run, &totals));
    return tool_run_close(run, &totals);
}

int tool_share(const struct tool_work *work)
{
    struct share share = {.work = work};
    struct prx_job_opts opts = {
        .dest = work->output,
        .sink_opts = &work->sink_opts,
        .claim_timeout_ms = (int)tool_common.claim_timeout_s * 1000,
        .on_wait = on_wait,
        .ctx = &share,
    };
    int rc;

    share.run.report.rejects_file.fd = share.run.report.stats_file.fd = -1;
    PRX_GO(prx_source_cut(work->source, (uint64_t)tool_common.n_unit_samples,
                          &share.n_units));
    opts.n_units = share.n_units;
    /* Processes of known rank begin apart, each where its part would be. */
    if (tool_common.world > 1)
        opts.i_first = (uint64_t)tool_common.rank *
                       (share.n_units / (uint64_t)tool_common.world);
    PRX_GO(prx_job_open(&opts, &share.job));
    share.run.is_stopped = has_lost;
    share.run.stop_ctx = share.job;
    tool_run_begin_meter(&share.run, work);
    rc = work_on_units(&share);
    prx_meter_finish(&share.run.meter);
    if (rc == 0)
        rc = finish(&share);
out:
    prx_job_close(share.job);
    tool_report_abort(&share.run.report);
    return rc;
}
