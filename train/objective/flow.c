/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rectified flow: x_t lies between data and noise; the denoiser predicts the
 * velocity from one to the other.
 *
 *     x_t = (1 - t) x0 + t noise;  loss = mean (denoiser(x_t, t) - (noise - x0))^2
 */
#include "train/objective.h"

#include "train/denoiser.h"

struct prx_var *prx_flow_loss(struct prx_tape *tape, struct prx_denoiser *denoiser,
                              const struct prx_batch *batch,
                              struct prx_var **prediction,
                              struct prx_tensor *per_sample)
{
    struct prx_backend *be = prx_tape_backend(tape);
    struct prx_arena *arena = prx_tape_arena(tape);
    const struct prx_tensor *x0 = &batch->latent;
    struct prx_tensor xt = {0};
    struct prx_tensor v = {0};

    if (prx_tape_fails(tape,
                       prx_arena_tensor(arena, PRX_F32, x0->n_dims, x0->dims, &xt)) ||
        prx_tape_fails(tape,
                       prx_arena_tensor(arena, PRX_F32, x0->n_dims, x0->dims, &v)) ||
        prx_tape_fails(tape,
                       be->ops->flow_mix(be, &xt, &v, x0, &batch->noise, &batch->t)))
        return NULL;
    struct prx_var *p = prx_denoiser_forward(
        denoiser, tape, prx_tape_input(tape, &xt, false), &batch->t, &batch->text,
        batch->mask.data ? &batch->mask : NULL);
    if (prediction)
        *prediction = p;
    return prx_nn_mse(tape, p, &v, per_sample);
}
