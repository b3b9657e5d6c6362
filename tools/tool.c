/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame of every program: common options, signals, streams, exit status.
 *
 * After SIGINT or SIGTERM the loops stop at the next sample, and nothing
 * half-written gets a final name.  SIGPIPE is ignored, so a reader that has gone
 * away is an error like any other (PRX_EPIPE).
 */
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#ifdef __GLIBC__
# include <malloc.h>
#endif
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/log.h"
#include "libdata/simd.h"
#include "tools/tool_signal.h"

struct tool_common tool_common = {
    .max_errors = "0",
    .rank = -1,
    .n_unit_samples = 4096,
    .claim_timeout_s = 60,
    .n_shard_bytes_max = 256 << 20,
    .dali_index = true,
    .sync = true,
};

enum {
    N_REJECTS_SHOWN = 20,
};

static bool help_asked, version_asked;

/* clang-format off */
static const struct opt_row jobs_rows[] = {
    {0, "Work", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'j', "threads", OPT_INT, &tool_common.n_threads, "N",
     "worker threads; 0 takes all processors", 0, 1024},
};
static const struct opt_row output_rows[] = {
    {0, "Output", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'o', "output", OPT_STRING, &tool_common.output, "DEST",
     "write to DEST; - (the default) is standard output", 0, 0},
    {0, "resume", OPT_FLAG, &tool_common.resume, NULL,
     "go on where an interrupted run of the same plan has stopped", 0, 0},
    {0, "overwrite", OPT_FLAG, &tool_common.overwrite, NULL,
     "replace an existing DEST", 0, 0},
};
static const struct opt_row shards_rows[] = {
    {0, "Shards", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "shard-bytes", OPT_BYTES, &tool_common.n_shard_bytes_max, "SIZE",
     "begin a new shard before this size", 1, 0x1p62},
    {0, "shard-samples", OPT_INT, &tool_common.n_shard_samples_max, "N",
     "and before this many samples; 0 is no limit", 0, 0x1p52},
    {0, "dali-index", OPT_FLAG, &tool_common.dali_index, NULL,
     "write no .idx file beside a shard", 0, 0},
    {0, "sync", OPT_FLAG, &tool_common.sync, NULL,
     "do not wait for the disk: faster, but a power cut may cost finished shards", 0,
     0},
};
static const struct opt_row report_rows[] = {
    {0, "Report", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "progress", OPT_CHOICE, &tool_common.progress, "auto|always|never",
     "the meter on standard error", 0, 0},
    {0, "stats", OPT_STRING, &tool_common.stats_path, "FILE",
     "write a summary in JSON", 0, 0},
    {0, "rejects", OPT_STRING, &tool_common.rejects_path, "FILE",
     "write every rejected sample, one JSON object a line", 0, 0},
    {0, "max-errors", OPT_STRING, &tool_common.max_errors, "N|P%",
     "exit with status 3 where more samples are rejected", 0, 0},
};
static const struct opt_row split_rows[] = {
    {0, "Split", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "rank", OPT_INT, &tool_common.rank, "R",
     "take part R of the input, counted from 0; without it the job scheduler's"
     " environment is asked", 0, 0x7fffffff},
    {0, "world", OPT_INT, &tool_common.world, "N",
     "of N parts", 1, 0x7fffffff},
};
static const struct opt_row lists_rows[] = {
    {0, "Lists", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "key-column", OPT_STRING, &tool_common.key_column, "COLUMN",
     "of lists: whose values are the keys", 0, 0},
    {0, "image-column", OPT_STRING, &tool_common.image_column, "COLUMN",
     "whose values are the pictures or their paths; '' reads no pictures", 0, 0},
    {0, "caption-column", OPT_STRINGS, &tool_common.caption_columns, "[NAME=]COLUMN",
     "whose values are the captions NAME; txt by default; may be given several times",
     0, 0},
    {0, "image-root", OPT_STRING, &tool_common.image_root, "DIR",
     "where paths in lists begin; by default, in the folder of the list", 0, 0},
    {0, "any-path", OPT_FLAG, &tool_common.any_path, NULL,
     "let lists name pictures anywhere: by absolute paths and by ..", 0, 0},
};

static const struct opt_row share_rows[] = {
    {0, "share", OPT_FLAG, &tool_common.share, NULL,
     "write DEST together with other processes that are given the same command", 0, 0},
    {0, "unit-samples", OPT_INT, &tool_common.n_unit_samples, "N",
     "what one takes at a time: a shard of the input, or N samples of a folder or list",
     1, 0x1p52},
    {0, "claim-timeout", OPT_INT, &tool_common.claim_timeout_s, "S",
     "take over from a process that has been silent for S seconds", 1, 86400},
};
static const struct opt_row general_rows[] = {
    {0, "General", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'q', "quiet", OPT_FLAG, &tool_common.quiet, NULL,
     "print errors only", 0, 0},
    {'v', "verbose", OPT_COUNT, &tool_common.verbosity, NULL,
     "print more; twice even more", 0, 0},
    {'h', "help", OPT_STOP, &help_asked, NULL, "print this text", 0, 0},
    {'V', "version", OPT_STOP, &version_asked, NULL,
     "print the version, and what is built in and left out", 0, 0},
};
/* clang-format on */

#define N_ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct {
    unsigned group; /* 0: every tool's */
    const struct opt_row *rows;
    size_t n_rows;
} groups[] = {
    {TOOL_OUTPUT, output_rows, N_ROWS(output_rows)},
    {TOOL_SHARDS, shards_rows, N_ROWS(shards_rows)},
    {TOOL_JOBS, jobs_rows, N_ROWS(jobs_rows)},
    {TOOL_LISTS, lists_rows, N_ROWS(lists_rows)},
    {TOOL_SPLIT, split_rows, N_ROWS(split_rows)},
    {TOOL_SHARE, share_rows, N_ROWS(share_rows)},
    {TOOL_REPORT, report_rows, N_ROWS(report_rows)},
    {0, general_rows, N_ROWS(general_rows)},
};

static bool has_row(const struct tool *tool, const char *name)
{
    for (size_t i = 0; i < tool->n_rows; i++)
        if (strcmp(tool->rows[i].name, name) == 0)
            return true;
    return false;
}

static size_t merge_rows(const struct tool *tool, struct opt_row rows[OPT_ROWS_MAX])
{
    size_t n_rows = 0;

    for (size_t i = 0; i < tool->n_rows; i++) {
        PRX_BUG_IF(n_rows == OPT_ROWS_MAX);
        rows[n_rows++] = tool->rows[i];
    }
    for (size_t i = 0; i < N_ROWS(groups); i++) {
        if (groups[i].group && !(groups[i].group & tool->groups))
            continue;
        for (size_t j = 0; j < groups[i].n_rows; j++) {
            const struct opt_row *row = &groups[i].rows[j];
            if (row->type != OPT_GROUP && has_row(tool, row->name))
                continue;
            PRX_BUG_IF(n_rows == OPT_ROWS_MAX);
            rows[n_rows++] = *row;
        }
    }
    return n_rows;
}

const char *tool_version(void)
{
    return PRX_VERSION;
}

static void print_version(const struct tool *tool)
{
    printf("%s %s\n", tool->name, tool_version());
    printf("built by %s %s with %s\n", PRX_CC, __VERSION__, PRX_CFLAGS);
    printf("processor level: v%d\n", prx_simd_level());
    printf("built in: %s\n", PRX_FEATURES_IN);
    printf("left out: %s\n", PRX_FEATURES_OUT);
    printf("licence: Apache-2.0\n");
}

int tool_usage(const char *fmt, ...)
{
    char text[PRX_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)prx_err(PRX_EINVAL, "%s", text);
    return TOOL_USAGE;
}

static bool parse_number(const char *text, int64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && !errno && *out >= 0 && *out <= INT32_MAX;
}

/* The part a job scheduler gives to this process: the first pair that is set. */
static int split_from_environment(void)
{
    static const char *const names[][3] = {
        {"RANK", "WORLD_SIZE", NULL},
        {"SLURM_PROCID", "SLURM_NTASKS", NULL},
        {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"},
        {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL},
        {"PMI_RANK", "PMI_SIZE", NULL},
    };

    for (size_t i = 0; i < N_ROWS(names); i++) {
        const char *rank_text = getenv(names[i][0]);
        const char *world_text = getenv(names[i][1]);
        const char *first_text = names[i][2] ? getenv(names[i][2]) : NULL;
        int64_t rank, world, first = 0;

        if (!rank_text || !world_text)
            continue;
        if (!parse_number(rank_text, &rank) || !parse_number(world_text, &world) ||
            (first_text && !parse_number(first_text, &first)) || rank - first < 0 ||
            rank - first >= world)
            return tool_usage("%s=%s and %s=%s in the environment name no part; say"
                              " --rank and --world",
                              names[i][0], rank_text, names[i][1], world_text);
        tool_common.rank = rank - first;
        tool_common.world = world;
        if (world > 1 && !tool_common.share)
            prx_log_warning("taking part %lld of %lld, as %s and %s say;"
                            " --rank 0 --world 1 takes all",
                            (long long)tool_common.rank, (long long)world, names[i][0],
                            names[i][1]);
        return 0;
    }
    tool_common.rank = 0;
    tool_common.world = 1;
    return 0;
}

/*
 * A tar on standard input is never split by the environment: in a pipe of tools
 * that a scheduler has started, the first one has done it.
 */
static int resolve_split(const char **operands, size_t n_operands)
{
    bool asks_environment = true;

    if (tool_common.rank >= 0 || tool_common.world > 0) {
        if (tool_common.rank < 0 || tool_common.rank >= tool_common.world)
            return tool_usage("--rank, --world: needed are both, rank below world");
        return 0;
    }
    for (size_t i = 0; i < n_operands; i++)
        asks_environment = asks_environment && strcmp(operands[i], "-") != 0;
    if (asks_environment)
        return split_from_environment();
    tool_common.rank = 0;
    tool_common.world = 1;
    return 0;
}

/*
 * Samples are taken by one thread and given back by another, which glibc's arenas
 * for each thread turn into memory that grows with the number of threads.
 */
static void share_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
#endif
}

/* A standard stream that was closed must not become the next file we open. */
static void open_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(1);
    /* Room for all of --help, so that its write fails where the failure is told. */
    static char buffer[64 << 10];
    setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
}

static int close_standard_output(void)
{
    bool has_failed = ferror(stdout);

    errno = 0;
    if (fclose(stdout) == 0 && !has_failed)
        return 0;
    if (errno == 0)
        errno = EIO; /* an earlier write failed, and nobody looked */
    return prx_err_sys("standard output");
}

void tool_tell(int rc)
{
    int number = tool_signal();

    if (number && (rc >= 0 || rc == PRX_ECANCELED))
        prx_log_error("stopped by %s", number == SIGINT ? "SIGINT" : "SIGTERM");
    else if (rc == PRX_EPIPE)
        prx_log_error("standard output: the reader has gone");
    else
        prx_log_error("%s%s", prx_err_message(), rc == TOOL_USAGE ? "; see -h" : "");
}

static int exit_status(const struct tool *tool, int rc)
{
    int rc_close = close_standard_output();
    int number = tool_signal();

    if (rc >= 0 && rc_close < 0)
        rc = rc_close;
    if (rc == PRX_EPIPE && (tool->groups & TOOL_LISTING))
        rc = 0;
    if (rc >= 0 && !number)
        return rc;
    if (!tool_common.is_silent)
        tool_tell(rc);
    if (rc == TOOL_USAGE)
        return 2;
    return number ? 128 + number : 1;
}

int tool_main(const struct tool *tool, int argc, char **argv)
{
    struct opt_row rows[OPT_ROWS_MAX];
    size_t n_rows = merge_rows(tool, rows);
    const char **operands = NULL;
    size_t n_operands = 0;

    share_memory();
    open_standard_streams();
    signal(SIGPIPE, SIG_IGN);
    if (!(tool->groups & TOOL_LISTING)) /* which has nothing to finish */
        tool_catch_signals(tool->groups & TOOL_SAVES);
    prx_log_init(tool->name, PRX_LOG_WARNING);
    int rc = opt_parse(argc, argv, rows, n_rows, &operands, &n_operands);
    if (rc > 0) {
        if (help_asked)
            opt_help(stdout, tool->name, &tool->usage, rows, n_rows);
        else
            print_version(tool);
        rc = 0;
    } else if (rc == 0) {
        if (tool_common.quiet)
            prx_log_init(tool->name, PRX_LOG_ERROR);
        else if (tool_common.verbosity > 0)
            prx_log_init(tool->name, tool_common.verbosity > 1 ? PRX_LOG_DEBUG
                                                               : PRX_LOG_INFO);
        if (tool->groups & TOOL_SPLIT)
            rc = resolve_split(operands, n_operands);
        if (rc == 0)
            rc = tool->run(operands, n_operands);
    } else if (rc == PRX_EINVAL) {
        rc = TOOL_USAGE;
    }
    free(operands);
    opt_release(rows, n_rows);
    return exit_status(tool, rc);
}

static void on_notice(const char *text)
{
    prx_log_warning("%s", text);
}

static int open_source(const char **operands, size_t n_operands, bool with_hidden,
                       struct prx_source **out)
{
    const struct prx_source_opts opts = {
        .rank = tool_common.share ? 0 : (int)tool_common.rank,
        .world = tool_common.share ? 1 : (int)tool_common.world,
        .lists = {
            .key_column = tool_common.key_column,
            .image_column = tool_common.image_column,
            .caption_columns = tool_common.caption_columns.values,
            .n_caption_columns = tool_common.caption_columns.n,
            .image_root = tool_common.image_root,
            .any_path = tool_common.any_path,
        },
        .on_notice = on_notice,
        .may_run = true,
        .with_hidden = with_hidden,
    };

    *out = NULL;
    if (n_operands == 0)
        return tool_usage("name a source: a folder, tar shards, a list, or - for"
                          " standard input");
    for (size_t i = 0; i < n_operands; i++)
        if (strcmp(operands[i], "-") == 0 && isatty(STDIN_FILENO))
            return tool_usage("-: a tar is not read from a terminal");
    return prx_source_open(operands, n_operands, &opts, out);
}

int tool_source_open(const char **operands, size_t n_operands, struct prx_source **out)
{
    return open_source(operands, n_operands, false, out);
}

int tool_source_open_all(const char **operands, size_t n_operands,
                         struct prx_source **out)
{
    return open_source(operands, n_operands, true, out);
}

void tool_warn_reject(const struct prx_sample *sample, uint64_t n_before)
{
    const char *key = sample->key ? sample->key : "?";
    const char *origin = sample->origin ? sample->origin : key;
    const char *reason = sample->reject_reason;
    char above[PRX_ERR_TEXT_BYTES / 4], shown[PRX_ERR_TEXT_BYTES / 4];

    if (n_before == N_REJECTS_SHOWN)
        prx_log_warning("more samples are rejected; they are only counted from here");
    if (n_before >= N_REJECTS_SHOWN)
        return;
    if (strcmp(origin, key) == 0 || strncmp(reason, origin, strlen(origin)) == 0)
        prx_log_warning("%s: %s: %s", prx_escape(key, shown, sizeof(shown)),
                        sample->reject_stage, reason);
    else
        prx_log_warning("%s: %s: %s: %s", prx_escape(origin, above, sizeof(above)),
                        prx_escape(key, shown, sizeof(shown)), sample->reject_stage,
                        reason);
}
