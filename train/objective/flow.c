/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rectified flow: x_t lies between data and noise; the denoiser predicts the
 * velocity from one to the other, or the data, which says the same.
 */
#include "train/objective.h"

#include <string.h>

#include "train/denoiser.h"

static const char *const names[] = {
    [PRX_PREDICT_VELOCITY] = "flow_matching",
    [PRX_PREDICT_X0] = "x_prediction_flow_matching",
};

const char *prx_prediction_name(enum prx_prediction kind)
{
    return names[kind];
}

int prx_prediction_find(const char *name, enum prx_prediction *out)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum prx_prediction)i;
            return 0;
        }
    }
    return prx_err(PRX_EINVAL, "no prediction type \"%.40s\"", name);
}

struct prx_var *prx_flow_loss(struct prx_tape *tape, struct prx_denoiser *denoiser,
                              enum prx_prediction kind, const struct prx_batch *batch,
                              struct prx_flow_terms *terms,
                              struct prx_tensor *per_sample)
{
    struct prx_backend *be = prx_tape_backend(tape);
    struct prx_arena *arena = prx_tape_arena(tape);
    const struct prx_tensor *x0 = &batch->latent;
    struct prx_flow_terms own;

    terms = terms ? terms : &own;
    *terms = (struct prx_flow_terms){0};
    struct prx_tensor *xt = &terms->noised;
    if (prx_tape_fails(tape,
                       prx_arena_tensor(arena, PRX_F32, x0->n_dims, x0->dims, xt)) ||
        prx_tape_fails(tape, prx_arena_tensor(arena, PRX_F32, x0->n_dims, x0->dims,
                                              &terms->target)) ||
        prx_tape_fails(tape, be->ops->flow_mix(be, xt, &terms->target, x0,
                                               &batch->noise, &batch->t)))
        return NULL;
    terms->output = prx_denoiser_forward(
        denoiser, tape, prx_tape_input(tape, xt, false), &batch->t, &batch->text,
        batch->mask.data ? &batch->mask : NULL, &batch->visible);
    terms->prediction = terms->output;
    if (kind == PRX_PREDICT_X0) {
        terms->prediction =
            prx_nn_x0_velocity(tape, terms->output, xt, &batch->t, PRX_X0_T_MIN);
        if (prx_tape_fails(tape, be->ops->x0_velocity_fwd(be, &terms->target, xt, x0,
                                                          &batch->t, PRX_X0_T_MIN)))
            return NULL;
    }
    return prx_nn_mse(tape, terms->prediction, &terms->target, per_sample);
}
