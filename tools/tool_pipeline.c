/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the pipeline with everything the common options promise.
 *
 * Report files are begun before the destination, so that one that cannot be
 * written stops the run while nothing has happened, and are named after the
 * destination is complete, but before it forgets the rejects.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/log.h"
#include "tools/tool_run.h"

/* Everything that fixes the output, as text, for the sink to hash. */
static int format_plan(const struct tool_work *work, const char *plan_extra,
                       struct prx_str *plan)
{
    const struct prx_sink_opts *sink_opts = &work->sink_opts;

    PRX_TRY(prx_str_printf(plan, "%s %s\n", work->tool->name, tool_version()));
    PRX_TRY(opt_format(work->tool->rows, work->tool->n_rows, plan));
    PRX_TRY(prx_str_printf(plan, "shard-bytes=%" PRIu64 "\n",
                           sink_opts->n_shard_bytes_max));
    PRX_TRY(prx_str_printf(plan, "shard-samples=%" PRIu64 "\n",
                           sink_opts->n_shard_samples_max));
    if (tool_common.share)
        PRX_TRY(prx_str_printf(plan, "unit-samples=%" PRId64 "\n",
                               tool_common.n_unit_samples));
    if (plan_extra)
        PRX_TRY(prx_str_printf(plan, "%s\n", plan_extra));
    return prx_source_plan(work->source, plan);
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

/* Into a destination that is this process's alone. */
static int write_alone(const struct tool_work *work)
{
    struct prx_sink_totals totals;
    struct prx_sink *sink = NULL;
    struct tool_run run = {0};
    int rc;

    PRX_GO(tool_report_open(&run.report, work->tool));
    PRX_GO(prx_sink_open(work->output, &work->sink_opts, &run.n_settled, &sink));
    tool_run_begin_meter(&run, work);
    rc = tool_run_pipeline(&run, work, sink);
    prx_meter_finish(&run.meter);
    if (rc < 0)
        goto out;
    PRX_GO(prx_sink_complete(sink, work->index_extra, &totals));
    PRX_GO(tool_run_commit(&run, &totals));
    rc = prx_sink_close(sink);
    sink = NULL;
    if (rc == 0)
        rc = tool_run_close(&run, &totals);
out:
    if (sink)
        prx_sink_abort(sink);
    tool_report_abort(&run.report);
    if (rc == PRX_EEXIST && tool_common.world > 1 && (work->tool->groups & TOOL_SHARE))
        prx_log_warning("processes that write to one DEST together want --share");
    return rc;
}

static int check_options(const struct tool_work *work)
{
    if (tool_common.resume && tool_common.overwrite)
        return tool_usage("--resume and --overwrite exclude each other");
    if (strcmp(work->output, "-") == 0 && isatty(STDOUT_FILENO))
        return tool_usage("-o: a tar is not written to a terminal; name a file");
    if (tool_common.share && tool_common.overwrite)
        return tool_usage("--share and --overwrite exclude each other: a process that"
                          " comes late would remove what the others have made");
    if (tool_common.share && !prx_sink_is_numbered(work->output))
        return tool_usage("--share: wants numbered shards, such as -o out/%%06d.tar,"
                          " not %s",
                          work->output);
    return 0;
}

int tool_pipeline(const struct tool *tool, struct prx_source *source,
                  const struct prx_stage *stages, size_t n_stages,
                  const struct prx_sink_opts *sink_opts, const char *plan_extra,
                  json_t *index_extra)
{
    struct tool_work work = {
        .tool = tool,
        .source = source,
        .stages = stages,
        .n_stages = n_stages,
        .output = tool_common.output ? tool_common.output : "-",
        .sink_opts = choose_sink_opts(sink_opts),
        .index_extra = index_extra,
    };
    struct prx_str plan = {0}, tool_text = {0};
    int rc;

    PRX_GO(check_options(&work));
    PRX_GO(format_plan(&work, plan_extra, &plan));
    PRX_GO(prx_str_printf(&tool_text, "%s %s", tool->name, tool_version()));
    work.sink_opts.plan = plan.bytes;
    work.sink_opts.source = source;
    work.sink_opts.tool = tool_text.bytes;
    rc = tool_common.share ? tool_share(&work) : write_alone(&work);
out:
    prx_str_release(&plan);
    prx_str_release(&tool_text);
    return rc;
}
