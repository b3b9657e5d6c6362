/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool.h - what every program does the same way: start, report, finish.
 *
 * A tool is an option table and one function.  tool_main() parses, sets up the
 * log, signals and the standard streams, calls it, prints the failure if there
 * is one, checks that standard output was written whole, and turns the result
 * into the exit status: 0 done, 1 failed, 2 usage, 3 done with more rejects than
 * --max-errors, 128+N by signal.
 */
#ifndef PRX_TOOLS_TOOL_H
#define PRX_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/picture.h"
#include "libdata/pipeline.h"
#include "libdata/progress.h"
#include "tools/opt.h"

struct tool {
    const char *name; /* "prx-shard" */
    struct opt_usage usage;
    const struct opt_row *rows; /* the tool's own; a common row of the same name is
                                 * left out */
    size_t n_rows;
    unsigned groups; /* TOOL_JOBS | TOOL_OUTPUT | ... */
    int (*run)(const char **operands, size_t n_operands);
};

enum {
    TOOL_JOBS = 1,     /* -j */
    TOOL_OUTPUT = 2,   /* -o, --resume, --overwrite */
    TOOL_REPORT = 4,   /* --progress, --stats, --rejects, --max-errors */
    TOOL_SPLIT = 8,    /* --rank, --world */
    TOOL_SHARDS = 16,  /* --shard-bytes, --shard-samples, --no-dali-index, --no-sync */
    TOOL_LISTING = 32, /* no options: a reader that leaves early is not a failure */
    TOOL_SAVES = 64,   /* no options: looks at tool_save_wanted() */
    TOOL_LISTS = 128,  /* --key-column, --image-column, --caption-column, ... */
    TOOL_SHARE = 256,  /* --share, ...: what becomes of a sample depends on it alone */

    /* What tool_source_open() goes by. */
    TOOL_SOURCE = TOOL_LISTS | TOOL_SPLIT,
    /* What tool_pipeline() looks at, apart from TOOL_SHARE. */
    TOOL_PIPELINE =
        TOOL_JOBS | TOOL_OUTPUT | TOOL_REPORT | TOOL_SOURCE | TOOL_SHARDS,
};

/* Values of the common options, set before run() is called. */
struct tool_common {
    int64_t n_threads;  /* 0 = all processors */
    const char *output; /* NULL when not given */
    bool resume;
    bool overwrite;
    int progress; /* enum prx_meter_when */
    const char *stats_path;
    const char *rejects_path;
    const char *max_errors; /* "N" or "P%" */
    int64_t rank, world;    /* resolved from options or environment */
    bool share;
    int64_t n_unit_samples;
    int64_t claim_timeout_s;
    uint64_t n_shard_bytes_max;
    int64_t n_shard_samples_max;
    bool dali_index;
    bool sync;
    const char *key_column, *image_column; /* NULL when not given */
    struct opt_strings caption_columns;
    const char *image_root;
    bool any_path;
    bool quiet;
    int64_t verbosity;
    bool is_silent; /* how the work ended is told already, or by another process */
};
extern struct tool_common tool_common;

int tool_main(const struct tool *tool, int argc, char **argv);

/** tool_version - "0.1.0". */
const char *tool_version(void);

/* Exit status 2 for a complaint that only run() can make. */
#define TOOL_USAGE (-100)
int tool_usage(const char *fmt, ...) PRX_PRINTF(1, 2);

/** tool_tell - say that run() has failed with @rc, or that a signal has stopped it. */
void tool_tell(int rc);

/* Returned by run(): done, but with more rejects than allowed. */
#define TOOL_REJECTS 3

/**
 * tool_source_open - open the operands as one source, as --rank and --world say.
 *
 * With --share it is all of them: ranks are no parts then.  Without
 * any operand it is a usage error.
 */
PRX_MUST_USE int tool_source_open(const char **operands, size_t n_operands,
                                  struct prx_source **out);

/** tool_source_open_all - the same, with the samples that skip lists hide. */
PRX_MUST_USE int tool_source_open_all(const char **operands, size_t n_operands,
                                      struct prx_source **out);

/**
 * tool_pipeline - run source -> stages -> -o DEST with all the common options.
 *
 * Opens the destination, resumes, reports rejects and progress, writes --stats,
 * prints the last line, finishes or aborts.  Returns 0, TOOL_REJECTS or < 0.
 *
 * @sink_opts: size limits, where the tool sets its own; NULL for TOOL_SHARDS's.
 *             exists, plan and tool are filled in here.
 * @plan_extra: what, besides the source and the tool's rows, fixes the output, or
 *              NULL.
 * @index_extra: members for index.json, or NULL.
 */
PRX_MUST_USE int tool_pipeline(const struct tool *tool, struct prx_source *source,
                               const struct prx_stage *stages, size_t n_stages,
                               const struct prx_sink_opts *sink_opts,
                               const char *plan_extra, json_t *index_extra);

/** tool_picture_size - prx_picture_size(), where an unreadable one rejects @sample. */
PRX_MUST_USE int tool_picture_size(struct prx_sample *sample,
                                   struct prx_picture_size *size);

/** tool_json_text - a new JSON string; what is not UTF-8 is escaped, NULL is "". */
json_t *tool_json_text(const char *text);

/**
 * tool_warn_reject - log where and why @sample was passed by.
 *
 * @n_before: rejects so far; only the first 20 are logged one by one.
 */
void tool_warn_reject(const struct prx_sample *sample, uint64_t n_before);

#endif
