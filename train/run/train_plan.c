/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step takes, by taking it where nothing is computed.
 *
 * The first step grows the tape's memory piece by piece; the second has it in one
 * piece, as all later ones.  So memory is read off the second.
 */
#include <sys/mman.h>

#include "train/run/train_internal.h"
#include "train/sampler.h"

/* Of one sample of @batch. */
static size_t latent_bytes(const struct prx_loader_batch *batch)
{
    return (size_t)(batch->channels * batch->height * batch->width) * sizeof(float);
}

static size_t text_bytes(const struct prx_loader_batch *batch)
{
    return (size_t)(batch->n_tokens * batch->text_width) * sizeof(float);
}

static size_t mask_bytes(const struct prx_loader_batch *batch)
{
    return (size_t)batch->n_tokens * sizeof(int32_t);
}

/* The shape of a batch; no side where the recipe does not tell its size. */
static struct prx_loader_batch shape_batch(const struct prx_recipe *recipe,
                                           int64_t pixels_per_cell,
                                           int64_t n_text_tokens)
{
    const struct prx_denoiser_config *config = &recipe->model.config;
    int64_t patch = config->patch_size;
    int64_t n_side = recipe->sample.size_px / (pixels_per_cell * patch) * patch;

    return (struct prx_loader_batch){
        .n_samples = recipe->train.batch,
        .channels = config->in_channels,
        .height = n_side,
        .width = n_side,
        .n_tokens = n_text_tokens,
        .text_width = config->context_in_dim,
    };
}

/*
 * One place for all arrays of @batch: addresses that nobody reads, and that have no
 * memory, so that a batch may be larger than the machine.
 */
static int reserve_batch(struct prx_loader_batch *batch, void **place, size_t *n_bytes)
{
    const size_t sizes[] = {latent_bytes(batch), text_bytes(batch), mask_bytes(batch),
                            sizeof(*batch->draws)};

    *n_bytes = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        *n_bytes = sizes[i] > *n_bytes ? sizes[i] : *n_bytes;
    *n_bytes *= (size_t)batch->n_samples;
    *place = mmap(NULL, *n_bytes, PROT_NONE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*place == MAP_FAILED) {
        *place = NULL;
        return prx_err(PRX_ENOMEM, "no addresses for a batch of %zu bytes", *n_bytes);
    }
    batch->latent = batch->text = *place;
    batch->mask = *place;
    batch->draws = *place;
    return 0;
}

/* Two steps on @batch; *@more_bytes: what the second took and gave back. */
static int take_steps(struct prx_trainer *trainer, const struct prx_loader_batch *batch,
                      uint64_t *more_bytes)
{
    struct prx_step_report report;

    PRX_TRY(prx_train_step(trainer, batch, 1, &report));
    PRX_TRY(prx_tape_reset(trainer->tape));
    prx_plan_reset_peak(trainer->be);
    PRX_TRY(prx_train_step(trainer, batch, 2, &report));
    struct prx_plan_usage usage = prx_plan_usage(trainer->be);
    *more_bytes = usage.peak_bytes - usage.live_bytes;
    return 0;
}

/* Sampling of as many pictures as prx_train_grid_step() makes at once. */
static int sample(struct prx_trainer *trainer, const struct prx_loader_batch *batch)
{
    const struct prx_recipe *recipe = trainer->recipe;
    const struct prx_sampler_opts opts = {
        .n_steps = 1,
        .guidance_scale = recipe->sample.guidance,
        .shift = recipe->objective.timestep.shift,
    };
    int64_t n = prx_train_grid_batch(recipe);
    const int64_t x_dims[] = {n, batch->channels, batch->height, batch->width};
    const int64_t text_dims[] = {n, batch->n_tokens, batch->text_width};
    struct prx_backend *be = trainer->be;
    struct prx_tensor x = {0}, text = {0}, mask = {0}, uncond = {0};
    int rc = 0;

    PRX_GO(prx_tensor_alloc(be, PRX_F32, 4, x_dims, &x));
    PRX_GO(prx_tensor_alloc(be, PRX_F32, 3, text_dims, &text));
    PRX_GO(prx_tensor_alloc(be, PRX_I32, 2, text_dims, &mask));
    PRX_GO(prx_tensor_alloc(be, PRX_F32, 3, text_dims, &uncond));
    rc = prx_sample_euler(trainer->denoiser, &opts, &x,
                          &(struct prx_conditions){.text = &text, .mask = &mask},
                          &(struct prx_conditions){.text = &uncond}, NULL, NULL);
out:
    prx_tensor_free(be, &x);
    prx_tensor_free(be, &text);
    prx_tensor_free(be, &mask);
    prx_tensor_free(be, &uncond);
    return rc;
}

static int plan_pictures(struct prx_trainer *trainer,
                         const struct prx_loader_batch *batch, uint64_t *n_bytes)
{
    if (trainer->recipe->sample.every == 0)
        return 0;
    prx_plan_reset_peak(trainer->be);
    PRX_TRY(sample(trainer, batch));
    struct prx_plan_usage usage = prx_plan_usage(trainer->be);
    *n_bytes = usage.peak_bytes - usage.live_bytes;
    return 0;
}

/* Bytes that outlive a step, by what they are for. */
static void count_state(const struct prx_trainer *trainer, struct prx_train_plan *plan)
{
    const struct prx_param_store *store = prx_denoiser_params(trainer->denoiser);

    for (size_t i = 0; i < store->n_params; i++) {
        plan->param_bytes += prx_tensor_bytes(&store->params[i]->value);
        plan->grad_bytes += prx_tensor_bytes(&store->params[i]->grad);
        if (trainer->ema)
            plan->ema_bytes += prx_tensor_bytes(&trainer->ema->averages[i]);
    }
    /* Optimisers differ in what they keep: it is all the rest. */
    plan->optim_bytes += prx_plan_usage(trainer->be).live_bytes - plan->param_bytes -
                         plan->grad_bytes - plan->ema_bytes;
}

static int plan_steps(const struct prx_recipe *recipe, struct prx_backend *be,
                      const struct prx_loader_batch *batch, struct prx_train_plan *plan)
{
    struct prx_trainer trainer;
    int rc = 0;

    PRX_TRY(prx_trainer_init(&trainer, recipe, be));
    if (batch->height > 0) {
        PRX_GO(take_steps(&trainer, batch, &plan->optim_bytes));
        PRX_GO(plan_pictures(&trainer, batch, &plan->picture_bytes));
        plan->activation_bytes = prx_tape_peak_bytes(trainer.tape);
        /* The one in use, and those read ahead. */
        uint64_t n_bytes = latent_bytes(batch) + text_bytes(batch) + mask_bytes(batch);
        n_bytes *= (uint64_t)batch->n_samples;
        plan->batch_bytes =
            prx_loader_slots((uint64_t)recipe->data.prefetch_bytes, n_bytes) * n_bytes;
    }
    prx_tape_free(trainer.tape);
    trainer.tape = NULL;
    count_state(&trainer, plan);
    plan->total_bytes = plan->param_bytes + plan->grad_bytes + plan->optim_bytes +
                        plan->ema_bytes + plan->activation_bytes + plan->picture_bytes +
                        plan->batch_bytes;
out:
    prx_trainer_release(&trainer);
    return rc;
}

int prx_train_plan(const struct prx_recipe *recipe, int64_t pixels_per_cell,
                   int64_t n_text_tokens, struct prx_train_plan *out)
{
    struct prx_loader_batch batch = shape_batch(recipe, pixels_per_cell, n_text_tokens);
    struct prx_train_plan plan = {0};
    struct prx_backend *be = NULL;
    void *place = NULL;
    size_t n_place_bytes = 0;
    int rc = 0;

    PRX_GO(prx_backend_open("plan", 1, &be));
    PRX_GO(reserve_batch(&batch, &place, &n_place_bytes));
    PRX_GO(plan_steps(recipe, be, &batch, &plan));
    *out = plan;
out:
    if (place)
        munmap(place, n_place_bytes);
    prx_backend_close(be);
    return rc;
}
