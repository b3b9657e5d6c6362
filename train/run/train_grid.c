/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grids of pictures, drawn by the network while it trains.
 *
 * Drawing leaves training as it was, bit for bit: start noise has a stream of its
 * own (sample.seed, PRX_RNG_SAMPLER), values live on the sampler's tape, and where
 * averages take the place of the weights they are exchanged back, come what may.
 * A network that draws nonsense is no reason to end a run that may yet learn.
 */
#include <unistd.h>

#include "libdata/log.h"
#include "libdata/outfile.h"
#include "train/run/train_internal.h"
#include "train/sheet.h"

static int on_step(void *ctx, int64_t i_step)
{
    const struct prx_train_grid *grid = ctx;
    const struct prx_run_opts *opts = grid->run;

    (void)i_step;
    return opts->is_stopped && opts->is_stopped(opts->ctx);
}

static int on_picture(void *ctx, const struct prx_generate_job *job,
                      struct prx_image *image)
{
    prx_sheet_put(ctx, job, image);
    return 0;
}

int prx_train_grid_init(struct prx_train_grid *grid, const struct prx_run_opts *opts,
                        const struct prx_train_data *data, struct prx_trainer *trainer,
                        const struct prx_model_info *info)
{
    const struct prx_recipe *recipe = opts->recipe;

    *grid = (struct prx_train_grid){.run = opts, .trainer = trainer};
    if (recipe->sample.every == 0)
        return 0;
    PRX_TRY(prx_generator_borrow(&grid->gen, trainer->denoiser, info, data->vae,
                                 data->tower));
    prx_generate_presets(&grid->gen, &grid->opts);
    grid->opts.seed = (uint64_t)recipe->sample.seed;
    grid->opts.on_step = on_step;
    grid->opts.ctx = grid;
    if (!data->vae->decode) {
        prx_log_warning("VAE %s: this build cannot decode its latents; no pictures are"
                        " drawn",
                        data->vae->name);
        return 0;
    }
    int rc = prx_generate_check(&grid->gen, &grid->opts);
    if (rc < 0)
        return prx_err_frame(rc, "sample.size_px");
    grid->is_open = true;
    return 0;
}

int64_t prx_train_grid_batch(const struct prx_recipe *recipe)
{
    int64_t n = (int64_t)recipe->sample.prompts.n * recipe->sample.per_prompt;

    if (n > recipe->train.batch)
        n = recipe->train.batch;
    if (recipe->train.micro_batch && n > recipe->train.micro_batch)
        n = recipe->train.micro_batch;
    return n;
}

/* Make the pictures of @sheet with the averages, where those are what counts. */
static int make_pictures(struct prx_train_grid *grid, struct prx_sheet *sheet)
{
    size_t n_batch = (size_t)prx_train_grid_batch(grid->run->recipe);
    struct prx_ema *ema = grid->trainer->ema;
    bool is_averaged = ema && ema->active;

    if (is_averaged)
        prx_ema_swap(ema);
    int rc = prx_generate_all(&grid->gen, &grid->opts, sheet->labels, sheet->n_prompts,
                              sheet->n_images, n_batch, on_picture, sheet);
    if (is_averaged)
        prx_ema_swap(ema);
    return rc;
}

static int format_path(const struct prx_train_grid *grid, int64_t step,
                       struct prx_str *out)
{
    return prx_str_printf(out, "%s/samples/step-%07lld.png", grid->run->run_dir,
                          (long long)step);
}

static int write_sheet(const struct prx_train_grid *grid, const struct prx_sheet *sheet,
                       int64_t step, struct prx_tensorboard *board)
{
    struct prx_image image = {0};
    struct prx_buf *png = NULL;
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_sheet_draw(sheet, &image));
    PRX_GO(prx_image_encode(&image, PRX_IMAGE_PNG, 0, &png));
    PRX_GO(format_path(grid, step, &path));
    PRX_GO(prx_file_put(path.bytes, png->bytes, png->n_bytes));
    prx_log_info("drew %s", path.bytes);
    rc = prx_tensorboard_image(board, "samples", step, png->bytes, png->n_bytes,
                               image.width_px, image.height_px);
out:
    prx_str_release(&path);
    prx_buf_unref(png);
    prx_image_release(&image);
    return rc;
}

static int draw(struct prx_train_grid *grid, int64_t step,
                struct prx_tensorboard *board)
{
    const struct prx_recipe *recipe = grid->run->recipe;
    const struct prx_conf_strings *prompts = &recipe->sample.prompts;
    struct prx_sheet sheet = {
        .labels = (const char *const *)prompts->values,
        .n_prompts = prompts->n,
        .n_images = (uint32_t)recipe->sample.per_prompt,
    };
    int rc = 0;

    PRX_GO(prx_sheet_init(&sheet));
    PRX_GO(make_pictures(grid, &sheet));
    rc = write_sheet(grid, &sheet, step, board);
out:
    prx_sheet_release(&sheet);
    if (rc == PRX_ENONFINITE) {
        prx_log_warning("step %lld: no pictures: %s", (long long)step,
                        prx_err_message());
        return 0;
    }
    return rc == PRX_ECANCELED ? 0 : rc;
}

static bool is_due(const struct prx_train_grid *grid, int64_t step)
{
    if (!grid->is_open || step == 0)
        return false;
    const struct prx_recipe *recipe = grid->run->recipe;
    return step % recipe->sample.every == 0 || step == recipe->train.steps;
}

int prx_train_grid_step(struct prx_train_grid *grid, int64_t step,
                        struct prx_tensorboard *board)
{
    return is_due(grid, step) ? draw(grid, step, board) : 0;
}

int prx_train_grid_resume(struct prx_train_grid *grid, int64_t step,
                          struct prx_tensorboard *board)
{
    struct prx_str path = {0};
    int rc = 0;

    if (!is_due(grid, step))
        return 0;
    PRX_GO(format_path(grid, step, &path));
    if (access(path.bytes, F_OK) != 0)
        rc = draw(grid, step, board);
out:
    prx_str_release(&path);
    return rc;
}

void prx_train_grid_release(struct prx_train_grid *grid)
{
    prx_generator_release(&grid->gen);
    *grid = (struct prx_train_grid){0};
}
