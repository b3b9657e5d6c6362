/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that work element by element: silu, add, gated gelu. */
#include "train/autograd/autograd_internal.h"

struct pointwise_note {
    struct prx_note note;
    struct prx_var *a;
    struct prx_var *b;
};

static struct prx_var *noted(struct prx_tape *tape, struct prx_var *y, prx_bwd_fn bwd,
                             prx_bwd_fn remake, struct prx_var *a, struct prx_var *b)
{
    struct pointwise_note *note = prx_tape_note(tape, sizeof(*note), bwd, y);
    if (note) {
        note->note.remake = remake;
        note->a = a;
        note->b = b;
    }
    return y;
}

static int silu_bwd(struct prx_tape *tape, const void *note)
{
    const struct pointwise_note *n = note;
    struct prx_grad dx;

    PRX_TRY(prx_grad_open(tape, n->a, &dx));
    PRX_TRY(prx_tape_remake(tape, n->a));
    PRX_TRY(tape->be->ops->silu_bwd(tape->be, dx.to, dx.add, &n->note.out->grad,
                                    &n->a->value));
    return prx_grad_close(tape, &dx);
}

struct prx_var *prx_nn_silu(struct prx_tape *tape, struct prx_var *x)
{
    struct prx_var *y = x ? prx_tape_value_like(tape, x, x->needs_grad) : NULL;
    if (!y ||
        prx_tape_fails(tape, tape->be->ops->silu_fwd(tape->be, &y->value, &x->value)))
        return NULL;
    return noted(tape, y, silu_bwd, NULL, x, NULL);
}

static int add_bwd(struct prx_tape *tape, const void *note)
{
    const struct pointwise_note *n = note;
    struct prx_backend *be = tape->be;
    struct prx_grad db;

    PRX_TRY(prx_grad_open(tape, n->b, &db));
    PRX_TRY(be->ops->axpby(be, db.to, 1.0f, &n->note.out->grad, db.add));
    PRX_TRY(prx_grad_close(tape, &db));
    return prx_grad_pass(tape, n->note.out, n->a);
}

struct prx_var *prx_nn_add(struct prx_tape *tape, struct prx_var *a, struct prx_var *b)
{
    struct prx_var *y =
        a && b ? prx_tape_value_like(tape, a, a->needs_grad || b->needs_grad) : NULL;
    if (!y || prx_tape_fails(
                  tape, tape->be->ops->add(tape->be, &y->value, &a->value, &b->value)))
        return NULL;
    return noted(tape, y, add_bwd, NULL, a, b);
}

static int gated_gelu_remake(struct prx_tape *tape, const void *note)
{
    const struct pointwise_note *n = note;

    PRX_TRY(prx_tape_remake(tape, n->a));
    PRX_TRY(prx_tape_remake(tape, n->b));
    return tape->be->ops->gated_gelu_fwd(tape->be, &n->note.out->value, &n->a->value,
                                         &n->b->value);
}

static int gated_gelu_bwd(struct prx_tape *tape, const void *note)
{
    const struct pointwise_note *n = note;
    struct prx_grad dg;
    struct prx_grad du;

    PRX_TRY(prx_tape_remake(tape, n->a));
    PRX_TRY(prx_tape_remake(tape, n->b));
    PRX_TRY(prx_grad_open_over(tape, n->a, &dg));
    PRX_TRY(prx_grad_open_over(tape, n->b, &du));
    PRX_TRY(tape->be->ops->gated_gelu_bwd(tape->be, dg.to, du.to, &n->note.out->grad,
                                          &n->a->value, &n->b->value));
    PRX_TRY(prx_grad_close(tape, &dg));
    return prx_grad_close(tape, &du);
}

struct prx_var *prx_nn_gated_gelu(struct prx_tape *tape, struct prx_var *g,
                                  struct prx_var *u)
{
    struct prx_var *y =
        g && u ? prx_tape_value_like(tape, g, g->needs_grad || u->needs_grad) : NULL;
    if (!y || prx_tape_fails(tape, tape->be->ops->gated_gelu_fwd(tape->be, &y->value,
                                                                 &g->value, &u->value)))
        return NULL;
    return noted(tape, y, gated_gelu_bwd, gated_gelu_remake, g, u);
}
