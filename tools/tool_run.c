/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run resumed first tells again what earlier runs rejected: --rejects and --stats
 * are always those of the whole plan.
 */
#include "tools/tool_run.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "libdata/log.h"
#include "tools/tool_signal.h"

static int on_journalled(void *ctx, const char *key, const char *stage,
                         const char *reason, const char *origin)
{
    struct tool_run *run = ctx;

    return tool_report_put(&run->report, key, stage, reason, origin);
}

static int on_reject(void *ctx, const struct prx_sample *sample)
{
    struct tool_run *run = ctx;
    int rc = tool_report_put_sample(&run->report, sample);

    if (rc < 0)
        prx_err_save(&run->error);
    return rc;
}

static int on_sample(void *ctx, const struct prx_counts *counts)
{
    struct tool_run *run = ctx;
    char note[96] = "";
    int n_note = 0;

    if (run->report.n_rejected > 0)
        n_note = snprintf(note, sizeof(note), "%" PRIu64 " rejected  ",
                          run->report.n_rejected);
    snprintf(note + n_note, sizeof(note) - (size_t)n_note, "%s",
             run->note ? run->note : "");
    prx_meter_tick(&run->meter, run->n_before + run->n_settled + counts->n_read,
                   counts->n_bytes_in, note[0] ? note : NULL);
    if (run->is_stopped && run->is_stopped(run->stop_ctx))
        return 1;
    return tool_signal() != 0;
}

void tool_run_begin_meter(struct tool_run *run, const struct tool_work *work)
{
    prx_meter_init(&run->meter,
                   tool_common.quiet ? PRX_METER_NEVER
                                     : (enum prx_meter_when)tool_common.progress,
                   work->tool->name + strlen("prx-"), "samples",
                   prx_source_total(work->source));
}

int tool_run_pipeline(struct tool_run *run, const struct tool_work *work,
                      struct prx_sink *sink)
{
    struct prx_counts counts;
    const struct prx_pipeline_opts opts = {
        .n_threads = (int)tool_common.n_threads,
        .n_skip = run->n_settled,
        .on_reject = on_reject,
        .on_sample = on_sample,
        .ctx = run,
    };

    PRX_TRY(prx_sink_each_reject(sink, on_journalled, run));
    if (run->n_settled > 0)
        prx_log_info("%" PRIu64 " samples are settled by an earlier run",
                     run->n_settled);
    int rc = prx_pipeline_run(work->source, work->stages, work->n_stages, sink, &opts,
                              &counts);
    run->n_hidden = prx_source_hidden(work->source);
    run->n_before += run->n_settled + counts.n_read;
    return run->error.code < 0 ? prx_err_restore(&run->error) : rc;
}

static void leave_alone(struct prx_outfile *file, const char *path)
{
    prx_log_warning("this was finished before; %s stays as it was", path);
    prx_outfile_abort(file);
}

/* A destination that was finished before tells how many were rejected, not which, nor
 * where: the reports of the run that finished it know more. */
static void forget_rejects(struct tool_report *report, uint64_t n_rejected)
{
    report->n_rejected = n_rejected;
    if (tool_common.rejects_path)
        leave_alone(&report->rejects_file, tool_common.rejects_path);
    if (tool_common.stats_path && access(tool_common.stats_path, F_OK) == 0)
        leave_alone(&report->stats_file, tool_common.stats_path);
}

int tool_run_commit(struct tool_run *run, const struct prx_sink_totals *totals)
{
    uint64_t n_read = totals->n_samples + totals->n_rejected;

    run->elapsed_s = prx_meter_elapsed_s(&run->meter);
    if (n_read == 0)
        prx_log_warning("there are no samples in the source");
    if (run->report.n_rejected < totals->n_rejected)
        forget_rejects(&run->report, totals->n_rejected);
    if (run->n_hidden > 0)
        prx_log_info("%" PRIu64 " samples are hidden by skip lists", run->n_hidden);
    json_t *stats = json_pack("{s:I, s:I, s:I, s:I}",
                              "hidden", (json_int_t)run->n_hidden,
                              "kept", (json_int_t)totals->n_samples,
                              "shards", (json_int_t)totals->n_shards,
                              "bytes", (json_int_t)totals->n_bytes);
    int rc = stats ? tool_report_commit(&run->report, n_read, run->elapsed_s, stats)
                   : prx_err_nomem("the report");

    json_decref(stats);
    return rc;
}

int tool_run_close(const struct tool_run *run, const struct prx_sink_totals *totals)
{
    uint64_t n_read = totals->n_samples + totals->n_rejected;

    if (!tool_common.quiet)
        fprintf(stderr,
                "%s: read=%" PRIu64 " kept=%" PRIu64 " rejected=%" PRIu64
                " bytes=%" PRIu64 " elapsed_s=%.1f\n",
                run->report.tool->name, n_read, totals->n_samples, totals->n_rejected,
                totals->n_bytes, run->elapsed_s);
    return tool_report_judge(&run->report, n_read);
}
