/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool_report.h - what --rejects, --stats and --max-errors promise.
 *
 * Report files are begun before the work, so that one that cannot be written
 * stops a tool while nothing has happened, and are named after it is done.
 */
#ifndef PRX_TOOLS_TOOL_REPORT_H
#define PRX_TOOLS_TOOL_REPORT_H

#include "libdata/outfile.h"
#include "tools/tool.h"

struct tool_report {
    const struct tool *tool;
    struct prx_outfile rejects_file; /* path NULL: not asked for */
    struct prx_outfile stats_file;   /* likewise */
    json_t *by_stage;                /* {stage: rejects}, owned */
    uint64_t n_rejected;
    double max_errors; /* a count, or a share of samples */
    bool is_share;
    const char *what; /* is counted; NULL: "samples rejected" */
};

/** tool_report_open - begin the files that are asked for. */
PRX_MUST_USE int tool_report_open(struct tool_report *report, const struct tool *tool);

/** tool_report_open_at - the same with other files; NULL: none. */
PRX_MUST_USE int tool_report_open_at(struct tool_report *report,
                                     const struct tool *tool,
                                     const char *rejects_path,
                                     const char *stats_path);

/** tool_report_put - account for one reject; @origin may be NULL. */
PRX_MUST_USE int tool_report_put(struct tool_report *report, const char *key,
                                 const char *stage, const char *reason,
                                 const char *origin);

/** tool_report_put_sample - the same of a rejected sample, which is also logged. */
PRX_MUST_USE int tool_report_put_sample(struct tool_report *report,
                                        const struct prx_sample *sample);

/**
 * tool_report_commit - the work is done: complete and name the files.
 *
 * @n_read: samples, rejected ones too.
 * @stats: members of the tool's own for --stats, borrowed; may be NULL.
 */
PRX_MUST_USE int tool_report_commit(struct tool_report *report, uint64_t n_read,
                                    double elapsed_s, json_t *stats);

/** tool_report_judge - 0, or TOOL_REJECTS where there are more than --max-errors. */
int tool_report_judge(const struct tool_report *report, uint64_t n_read);

/** tool_report_abort - drop what is not committed; fine after it, and on {0}. */
void tool_report_abort(struct tool_report *report);

#endif
