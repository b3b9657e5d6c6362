/* SPDX-License-Identifier: Apache-2.0 */
/* --rejects, --stats, --max-errors. */
#include "tools/tool_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "libdata/log.h"

static int parse_max_errors(struct tool_report *report)
{
    const char *text = tool_common.max_errors;
    char *end;

    report->max_errors = strtod(text, &end);
    report->is_share = *end == '%' && !end[1];
    if (*text < '0' || *text > '9' || (*end && !report->is_share) ||
        !isfinite(report->max_errors))
        return tool_usage("--max-errors: %s is neither a number nor a share", text);
    return 0;
}

static int open_file(struct prx_outfile *file, const char *path)
{
    if (!path)
        return 0;
    prx_outfile_sweep(path);
    return prx_outfile_open(file, path);
}

int tool_report_open_at(struct tool_report *report, const struct tool *tool,
                        const char *rejects_path, const char *stats_path)
{
    *report = (struct tool_report){
        .tool = tool,
        .rejects_file.fd = -1,
        .stats_file.fd = -1,
        .by_stage = json_object(),
    };
    if (!report->by_stage)
        return prx_err_nomem("the report");
    PRX_TRY(parse_max_errors(report));
    PRX_TRY(open_file(&report->rejects_file, rejects_path));
    return open_file(&report->stats_file, stats_path);
}

int tool_report_open(struct tool_report *report, const struct tool *tool)
{
    return tool_report_open_at(report, tool, tool_common.rejects_path,
                               tool_common.stats_path);
}

void tool_report_abort(struct tool_report *report)
{
    prx_outfile_abort(&report->rejects_file);
    prx_outfile_abort(&report->stats_file);
    json_decref(report->by_stage);
    report->by_stage = NULL;
}

static int write_json_line(struct prx_outfile *file, json_t *object)
{
    const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(9);
    char *text = object ? json_dumps(object, flags) : NULL;
    int rc;

    if (!text)
        return prx_err_nomem("the report");
    PRX_GO(prx_outfile_write(file, text, strlen(text)));
    PRX_GO(prx_outfile_write(file, "\n", 1));
out:
    free(text);
    return rc;
}

static int count_reject(struct tool_report *report, const char *stage)
{
    json_t *count = json_object_get(report->by_stage, stage);
    json_int_t n = count ? json_integer_value(count) : 0;

    report->n_rejected++;
    if (json_object_set_new(report->by_stage, stage, json_integer(n + 1)) < 0)
        return prx_err_nomem("the report");
    return 0;
}

int tool_report_put(struct tool_report *report, const char *key, const char *stage,
                    const char *reason, const char *origin)
{
    PRX_TRY(count_reject(report, stage));
    if (report->rejects_file.fd < 0)
        return 0;
    json_t *line = json_pack("{s:o, s:o, s:o, s:o}",
                             "key", tool_json_text(key),
                             "stage", tool_json_text(stage),
                             "reason", tool_json_text(reason),
                             "source", origin ? tool_json_text(origin) : json_null());
    int rc = write_json_line(&report->rejects_file, line);
    json_decref(line);
    return rc;
}

int tool_report_put_sample(struct tool_report *report, const struct prx_sample *sample)
{
    tool_warn_reject(sample, report->n_rejected);
    return tool_report_put(report, sample->key, sample->reject_stage,
                           sample->reject_reason, sample->origin);
}

static int write_stats(struct tool_report *report, uint64_t n_read, double elapsed_s,
                       json_t *own)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_SELF, &usage);
    json_t *stats = json_pack("{s:s, s:s, s:I, s:I, s:O}",
                              "tool", report->tool->name,
                              "version", tool_version(),
                              "read", (json_int_t)n_read,
                              "rejected", (json_int_t)report->n_rejected,
                              "rejected_by_stage", report->by_stage);
    json_t *cost = json_pack("{s:f, s:I}",
                             "elapsed_s", elapsed_s,
                             "max_rss_bytes", (json_int_t)usage.ru_maxrss * 1024);
    int rc = 0;
    if (!stats || !cost || (own && json_object_update(stats, own) < 0) ||
        json_object_update(stats, cost) < 0)
        rc = prx_err_nomem("the report");
    if (rc == 0)
        rc = write_json_line(&report->stats_file, stats);
    json_decref(stats);
    json_decref(cost);
    return rc;
}

int tool_report_commit(struct tool_report *report, uint64_t n_read, double elapsed_s,
                       json_t *stats)
{
    if (report->stats_file.fd >= 0) {
        PRX_TRY(write_stats(report, n_read, elapsed_s, stats));
        PRX_TRY(prx_outfile_commit(&report->stats_file, false));
    }
    if (report->rejects_file.fd >= 0)
        PRX_TRY(prx_outfile_commit(&report->rejects_file, false));
    return 0;
}

int tool_report_judge(const struct tool_report *report, uint64_t n_read)
{
    double n_allowed = report->is_share ? report->max_errors / 100 * (double)n_read
                                        : report->max_errors;

    if ((double)report->n_rejected <= n_allowed)
        return 0;
    if (report->what)
        prx_log_error("%" PRIu64 " %s in %" PRIu64 " samples, and --max-errors is %s",
                      report->n_rejected, report->what, n_read, tool_common.max_errors);
    else
        prx_log_error("%" PRIu64 " of %" PRIu64
                      " samples rejected, and --max-errors is %s",
                      report->n_rejected, n_read, tool_common.max_errors);
    return TOOL_REJECTS;
}
