/* SPDX-License-Identifier: Apache-2.0 */
/* prx-train - train a denoiser on latents and text states. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/log.h"
#include "tools/dry_run.h"
#include "tools/tool_report.h"
#include "tools/tool_signal.h"
#include "train/run.h"

static const char *const backend_names[] = {"auto", "cpu", "ref", "fence"};

static struct {
    struct opt_strings sets;
    const char *spool;
    int backend;
    bool dry_run;
    bool help_recipe;
} cfg;

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Training", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'o', "output", OPT_STRING, &tool_common.output, "RUN",
     "the run's folder: checkpoints, log, resolved recipe", 0, 0},
    {0, "resume", OPT_FLAG, &tool_common.resume, NULL,
     "go on from RUN's newest whole checkpoint, if there is one", 0, 0},
    {0, "overwrite", OPT_FLAG, &tool_common.overwrite, NULL,
     "remove what an earlier run left in RUN", 0, 0},
    {0, "set", OPT_STRINGS, &cfg.sets, "KEY=VALUE",
     "change a key of the recipe; may be given several times", 0, 0},
    {0, "spool", OPT_STRING, &cfg.spool, "DIR",
     "keep samples that come as a stream in DIR; RUN/spool by default", 0, 0},
    {0, "backend", OPT_CHOICE, &cfg.backend, "auto|cpu|ref|fence",
     "what computes; ref is slow and simple", 0, 0},
    {'n', "dry-run", OPT_FLAG, &cfg.dry_run, NULL,
     "print the resolved recipe and what it costs, and train nothing", 0, 0},
    {0, "help-recipe", OPT_FLAG, &cfg.help_recipe, NULL,
     "print every key of a recipe, its default and meaning", 0, 0},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-train",
    .usage = {
        .synopsis = "[options] -o RUN RECIPE [SRC ...]",
        .summary = "Train a text-to-image denoiser on encoded samples.",
        .examples = "  prx-train nano latents/index.json -o runs/first\n"
                    "  prx-shard photos -o - | prx-encode - -o -"
                    " | prx-train nano - -o runs/first --set train.steps=200\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_JOBS | TOOL_REPORT | TOOL_SAVES,
    .run = run,
};

static int print_help(void)
{
    struct prx_str text = {0};
    size_t n_rows;
    const struct prx_conf_row *keys = prx_recipe_rows(&n_rows);
    int rc = prx_conf_format_help(keys, n_rows, &text);

    if (rc == 0)
        fputs(text.bytes, stdout);
    prx_str_release(&text);
    return rc;
}

/* The study measured what this costs: its FID of 18.20 became 21.87. */
static void warn_of_bf16(void)
{
    prx_log_warning("precision.params: bf16 keeps weights and moments to 8 bits;"
                    " updates below 1/256 of a weight are lost"
                    " (in the study, FID 21.87 instead of 18.20)");
}

static int read_recipe(const char *word, struct prx_recipe *recipe)
{
    char *path = NULL;
    int rc = 0;

    PRX_GO(prx_recipe_init(recipe));
    PRX_GO(prx_recipe_find(word, &path));
    PRX_GO(prx_recipe_read(recipe, path));
    for (size_t i = 0; i < cfg.sets.n; i++) {
        rc = prx_recipe_set(recipe, cfg.sets.values[i]);
        if (rc == PRX_EINVAL)
            rc = TOOL_USAGE;
        if (rc < 0)
            goto out;
    }
    rc = prx_recipe_resolve(recipe);
    if (rc == 0 && recipe->precision.params == PRX_BF16)
        warn_of_bf16();
out:
    free(path);
    return rc;
}

/* --- the run ---------------------------------------------------------------------- */

static int check_words(const char **operands, size_t n_operands)
{
    if (n_operands == 0)
        return tool_usage("name a recipe");
    if (cfg.dry_run)
        return 0;
    if (!tool_common.output)
        return tool_usage("-o: name the run's folder");
    if (tool_common.resume && tool_common.overwrite)
        return tool_usage("--resume and --overwrite exclude each other");
    for (size_t i = 1; i < n_operands; i++)
        if (strcmp(operands[i], "-") == 0 && isatty(STDIN_FILENO))
            return tool_usage("-: a tar is not read from a terminal");
    return 0;
}

struct listing {
    struct tool_report report;
    struct prx_error error; /* of the report, which cannot stop the run */
};

static bool is_stopped(void *ctx)
{
    (void)ctx;
    return tool_signal() != 0;
}

static bool is_save_wanted(void *ctx)
{
    (void)ctx;
    return tool_save_wanted();
}

static void on_reject(void *ctx, const struct prx_sample *sample)
{
    struct listing *listing = ctx;

    if (tool_report_put_sample(&listing->report, sample) < 0)
        prx_err_save(&listing->error);
}

/* The run is done: the report files, the last line, the verdict. */
static int close_report(struct listing *listing, const struct prx_run_result *result)
{
    uint64_t n_read = result->n_samples + result->n_rejected;

    if (listing->error.code < 0)
        return prx_err_restore(&listing->error);
    /* JSON has no number for a loss that is not finite. */
    json_t *loss = isfinite(result->loss) ? json_real(result->loss) : json_null();
    json_t *stats = json_pack("{s:I, s:o, s:I, s:I}",
                              "steps", (json_int_t)result->n_steps,
                              "loss", loss,
                              "skipped_steps", (json_int_t)result->n_skipped,
                              "replaced_samples", (json_int_t)result->n_replaced);
    int rc = tool_report_commit(&listing->report, n_read, result->elapsed_s, stats);
    json_decref(stats);
    if (rc < 0)
        return rc;
    if (!tool_common.quiet)
        fprintf(stderr,
                "%s: steps=%" PRId64 " loss=%.4f samples=%" PRIu64 " rejected=%" PRIu64
                " replaced=%" PRId64 " skipped_steps=%" PRId64 " elapsed_s=%.1f\n",
                tool.name, result->n_steps, result->loss, result->n_samples,
                result->n_rejected, result->n_replaced, result->n_skipped,
                result->elapsed_s);
    return tool_report_judge(&listing->report, n_read);
}

static int train(const struct prx_recipe *recipe, const char **sources,
                 size_t n_sources, struct prx_dist *dist)
{
    struct listing listing = {0};
    struct prx_run_result result;
    const struct prx_run_opts opts = {
        .recipe = recipe,
        .sources = sources,
        .n_sources = n_sources,
        .may_run = true,
        .run_dir = tool_common.output,
        .spool_dir = cfg.spool,
        .resume = tool_common.resume,
        .overwrite = tool_common.overwrite,
        .backend = backend_names[cfg.backend],
        .n_threads = (int)tool_common.n_threads,
        .dist = dist,
        .progress = tool_common.quiet ? PRX_METER_NEVER
                                      : (enum prx_meter_when)tool_common.progress,
        .is_stopped = is_stopped,
        .is_save_wanted = is_save_wanted,
        .on_reject = on_reject,
        .ctx = &listing,
    };
    int rc = 0;

    PRX_GO(prx_dist_agree(dist, tool_report_open(&listing.report, &tool)));
    PRX_GO(prx_run(&opts, &result));
    if (prx_dist_is_first(dist))
        rc = close_report(&listing, &result);
out:
    tool_report_abort(&listing.report);
    return rc;
}

/* --- of several processes ------------------------------------------------------- */

/* Only the first one reports; another speaks when it alone has failed. */
static int meet(struct prx_dist *dist)
{
    int rc = prx_dist_open(dist);

    tool_common.is_silent = rc < 0 && !*prx_err_message();
    if (rc < 0 || dist->rank == 0)
        return rc;
    tool_common.quiet = true;
    tool_common.stats_path = NULL;
    tool_common.rejects_path = NULL;
    prx_log_init(tool.name, PRX_LOG_ERROR);
    return 0;
}

/* A signal that came to one of them has come to all. */
static int share_signal(struct prx_dist *dist)
{
    double number = tool_signal();

    PRX_TRY(prx_dist_max(dist, &number, 1));
    if (number > 0)
        tool_signal_set((int)number);
    return 0;
}

/*
 * Part from the others.  A failure that all know of is told by one, before they part:
 * the first status that is not 0 makes the launcher end the rest.  A failure that only
 * this process knows of ends the others, who may be waiting for it.
 */
static int leave(struct prx_dist *dist, int rc)
{
    bool is_common = rc >= 0 || dist->teller >= 0;
    int teller = dist->teller < 0 ? 0 : dist->teller;

    if (dist->world == 1)
        return rc;
    if (is_common) {
        int rc_share = share_signal(dist);
        is_common = rc_share == 0;
        rc = is_common ? rc : rc_share;
    }
    if (rc < 0 && dist->rank > 0)
        rc = prx_err_frame(rc, "rank %d", dist->rank);
    if ((rc < 0 || tool_signal() != 0) && (dist->rank == teller || !is_common))
        tool_tell(rc);
    tool_common.is_silent = true;
    if (!is_common)
        prx_dist_abort(dist);
    prx_dist_close(dist);
    return rc;
}

static int prepare(const char **operands, size_t n_operands, struct prx_recipe *recipe)
{
    PRX_TRY(check_words(operands, n_operands));
    PRX_TRY(read_recipe(operands[0], recipe));
    if (n_operands == 1 && recipe->data.sources.n == 0 && !cfg.dry_run)
        return tool_usage("name a source of encoded samples, or set data.sources");
    return 0;
}

static int run(const char **operands, size_t n_operands)
{
    struct prx_recipe recipe = {0};
    struct prx_dist dist = {.world = 1};
    int rc = 0;

    if (cfg.help_recipe)
        return print_help();
    if (!cfg.dry_run)
        PRX_TRY(meet(&dist));
    rc = prx_dist_agree(&dist, prepare(operands, n_operands, &recipe));
    if (rc == 0 && cfg.dry_run)
        rc = dry_run_print(&recipe);
    else if (rc == 0)
        rc = train(&recipe, operands + 1, n_operands - 1, &dist);
    rc = leave(&dist, rc);
    prx_recipe_release(&recipe);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
