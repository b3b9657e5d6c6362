/* SPDX-License-Identifier: Apache-2.0 */
/* Layer: y = x W^T + b. */
#include "train/autograd/autograd_internal.h"

struct linear_note {
    struct prx_note note;
    struct prx_var *x;
    struct prx_param *w;
    struct prx_param *b;
};

static struct prx_tensor *grad_of(struct prx_param *param)
{
    return param && param->grad.data ? &param->grad : NULL;
}

static int linear_bwd(struct prx_tape *tape, const void *note)
{
    const struct linear_note *n = note;
    struct prx_grad dx = {0};

    PRX_TRY(prx_tape_remake(tape, n->x));
    /* The one op that saves a product where dx is not wanted. */
    if (n->x->needs_grad)
        PRX_TRY(prx_grad_open(tape, n->x, &dx));
    struct prx_weight w;
    PRX_TRY(prx_weight_open(tape, n->w, &w));
    PRX_TRY(tape->be->ops->linear_bwd(tape->be, dx.to, dx.add, grad_of(n->w),
                                      grad_of(n->b), &n->note.out->grad, &n->x->value,
                                      &w.value));
    return prx_weight_close(tape, &w);
}

static int linear_fwd(struct prx_tape *tape, struct prx_tensor *y,
                      const struct prx_tensor *x, const struct prx_param *weight,
                      const struct prx_param *bias)
{
    struct prx_weight w, b;

    PRX_TRY(prx_weight_open(tape, weight, &w));
    PRX_TRY(prx_weight_open(tape, bias, &b));
    PRX_TRY(tape->be->ops->linear_fwd(tape->be, y, x, &w.value, &b.value));
    PRX_TRY(prx_weight_close(tape, &b));
    return prx_weight_close(tape, &w);
}

struct prx_var *prx_nn_linear(struct prx_tape *tape, struct prx_var *x,
                              struct prx_param *w, struct prx_param *b)
{
    if (!x)
        return NULL;
    int n_dims = x->value.n_dims;
    int64_t dims[PRX_DIMS_MAX];
    for (int i = 0; i < n_dims; i++)
        dims[i] = x->value.dims[i];
    dims[n_dims - 1] = w->value.dims[0];
    struct prx_var *y =
        prx_tape_value(tape, n_dims, dims, x->needs_grad || grad_of(w) || grad_of(b));
    if (!y || prx_tape_fails(tape, linear_fwd(tape, &y->value, &x->value, w, b)))
        return NULL;
    struct linear_note *note = prx_tape_note(tape, sizeof(*note), linear_bwd, y);
    if (note) {
        note->x = x;
        note->w = w;
        note->b = b;
    }
    return y;
}
