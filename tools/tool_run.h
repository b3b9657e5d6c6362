/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool_run.h - a run of the pipeline with meter and report, whatever it ends in.
 *
 * tool_pipeline.c runs it into a destination that is this process's own, tool_share.c
 * into one unit after the other of a destination that several processes share.
 */
#ifndef PRX_TOOLS_TOOL_RUN_H
#define PRX_TOOLS_TOOL_RUN_H

#include "tools/tool_report.h"

/* What is to be done. */
struct tool_work {
    const struct tool *tool;
    struct prx_source *source;
    const struct prx_stage *stages;
    size_t n_stages;
    const char *output;
    struct prx_sink_opts sink_opts; /* all but exists */
    json_t *index_extra;            /* or NULL */
};

struct tool_run {
    struct tool_report report;
    struct prx_meter meter;
    uint64_t n_before;    /* samples that this process has read before this run */
    uint64_t n_settled;   /* samples that earlier runs have finished */
    uint64_t n_hidden;    /* samples passed over by skip lists */
    double elapsed_s;     /* known once the report is committed */
    const char *note;     /* for the meter, or NULL */
    const void *stop_ctx; /* is_stopped: end the run with PRX_ECANCELED; or NULL */
    bool (*is_stopped)(const void *ctx);
    struct prx_error error; /* of a callback, which can only stop the run */
};

void tool_run_begin_meter(struct tool_run *run, const struct tool_work *work);

/** tool_run_pipeline - tell what is settled, then move what is not to @sink. */
PRX_MUST_USE int tool_run_pipeline(struct tool_run *run, const struct tool_work *work,
                                   struct prx_sink *sink);

/** tool_run_commit - the destination is complete: name the report files. */
PRX_MUST_USE int tool_run_commit(struct tool_run *run,
                                 const struct prx_sink_totals *totals);

/** tool_run_close - say the last line, and judge: 0, TOOL_REJECTS or < 0. */
PRX_MUST_USE int tool_run_close(const struct tool_run *run,
                                const struct prx_sink_totals *totals);

/** tool_share - do the part of @work that other processes leave to this one. */
PRX_MUST_USE int tool_share(const struct tool_work *work);

#endif
