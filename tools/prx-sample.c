/* SPDX-License-Identifier: Apache-2.0 */
/* prx-sample - make pictures of prompts with a trained model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/sample_out.h"
#include "tools/tool.h"
#include "tools/tool_signal.h"

#define SIDE_PX_MAX 65536

static struct {
    struct opt_strings prompts;
    const char *prompts_path;
    const char *size;
    int64_t n_images;
    int64_t n_steps;
    double guidance;
    double shift;
    int64_t seed;
    int format;
    int64_t quality;
    const char *grid_path;
    int64_t grid_columns;
    const char *reference;
    int64_t n_batch;
    int backend;
} cfg = {
    .n_images = 1,
    .guidance = -1,
    .quality = 95,
    .n_batch = 8,
};

static const char *const backend_names[] = {"auto", "cpu", "ref", "fence"};
static const enum prx_image_format formats[] = {PRX_IMAGE_PNG, PRX_IMAGE_JPEG,
                                                PRX_IMAGE_WEBP};

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Prompts", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'p', "prompt", OPT_STRINGS, &cfg.prompts, "TEXT",
     "a prompt; may be given several times", 0, 0},
    {0, "prompts", OPT_STRING, &cfg.prompts_path, "FILE",
     "prompts, one a line: TEXT, KEY and a tab before TEXT, or JSON with prompt and"
     " key", 0, 0},

    {0, "Sampling", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'n', "images", OPT_INT, &cfg.n_images, "N",
     "pictures of each prompt", 1, 1e6},
    {0, "size", OPT_STRING, &cfg.size, "WxH",
     "size of the pictures in pixels, or N for a square; by default as trained", 0, 0},
    {0, "steps", OPT_INT, &cfg.n_steps, "N",
     "Euler steps; 0 takes the model's own number", 0, 10000},
    {0, "guidance", OPT_FLOAT, &cfg.guidance, "X",
     "scale of classifier-free guidance; 1 is none, -1 takes the model's own", -1, 100},
    {0, "shift", OPT_FLOAT, &cfg.shift, "X",
     "shift of the timesteps; 0 takes the model's own", 0, 100},
    {'s', "seed", OPT_INT, &cfg.seed, "N",
     "seed of the start noise", 0, 0x1p53},
    {0, "batch", OPT_INT, &cfg.n_batch, "N",
     "pictures made at once", 1, 4096},
    {0, "backend", OPT_CHOICE, &cfg.backend, "auto|cpu|ref|fence",
     "what computes; ref is slow and simple", 0, 0},

    {0, "Output", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {'o', "output", OPT_STRING, &tool_common.output, "DEST",
     "write pictures and prompts as samples: a folder, FILE.tar, or - for standard"
     " output", 0, 0},
    {0, "format", OPT_CHOICE, &cfg.format, "png|jpeg|webp",
     "format of the pictures", 0, 0},
    {'Q', "quality", OPT_INT, &cfg.quality, "N",
     "of JPEG and WebP", 1, 100},
    {0, "grid", OPT_STRING, &cfg.grid_path, "FILE",
     "draw all pictures on one sheet with their prompts; FILE ends in .png, .jpg or"
     " .webp", 0, 0},
    {0, "grid-columns", OPT_INT, &cfg.grid_columns, "N",
     "prompts in a row of the sheet; 0 takes what 1280 pixels hold", 0, 1000},
    {0, "reference", OPT_STRING, &cfg.reference, "SRC",
     "put the picture of each prompt's KEY in SRC beside it on the sheet", 0, 0},
    {0, "overwrite", OPT_FLAG, &tool_common.overwrite, NULL,
     "replace an existing DEST or FILE", 0, 0},
    {0, "progress", OPT_CHOICE, &tool_common.progress, "auto|always|never",
     "the meter on standard error", 0, 0},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-sample",
    .usage = {
        .synopsis = "[options] CKPT",
        .summary = "Make pictures of prompts with a trained model.",
        .examples = "  prx-sample runs/first -p 'a red cup on a table' -n 4 -o cups\n"
                    "  prx-sample runs/first --prompts list.txt --grid sheet.png\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_JOBS,
    .run = run,
};

/* One run: what it is made with, and how far it is. */
struct sampling {
    struct prx_generator gen;
    struct prx_generate_opts opts;
    struct prompts prompts;
    struct sample_out out;
    struct prx_meter meter;
    uint64_t n_steps_done;
};

/* --- what is asked for -------------------------------------------------------- */

static int parse_size(const char *text, int64_t *width_px, int64_t *height_px)
{
    char *end;

    *width_px = *height_px = strtol(text, &end, 10);
    if (end != text && *end == 'x' && end[1] >= '0' && end[1] <= '9')
        *height_px = strtol(end + 1, &end, 10);
    if (end == text || *end || *width_px <= 0 || *height_px <= 0 ||
        *width_px > SIDE_PX_MAX || *height_px > SIDE_PX_MAX)
        return tool_usage("--size: '%s' is not WxH", text);
    return 0;
}

static int check_words(size_t n_operands)
{
    int64_t width_px, height_px;

    if (n_operands != 1)
        return tool_usage("name one checkpoint");
    if (cfg.prompts.n == 0 && !cfg.prompts_path)
        return tool_usage("no prompts: give -p or --prompts");
    return cfg.size ? parse_size(cfg.size, &width_px, &height_px) : 0;
}

static int read_prompts(struct prompts *prompts)
{
    for (size_t i = 0; i < cfg.prompts.n; i++)
        PRX_TRY(prompts_add(prompts, NULL, cfg.prompts.values[i]));
    if (cfg.prompts_path)
        PRX_TRY(prompts_read(prompts, cfg.prompts_path));
    if (prompts->n == 0)
        return prx_err(PRX_EINVAL, "%s: no prompts in it", cfg.prompts_path);
    return 0;
}

static int choose_opts(struct sampling *sampling)
{
    struct prx_generate_opts *opts = &sampling->opts;

    prx_generate_presets(&sampling->gen, opts);
    if (cfg.n_steps > 0)
        opts->sampler.n_steps = cfg.n_steps;
    if (cfg.guidance >= 0)
        opts->sampler.guidance_scale = cfg.guidance;
    if (cfg.shift > 0)
        opts->sampler.shift = cfg.shift;
    opts->seed = (uint64_t)cfg.seed;
    return cfg.size ? parse_size(cfg.size, &opts->width_px, &opts->height_px) : 0;
}

/* --- the run ------------------------------------------------------------------ */

static int on_step(void *ctx, int64_t i_step)
{
    struct sampling *sampling = ctx;

    (void)i_step;
    prx_meter_tick(&sampling->meter, ++sampling->n_steps_done, 0, NULL);
    return tool_signal() != 0;
}

static int on_picture(void *ctx, const struct prx_generate_job *job,
                      struct prx_image *image)
{
    struct sampling *sampling = ctx;
    return sample_out_put(&sampling->out, job, image);
}

static int make_pictures(struct sampling *sampling)
{
    const struct prompts *prompts = &sampling->prompts;
    const size_t n_pictures = prompts->n * (size_t)cfg.n_images;
    const size_t n_batch = (size_t)cfg.n_batch;
    const char **texts = calloc(prompts->n, sizeof(*texts));

    if (!texts)
        return prx_err_nomem("prompts");
    for (size_t i = 0; i < prompts->n; i++)
        texts[i] = prompts->list[i].text;
    prx_meter_init(&sampling->meter,
                   tool_common.quiet ? PRX_METER_NEVER
                                     : (enum prx_meter_when)tool_common.progress,
                   "sample", "steps",
                   (n_pictures + n_batch - 1) / n_batch *
                       (uint64_t)sampling->opts.sampler.n_steps);
    int rc = prx_generate_all(&sampling->gen, &sampling->opts, texts, prompts->n,
                              (uint32_t)cfg.n_images, n_batch, on_picture, sampling);
    prx_meter_finish(&sampling->meter);
    free(texts);
    return rc;
}

static int sample(struct sampling *sampling)
{
    PRX_TRY(choose_opts(sampling));
    PRX_TRY(prx_generate_check(&sampling->gen, &sampling->opts));
    sampling->opts.on_step = on_step;
    sampling->opts.ctx = sampling;
    if (cfg.reference)
        PRX_TRY(prompts_find_references(&sampling->prompts, cfg.reference,
                                        (int)sampling->opts.width_px,
                                        (int)sampling->opts.height_px));
    PRX_TRY(sample_out_open(&sampling->out));
    PRX_TRY(make_pictures(sampling));
    PRX_TRY(sample_out_finish(&sampling->out));
    if (!tool_common.quiet)
        fprintf(stderr, "%s: pictures=%zu prompts=%zu elapsed_s=%.1f\n", tool.name,
                sampling->prompts.n * (size_t)cfg.n_images, sampling->prompts.n,
                prx_meter_elapsed_s(&sampling->meter));
    return 0;
}

static int run(const char **operands, size_t n_operands)
{
    struct sampling sampling = {
        .out = {
            .tool_name = tool.name,
            .dest = tool_common.output,
            .grid_path = cfg.grid_path,
            .overwrite = tool_common.overwrite,
            .format = formats[cfg.format],
            .quality = (int)cfg.quality,
            .has_references = cfg.reference != NULL,
            .n_grid_columns = (size_t)cfg.grid_columns,
            .prompts = &sampling.prompts,
            .n_images = (uint32_t)cfg.n_images,
            .gen = &sampling.gen,
            .opts = &sampling.opts,
        },
    };
    struct prx_backend *be = NULL;
    int rc = 0;

    PRX_GO(check_words(n_operands));
    PRX_GO(sample_out_check(&sampling.out));
    PRX_GO(read_prompts(&sampling.prompts));
    PRX_GO(prx_backend_open(backend_names[cfg.backend], (int)tool_common.n_threads,
                            &be));
    PRX_GO(prx_generator_open(&sampling.gen, operands[0], be));
    rc = sample(&sampling);
out:
    sample_out_release(&sampling.out);
    prx_generator_release(&sampling.gen);
    prx_backend_close(be);
    prompts_release(&sampling.prompts);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
