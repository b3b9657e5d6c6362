/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole of training: batch, noise, forward, loss, backward, clip, step, average.
 *
 * The loss is a mean over samples, and gradients add up.  So a batch may be run in
 * slices, each weighing what its samples are of the whole; and by several processes,
 * whose sums are the whole's.
 */
#include <math.h>

#include "train/run/train_internal.h"

/* Samples @i to @i + @n - 1 of @batch; what is counted stays the whole batch's. */
static struct prx_loader_batch slice_of(const struct prx_loader_batch *batch, int64_t i,
                                        int64_t n)
{
    struct prx_loader_batch slice = *batch;

    slice.n_samples = n;
    slice.latent += i * batch->channels * batch->height * batch->width;
    slice.text += i * batch->n_tokens * batch->text_width;
    slice.mask += i * batch->n_tokens;
    slice.draws += i;
    return slice;
}

/* Add the gradients of @slice's loss times @weight, and so the loss to *@loss_sum. */
static int add_slice(struct prx_trainer *trainer, const struct prx_loader_batch *slice,
                     double weight, double *loss_sum)
{
    struct prx_tape *tape = trainer->tape;
    struct prx_batch noised = {0};
    float loss_value = 0;

    PRX_TRY(prx_tape_reset(tape));
    PRX_TRY(prx_batch_noise(trainer, slice, &noised));
    struct prx_var *loss =
        prx_flow_loss(tape, trainer->denoiser, trainer->recipe->objective.prediction,
                      &noised, NULL, NULL);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(prx_tape_backward(tape, loss, (float)weight));
    PRX_TRY(prx_tensor_get(trainer->be, &loss->value, &loss_value));
    *loss_sum += weight * (double)loss_value;
    return 0;
}

int prx_train_step(struct prx_trainer *trainer, const struct prx_loader_batch *batch,
                   int64_t k, struct prx_step_report *report)
{
    const struct prx_recipe *recipe = trainer->recipe;
    struct prx_param_store *params = prx_denoiser_params(trainer->denoiser);
    int64_t n_batch = batch->n_samples;
    int64_t n_all = trainer->dist ? recipe->train.batch : n_batch;
    int64_t n_slice = recipe->train.micro_batch ? recipe->train.micro_batch : n_batch;
    double loss = 0;
    double scale = 1;

    PRX_TRY(prx_param_store_zero_grad(params));
    for (int64_t i = 0; i < n_batch; i += n_slice) {
        int64_t n = n_slice < n_batch - i ? n_slice : n_batch - i;
        const struct prx_loader_batch slice = slice_of(batch, i, n);
        PRX_TRY(add_slice(trainer, &slice, (double)n / (double)n_all, &loss));
    }
    PRX_TRY(prx_dist_sum(trainer->dist, &loss, 1));
    PRX_TRY(prx_dist_sum_grads(trainer->dist, params));
    PRX_TRY(prx_grad_norm(params, &report->grad_norm));
    report->loss = loss;
    report->lr = prx_lr_at(&recipe->optim.schedule, k);
    report->is_skipped = !isfinite(report->loss) || !isfinite(report->grad_norm);
    if (report->is_skipped)
        return 0;

    if (recipe->optim.clip_norm > 0)
        scale = prx_clip_factor(report->grad_norm, recipe->optim.clip_norm);
    PRX_TRY(prx_optim_step(trainer->optim, report->lr, scale));
    return trainer->ema ? prx_ema_step(trainer->ema, k) : 0;
}
