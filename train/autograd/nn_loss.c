/* SPDX-License-Identifier: Apache-2.0 */
/* Layer: the mean squared error, one number of a tape. */
#include "train/autograd/autograd_internal.h"

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
