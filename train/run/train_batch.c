/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loaded batch becomes a noised one on the device, and a route is drawn for it.
 *
 * Every sample draws from its own streams, so the same sample of the same epoch
 * gets the same noise and timestep in any batch.
 */
#include <stdlib.h>

#include "train/route.h"
#include "train/run/train_internal.h"

/* A tensor in the tape's memory with the elements at @host. */
static int put_tensor(struct prx_trainer *trainer, enum prx_dtype dtype, int n_dims,
                      const int64_t *dims, const void *host, struct prx_tensor *out)
{
    struct prx_arena *arena = prx_tape_arena(trainer->tape);

    PRX_TRY(prx_arena_tensor(arena, dtype, n_dims, dims, out));
    return prx_tensor_set(trainer->be, out, host);
}

static void draw_noise(uint64_t seed, const struct prx_loader_batch *batch, size_t n,
                       float *noise)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < batch->n_samples; i++) {
        struct prx_rng rng;
        prx_rng_init(&rng, seed, PRX_RNG_NOISE, batch->draws[i].epoch,
                     batch->draws[i].id);
        prx_rng_normal(&rng, noise + (size_t)i * n, n);
    }
}

static void draw_timesteps(uint64_t seed, const struct prx_timestep_config *config,
                           const struct prx_loader_batch *batch, float *t)
{
    for (int64_t i = 0; i < batch->n_samples; i++) {
        struct prx_rng rng;
        prx_rng_init(&rng, seed, PRX_RNG_TIMESTEP, batch->draws[i].epoch,
                     batch->draws[i].id);
        t[i] = prx_timestep_draw(config, &rng);
    }
}

/* The tokens that the route's blocks see, [B, NV]; nothing where there is no route. */
static int put_visible(struct prx_trainer *trainer,
                       const struct prx_loader_batch *batch, struct prx_tensor *out)
{
    const struct prx_recipe *recipe = trainer->recipe;
    int64_t patch = recipe->model.config.patch_size;
    int64_t n_tokens = batch->height / patch * (batch->width / patch);
    int64_t n_visible = prx_route_n_visible(n_tokens, recipe->route.share);
    const int64_t dims[] = {batch->n_samples, n_visible};
    void *memory = NULL;

    if (recipe->model.config.route.kind == PRX_ROUTE_NONE)
        return 0;
    if (trainer->be->is_plan)
        return put_tensor(trainer, PRX_I32, 2, dims, batch->mask, out); /* not read */
    PRX_TRY(prx_arena_host(prx_tape_arena(trainer->tape),
                           (size_t)(dims[0] * dims[1]) * sizeof(int32_t), &memory));
    int32_t *visible = memory;
    for (int64_t i = 0; i < batch->n_samples; i++) {
        struct prx_rng rng;
        prx_rng_init(&rng, (uint64_t)recipe->train.seed, PRX_RNG_ROUTE,
                     batch->draws[i].epoch, batch->draws[i].id);
        PRX_TRY(prx_route_draw(&rng, n_tokens, recipe->route.share,
                               visible + i * n_visible));
    }
    return put_tensor(trainer, PRX_I32, 2, dims, visible, out);
}

/* Both draws of all samples, behind one another, in the step's host memory. */
static int draw(struct prx_trainer *trainer, const struct prx_loader_batch *batch,
                size_t n, const float **noise, const float **t)
{
    uint64_t seed = (uint64_t)trainer->recipe->train.seed;
    size_t n_batch = (size_t)batch->n_samples;
    void *memory = NULL;

    PRX_TRY(prx_arena_host(prx_tape_arena(trainer->tape),
                           (n + 1) * n_batch * sizeof(float), &memory));
    float *values = memory;
    draw_noise(seed, batch, n, values);
    draw_timesteps(seed, &trainer->recipe->objective.timestep, batch,
                   values + n * n_batch);
    *noise = values;
    *t = values + n * n_batch;
    return 0;
}

int prx_batch_noise(struct prx_trainer *trainer, const struct prx_loader_batch *batch,
                    struct prx_batch *out)
{
    const int64_t latent_dims[] = {batch->n_samples, batch->channels, batch->height,
                                   batch->width};
    const int64_t text_dims[] = {batch->n_samples, batch->n_tokens, batch->text_width};
    size_t n = (size_t)(batch->channels * batch->height * batch->width);
    const float *noise = batch->latent, *t = batch->latent; /* of a plan: not read */

    if (!trainer->be->is_plan)
        PRX_TRY(draw(trainer, batch, n, &noise, &t));
    PRX_TRY(put_tensor(trainer, PRX_F32, 4, latent_dims, batch->latent, &out->latent));
    PRX_TRY(put_tensor(trainer, PRX_F32, 4, latent_dims, noise, &out->noise));
    PRX_TRY(put_tensor(trainer, PRX_F32, 1, latent_dims, t, &out->t));
    PRX_TRY(put_tensor(trainer, PRX_F32, 3, text_dims, batch->text, &out->text));
    PRX_TRY(put_tensor(trainer, PRX_I32, 2, text_dims, batch->mask, &out->mask));
    return put_visible(trainer, batch, &out->visible);
}

int prx_trainer_init(struct prx_trainer *trainer, const struct prx_recipe *recipe,
                     struct prx_backend *be)
{
    int rc = 0;

    *trainer = (struct prx_trainer){.recipe = recipe, .be = be};
    PRX_GO(prx_denoiser_new(be, &recipe->model.config, true, &trainer->denoiser));
    if (!be->is_plan)
        PRX_GO(prx_denoiser_init(trainer->denoiser, (uint64_t)recipe->train.seed));
    struct prx_param_store *params = prx_denoiser_params(trainer->denoiser);
    PRX_GO(prx_param_store_cast(params, (enum prx_dtype)recipe->precision.params));
    PRX_GO(prx_optim_new(params, &recipe->optim.config, &trainer->optim));
    if (recipe->optim.ema_smoothing > 0)
        PRX_GO(prx_ema_new(params, recipe->optim.ema_smoothing,
                           recipe->optim.ema_interval_steps,
                           recipe->optim.ema_start_step, &trainer->ema));
    PRX_GO(prx_tape_new(be, &trainer->tape));
    prx_tape_train(trainer->tape, true);
    prx_tape_recompute(trainer->tape, recipe->train.recompute == PRX_RECOMPUTE_BLOCKS);
out:
    if (rc < 0)
        prx_trainer_release(trainer);
    return rc;
}

void prx_trainer_release(struct prx_trainer *trainer)
{
    prx_tape_free(trainer->tape);
    prx_ema_free(trainer->ema);
    prx_optim_free(trainer->optim);
    prx_denoiser_free(trainer->denoiser);
    *trainer = (struct prx_trainer){0};
}
