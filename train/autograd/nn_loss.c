/* SPDX-License-Identifier: Apache-2.0 */
/* Layers towards a loss: the velocity of a predicted x0, the mean squared error. */
#include "train/autograd/autograd_internal.h"

struct x0_velocity_note {
    struct prx_note note;
    struct prx_var *x0;
    struct prx_tensor t;
    float t_min;
};

static int x0_velocity_bwd(struct prx_tape *tape, const void *note)
{
    const struct x0_velocity_note *n = note;
    struct prx_grad dx0;

    PRX_TRY(prx_grad_open(tape, n->x0, &dx0));
    PRX_TRY(tape->be->ops->x0_velocity_bwd(tape->be, dx0.to, dx0.add,
                                           &n->note.out->grad, &n->t, n->t_min));
    return prx_grad_close(tape, &dx0);
}

struct prx_var *prx_nn_x0_velocity(struct prx_tape *tape, struct prx_var *x0,
                                   const struct prx_tensor *xt,
                                   const struct prx_tensor *t, float t_min)
{
    if (!x0)
        return NULL;
    struct prx_var *v = prx_tape_value_like(tape, x0, x0->needs_grad);
    if (!v || prx_tape_fails(tape, tape->be->ops->x0_velocity_fwd(
                                       tape->be, &v->value, xt, &x0->value, t, t_min)))
        return NULL;
    struct x0_velocity_note *note =
        prx_tape_note(tape, sizeof(*note), x0_velocity_bwd, v);
    if (note) {
        note->x0 = x0;
        note->t = *t;
        note->t_min = t_min;
    }
    return v;
}

struct mse_note {
    struct prx_note note;
    struct prx_var *p;
    struct prx_tensor target;
};

static int mse_bwd(struct prx_tape *tape, const void *note)
{
    const struct mse_note *n = note;
    struct prx_grad dp;

    PRX_TRY(prx_grad_open(tape, n->p, &dp));
    PRX_TRY(tape->be->ops->mse_bwd(tape->be, dp.to, dp.add, &n->p->value, &n->target,
                                   n->note.out->loss_weight));
    return prx_grad_close(tape, &dp);
}

struct prx_var *prx_nn_mse(struct prx_tape *tape, struct prx_var *p,
                           const struct prx_tensor *target,
                           struct prx_tensor *per_sample)
{
    if (!p)
        return NULL;
    struct prx_var *loss = prx_tape_value(tape, 1, (int64_t[]){1}, p->needs_grad);
    if (!loss ||
        prx_tape_fails(tape, tape->be->ops->mse_fwd(tape->be, &loss->value, per_sample,
                                                    &p->value, target)))
        return NULL;
    struct mse_note *note = prx_tape_note(tape, sizeof(*note), mse_bwd, loss);
    if (note) {
        note->p = p;
        note->target = *target;
    }
    return loss;
}
