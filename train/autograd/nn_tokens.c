/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that move elements: patchify, unpatchify, concat_tokens. */
#include "train/autograd/autograd_internal.h"

struct tokens_note {
    struct prx_note note;
    struct prx_var *a;
    struct prx_var *b;
    int64_t patch;
};

static struct prx_var *noted(struct prx_tape *tape, struct prx_var *y, prx_bwd_fn bwd,
                             struct prx_var *a, struct prx_var *b, int64_t patch)
{
    struct tokens_note *note = prx_tape_note(tape, sizeof(*note), bwd, y);
    if (note) {
        note->a = a;
        note->b = b;
        note->patch = patch;
    }
    return y;
}

static int patchify_bwd(struct prx_tape *tape, const void *note)
{
    const struct tokens_note *n = note;
    struct prx_grad dx;

    PRX_TRY(prx_grad_open_set(tape, n->a, &dx));
    PRX_TRY(tape->be->ops->unpatchify(tape->be, dx.to, &n->note.out->grad, n->patch));
    return prx_grad_close(tape, &dx);
}

struct prx_var *prx_nn_patchify(struct prx_tape *tape, struct prx_var *x, int64_t patch)
{
    if (!x)
        return NULL;
    const int64_t *in = x->value.dims; // [B, C, H, W]
    int64_t dims[3] = {in[0], in[2] / patch * (in[3] / patch), in[1] * patch * patch};
    struct prx_var *y = prx_tape_value(tape, 3, dims, x->needs_grad);
    if (!y || prx_tape_fails(
                  tape, tape->be->ops->patchify(tape->be, &y->value, &x->value, patch)))
        return NULL;
    return noted(tape, y, patchify_bwd, x, NULL, patch);
}

static int unpatchify_bwd(struct prx_tape *tape, const void *note)
{
    const struct tokens_note *n = note;
    struct prx_grad dy;

    PRX_TRY(prx_grad_open_set(tape, n->a, &dy));
    PRX_TRY(tape->be->ops->patchify(tape->be, dy.to, &n->note.out->grad, n->patch));
    return prx_grad_close(tape, &dy);
}

struct prx_var *prx_nn_unpatchify(struct prx_tape *tape, struct prx_var *y,
                                  int64_t channels, int64_t height, int64_t width,
                                  int64_t patch)
{
    if (!y)
        return NULL;
    int64_t dims[4] = {y->value.dims[0], channels, height, width};
    struct prx_var *x = prx_tape_value(tape, 4, dims, y->needs_grad);
    if (!x || prx_tape_fails(tape, tape->be->ops->unpatchify(tape->be, &x->value,
                                                             &y->value, patch)))
        return NULL;
    return noted(tape, x, unpatchify_bwd, y, NULL, patch);
}

static int concat_tokens_bwd(struct prx_tape *tape, const void *note)
{
    const struct tokens_note *n = note;
    struct prx_grad da;
    struct prx_grad dx;

    PRX_TRY(prx_grad_open_set(tape, n->a, &da));
    PRX_TRY(prx_grad_open_set(tape, n->b, &dx));
    PRX_TRY(
        tape->be->ops->concat_tokens_bwd(tape->be, da.to, dx.to, &n->note.out->grad));
    PRX_TRY(prx_grad_close(tape, &da));
    return prx_grad_close(tape, &dx);
}

struct prx_var *prx_nn_concat_tokens(struct prx_tape *tape, struct prx_var *a,
                                     struct prx_var *x)
{
    if (!a || !x)
        return NULL;
    int64_t dims[3] = {a->value.dims[0], a->value.dims[1] + x->value.dims[1],
                       a->value.dims[2]};
    struct prx_var *y = prx_tape_value(tape, 3, dims, a->needs_grad || x->needs_grad);
    if (!y || prx_tape_fails(tape, tape->be->ops->concat_tokens_fwd(
                                       tape->be, &y->value, &a->value, &x->value)))
        return NULL;
    return noted(tape, y, concat_tokens_bwd, a, x, 0);
}
