/* SPDX-License-Identifier: Apache-2.0 */
/* prx-verify - check a data set at rest, and mend what can be mended. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/log.h"
#include "libdata/verify.h"
#include "tools/tool_report.h"
#include "tools/tool_signal.h"

enum {
    REPAIR_NONE,
    REPAIR_INDEX,
    REPAIR_SKIP,
    REPAIR_ALL,
};

static struct {
    bool deep;
    bool hash;
    struct opt_strings fingerprints;
    int repair;
    int64_t n_px_max;
    bool is_json;
} cfg = {
    .hash = true,
    .n_px_max = PRX_IMAGE_N_PX_MAX,
};

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Checks", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "deep", OPT_FLAG, &cfg.deep, NULL,
     "decode every picture, and look at every number of arrays", 0, 0},
    {0, "hash", OPT_FLAG, &cfg.hash, NULL,
     "do not read shards once more to compare their hash with the index", 0, 0},
    {0, "fingerprint", OPT_STRINGS, &cfg.fingerprints, "PART=FINGERPRINT",
     "arrays in the field PART that another encoder has made are bad; may be given"
     " several times", 0, 0},
    {0, "max-pixels", OPT_INT, &cfg.n_px_max, "N",
     "larger pictures are bad", 1, 0x1p31},
    {0, "Repair", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "repair", OPT_CHOICE, &cfg.repair, "none|index|skip|all",
     "index: write index.json and .idx anew where they are wrong; skip: add bad samples"
     " to skip lists; all: both", 0, 0},
    {0, "Listing", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "json", OPT_FLAG, &cfg.is_json, NULL,
     "print one JSON object a line", 0, 0},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-verify",
    .usage = {
        .synopsis = "[options] SRC ...",
        .summary = "Check a data set at rest, and mend what can be mended.",
        .examples = "  prx-verify shards\n"
                    "  prx-verify --deep --repair skip shards/index.json\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_JOBS | TOOL_REPORT | TOOL_LISTING,
    .run = run,
};

struct work {
    struct tool_report report;
    struct prx_meter meter;
};

/* A part of a line; what comes from outside is escaped. */
static void print_text(const char *text, const char *behind)
{
    char escaped[4 * PRX_KEY_BYTES_MAX];
    printf("%s%s", prx_escape(text, escaped, sizeof(escaped)), behind);
}

static int print_json(const struct prx_finding *finding)
{
    json_t *key = finding->key ? tool_json_text(finding->key) : json_null();
    json_t *line = json_pack("{s:o, s:o, s:s, s:o}",
                             "file", tool_json_text(finding->file),
                             "key", key,
                             "check", finding->check,
                             "what", tool_json_text(finding->what));
    if (!line)
        return prx_err_nomem("a line");
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(line);
    return 0;
}

static int on_finding(void *ctx, const struct prx_finding *finding)
{
    struct work *work = ctx;

    if (cfg.is_json) {
        PRX_TRY(print_json(finding));
    } else {
        print_text(finding->file, ": ");
        if (finding->key)
            print_text(finding->key, ": ");
        print_text(finding->what, "\n");
    }
    if (ferror(stdout))
        return prx_err_sys("standard output");
    return tool_report_put(&work->report, finding->key, finding->check, finding->what,
                           finding->file);
}

static int on_tick(void *ctx, uint64_t n_samples, uint64_t n_bytes)
{
    struct work *work = ctx;
    char note[48] = "";

    if (work->report.n_rejected > 0)
        snprintf(note, sizeof(note), "%" PRIu64 " findings", work->report.n_rejected);
    prx_meter_tick(&work->meter, n_samples, n_bytes, note[0] ? note : NULL);
    return tool_signal() != 0 ? prx_err(PRX_ECANCELED, "interrupted") : 0;
}

static void tell_fingerprints(json_t *fingerprints)
{
    const char *part, *fingerprint;
    json_t *all, *n_samples;

    json_object_foreach(fingerprints, part, all)
        json_object_foreach(all, fingerprint, n_samples)
            prx_log_info("%s: fingerprint %s in %" PRId64 " samples", part, fingerprint,
                         (int64_t)json_integer_value(n_samples));
}

static int conclude(struct work *work, const struct prx_verify_totals *totals)
{
    double elapsed_s = prx_meter_elapsed_s(&work->meter);
    json_t *stats = json_pack("{s:I, s:I, s:I, s:I, s:I, s:O}",
                              "hidden", (json_int_t)totals->n_hidden,
                              "shards", (json_int_t)totals->n_shards,
                              "bytes", (json_int_t)totals->n_bytes,
                              "indexes_written", (json_int_t)totals->n_indexes_written,
                              "rows_written", (json_int_t)totals->n_rows_written,
                              "fingerprints", totals->fingerprints);
    int rc = stats ? tool_report_commit(&work->report, totals->n_samples, elapsed_s,
                                        stats)
                   : prx_err_nomem("the report");

    json_decref(stats);
    PRX_TRY(rc);
    if (totals->n_samples == 0)
        prx_log_warning("there are no samples in the source");
    tell_fingerprints(totals->fingerprints);
    if (!tool_common.quiet)
        fprintf(stderr,
                "%s: shards=%" PRIu64 " read=%" PRIu64 " hidden=%" PRIu64
                " findings=%" PRIu64 " indexes_written=%" PRIu64
                " rows_written=%" PRIu64 " bytes=%" PRIu64 " elapsed_s=%.1f\n",
                tool.name, totals->n_shards, totals->n_samples, totals->n_hidden,
                totals->n_findings, totals->n_indexes_written, totals->n_rows_written,
                totals->n_bytes, elapsed_s);
    return tool_report_judge(&work->report, totals->n_samples);
}

static int run(const char **operands, size_t n_operands)
{
    static const unsigned repairs[] = {
        [REPAIR_INDEX] = PRX_REPAIR_INDEX,
        [REPAIR_SKIP] = PRX_REPAIR_SKIP,
        [REPAIR_ALL] = PRX_REPAIR_INDEX | PRX_REPAIR_SKIP,
    };
    const char *folder = getenv("TMPDIR");
    struct work work = {0};
    struct prx_verify_totals totals = {0};
    struct prx_verify_opts opts = {
        .deep = cfg.deep,
        .no_hash = !cfg.hash,
        .n_threads = (int)tool_common.n_threads,
        .repairs = repairs[cfg.repair],
        .fingerprints = cfg.fingerprints.values,
        .n_fingerprints = cfg.fingerprints.n,
        .limits.n_px_max = cfg.n_px_max,
        .temp_folder = folder && *folder ? folder : "/tmp",
        .on_finding = on_finding,
        .on_tick = on_tick,
        .ctx = &work,
    };
    struct prx_str text = {0};
    int rc;

    if (n_operands == 0)
        return tool_usage("name a data set: a folder, an index.json, tar shards");
    PRX_GO(tool_report_open(&work.report, &tool));
    work.report.what = "findings";
    PRX_GO(prx_str_printf(&text, "%s %s", tool.name, tool_version()));
    opts.tool = text.bytes;
    prx_meter_init(&work.meter,
                   tool_common.quiet ? PRX_METER_NEVER
                                     : (enum prx_meter_when)tool_common.progress,
                   "verify", "samples", 0);
    rc = prx_verify(operands, n_operands, &opts, &totals);
    prx_meter_finish(&work.meter);
    if (rc == 0)
        rc = conclude(&work, &totals);
out:
    json_decref(totals.fingerprints);
    tool_report_abort(&work.report);
    prx_str_release(&text);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
