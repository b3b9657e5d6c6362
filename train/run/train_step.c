/* SPDX-License-Identifier: Apache-2.0 */
/* The whole of training: batch, noise, forward, loss, backward, clip, step, average. */
#include <math.h>

#include "train/run/train_internal.h"

int prx_train_step(struct prx_trainer *trainer, const struct prx_loader_batch *batch,
                   int64_t k, struct prx_step_report *report)
{
    const struct prx_recipe *recipe = trainer->recipe;
    struct prx_param_store *params = prx_denoiser_params(trainer->denoiser);
    struct prx_tape *tape = trainer->tape;
    struct prx_batch noised = {0};
    float loss_value = 0;
    double scale = 1;

    PRX_TRY(prx_tape_reset(tape));
    PRX_TRY(prx_param_store_zero_grad(params));
    PRX_TRY(prx_batch_noise(trainer, batch, &noised));

    struct prx_var *loss = prx_flow_loss(tape, trainer->denoiser, &noised, NULL, NULL);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(prx_tape_backward(tape, loss, 1.0f));

    PRX_TRY(prx_tensor_get(trainer->be, &loss->value, &loss_value));
    PRX_TRY(prx_grad_norm(params, &report->grad_norm));
    report->loss = (double)loss_value;
    report->lr = prx_lr_at(&recipe->optim.schedule, k);
    report->is_skipped = !isfinite(report->loss) || !isfinite(report->grad_norm);
    if (report->is_skipped)
        return 0;

    if (recipe->optim.clip_norm > 0)
        scale = prx_clip_factor(report->grad_norm, recipe->optim.clip_norm);
    PRX_TRY(prx_adamw_step(trainer->optim, report->lr, scale));
    return trainer->ema ? prx_ema_step(trainer->ema, k) : 0;
}
