/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the pipeline with everything the common options promise.
 *
 * Report files are begun before the destination, so that one that cannot be
 * written stops the run while nothing has happened, and are named after the
 * destination is complete, but before it forgets the rejects.  A resumed run first
 * tells again what earlier runs rejected: --rejects and --stats are always those of
 * the whole plan.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/log.h"
#include "tools/tool_report.h"
#include "tools/tool_signal.h"

struct report {
    struct tool_report base;
    struct prx_meter meter;
    uint64_t n_settled;     /* samples that earlier runs have finished */
    uint64_t n_hidden;      /* samples passed over by skip lists */
    struct prx_error error; /* of a callback, which can only stop the run */
};

static int on_journalled(void *ctx, const char *key, const char *stage,
                         const char *reason, const char *origin)
{
    struct report *report = ctx;

    return tool_report_put(&report->base, key, stage, reason, origin);
}

static int on_reject(void *ctx, const struct prx_sample *sample)
{
    struct report *report = ctx;
    int rc = tool_report_put_sample(&report->base, sample);

    if (rc < 0)
        prx_err_save(&report->error);
    return rc;
}

static int on_sample(void *ctx, const struct prx_counts *counts)
{
    struct report *report = ctx;
    char note[48] = "";

    if (report->base.n_rejected > 0)
        snprintf(note, sizeof(note), "%" PRIu64 " rejected", report->base.n_rejected);
    prx_meter_tick(&report->meter, report->n_settled + counts->n_read,
                   counts->n_bytes_in, note[0] ? note : NULL);
    return tool_signal() != 0;
}

/* Everything that fixes the output, as text, for the sink to hash. */
static int format_plan(const struct tool *tool, const struct prx_source *source,
                       const struct prx_sink_opts *sink_opts, const char *plan_extra,
                       struct prx_str *plan)
{
    PRX_TRY(prx_str_printf(plan, "%s %s\n", tool->name, tool_version()));
    PRX_TRY(opt_format(tool->rows, tool->n_rows, plan));
    PRX_TRY(prx_str_printf(plan, "shard-bytes=%" PRIu64 "\n",
                           sink_opts->n_shard_bytes_max));
    PRX_TRY(prx_str_printf(plan, "shard-samples=%" PRIu64 "\n",
                           sink_opts->n_shard_samples_max));
    if (plan_extra)
        PRX_TRY(prx_str_printf(plan, "%s\n", plan_extra));
    return prx_source_plan(source, plan);
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

/* The destination is complete: name the report files. */
static int commit_report(struct report *report, const struct prx_sink_totals *totals,
                         double elapsed_s)
{
    uint64_t n_read = totals->n_samples + totals->n_rejected;

    if (n_read == 0)
        prx_log_warning("there are no samples in the source");
    if (report->base.n_rejected < totals->n_rejected)
        forget_rejects(&report->base, totals->n_rejected);
    if (report->n_hidden > 0)
        prx_log_info("%" PRIu64 " samples are hidden by skip lists", report->n_hidden);
    json_t *stats = json_pack("{s:I, s:I, s:I, s:I}",
                              "hidden", (json_int_t)report->n_hidden,
                              "kept", (json_int_t)totals->n_samples,
                              "shards", (json_int_t)totals->n_shards,
                              "bytes", (json_int_t)totals->n_bytes);
    int rc = stats ? tool_report_commit(&report->base, n_read, elapsed_s, stats)
                   : prx_err_nomem("the report");

    json_decref(stats);
    return rc;
}

/* All is done: say the last line. */
static int close_report(struct report *report, const struct prx_sink_totals *totals,
                        double elapsed_s)
{
    uint64_t n_read = totals->n_samples + totals->n_rejected;

    if (!tool_common.quiet)
        fprintf(stderr,
                "%s: read=%" PRIu64 " kept=%" PRIu64 " rejected=%" PRIu64
                " bytes=%" PRIu64 " elapsed_s=%.1f\n",
                report->base.tool->name, n_read, totals->n_samples, totals->n_rejected,
                totals->n_bytes, elapsed_s);
    return tool_report_judge(&report->base, n_read);
}

/* The sink's options: the tool's own limits, or those of TOOL_SHARDS. */
static struct prx_sink_opts choose_sink_opts(const struct prx_sink_opts *limits)
{
    struct prx_sink_opts opts = {
        .n_shard_bytes_max = tool_common.n_shard_bytes_max,
        .n_shard_samples_max = (uint64_t)tool_common.n_shard_samples_max,
        .no_sync = !tool_common.sync,
        .no_dali_index = !tool_common.dali_index,
    };

    if (limits)
        opts = *limits;
    opts.exists = tool_common.overwrite ? PRX_SINK_OVERWRITE
                  : tool_common.resume  ? PRX_SINK_RESUME
                                        : PRX_SINK_REFUSE;
    return opts;
}

static int run(struct report *report, struct prx_source *source,
               const struct prx_stage *stages, size_t n_stages, struct prx_sink *sink)
{
    struct prx_counts counts;
    const struct prx_pipeline_opts opts = {
        .n_threads = (int)tool_common.n_threads,
        .n_skip = report->n_settled,
        .on_reject = on_reject,
        .on_sample = on_sample,
        .ctx = report,
    };

    PRX_TRY(prx_sink_each_reject(sink, on_journalled, report));
    if (report->n_settled > 0)
        prx_log_info("%" PRIu64 " samples are settled by an earlier run",
                     report->n_settled);
    int rc = prx_pipeline_run(source, stages, n_stages, sink, &opts, &counts);
    report->n_hidden = prx_source_hidden(source);
    return report->error.code < 0 ? prx_err_restore(&report->error) : rc;
}

int tool_pipeline(const struct tool *tool, struct prx_source *source,
                  const struct prx_stage *stages, size_t n_stages,
                  const struct prx_sink_opts *sink_opts, const char *plan_extra,
                  json_t *index_extra)
{
    const char *output = tool_common.output ? tool_common.output : "-";
    struct prx_sink_opts opts = choose_sink_opts(sink_opts);
    struct prx_str plan = {0}, tool_text = {0};
    struct prx_sink_totals totals;
    struct prx_sink *sink = NULL;
    struct report report = {0};
    int rc;

    PRX_GO(tool_report_open(&report.base, tool));
    if (tool_common.resume && tool_common.overwrite)
        PRX_GO(tool_usage("--resume and --overwrite exclude each other"));
    if (strcmp(output, "-") == 0 && isatty(STDOUT_FILENO))
        PRX_GO(tool_usage("-o: a tar is not written to a terminal; name a file"));
    PRX_GO(format_plan(tool, source, &opts, plan_extra, &plan));
    PRX_GO(prx_str_printf(&tool_text, "%s %s", tool->name, tool_version()));
    opts.plan = plan.bytes;
    opts.source = source;
    opts.tool = tool_text.bytes;
    PRX_GO(prx_sink_open(output, &opts, &report.n_settled, &sink));

    prx_meter_init(&report.meter,
                   tool_common.quiet ? PRX_METER_NEVER
                                     : (enum prx_meter_when)tool_common.progress,
                   tool->name + strlen("prx-"), "samples", prx_source_total(source));
    rc = run(&report, source, stages, n_stages, sink);
    prx_meter_finish(&report.meter);
    if (rc < 0)
        goto out;
    PRX_GO(prx_sink_complete(sink, index_extra, &totals));
    double elapsed_s = prx_meter_elapsed_s(&report.meter);
    PRX_GO(commit_report(&report, &totals, elapsed_s));
    rc = prx_sink_close(sink);
    sink = NULL;
    if (rc == 0)
        rc = close_report(&report, &totals, elapsed_s);
out:
    if (sink)
        prx_sink_abort(sink);
    tool_report_abort(&report.base);
    prx_str_release(&plan);
    prx_str_release(&tool_text);
    return rc;
}
