/* SPDX-License-Identifier: Apache-2.0 */
/* Layers steered by the condition: ln_modulate, gate_residual. */
#include "train/autograd/autograd_internal.h"

struct ln_modulate_note {
    struct prx_note note;
    struct prx_var *x;
    struct prx_var *mod;
    struct prx_tensor mean;
    struct prx_tensor rstd;
    int i_shift;
    int i_scale;
    float eps;
};

static int64_t width_of(const struct prx_var *x)
{
    return x->value.dims[x->value.n_dims - 1];
}

static int ln_modulate_bwd(struct prx_tape *tape, const void *note)
{
    const struct ln_modulate_note *n = note;
    int64_t width = width_of(n->x);
    struct prx_grad dx;
    struct prx_grad dshift;
    struct prx_grad dscale;

    PRX_TRY(prx_tape_remake(tape, n->x));
    PRX_TRY(prx_grad_open(tape, n->x, &dx));
    PRX_TRY(prx_grad_open_block(tape, n->mod, n->i_shift * width, width, &dshift));
    PRX_TRY(prx_grad_open_block(tape, n->mod, n->i_scale * width, width, &dscale));
    PRX_TRY(tape->be->ops->ln_modulate_bwd(
        tape->be, dx.to, dx.add, dshift.to, &n->note.out->grad, &n->x->value, &n->mean,
        &n->rstd, &n->mod->value, n->i_shift, n->i_scale));
    PRX_TRY(prx_grad_close(tape, &dscale));
    PRX_TRY(prx_grad_close(tape, &dshift));
    return prx_grad_close(tape, &dx);
}

static int ln_modulate_remake(struct prx_tape *tape, const void *note)
{
    const struct ln_modulate_note *n = note;
    struct prx_tensor mean = n->mean, rstd = n->rstd; /* written as they are */

    PRX_TRY(prx_tape_remake(tape, n->x));
    return tape->be->ops->ln_modulate_fwd(tape->be, &n->note.out->value, &mean, &rstd,
                                          &n->x->value, &n->mod->value, n->i_shift,
                                          n->i_scale, n->eps);
}

struct prx_var *prx_nn_ln_modulate(struct prx_tape *tape, struct prx_var *x,
                                   struct prx_var *mod, int i_shift, int i_scale,
                                   float eps)
{
    struct prx_tensor mean;
    struct prx_tensor rstd;

    if (!x || !mod)
        return NULL;
    int64_t n_rows = prx_tensor_rows(&x->value);
    struct prx_var *y = prx_tape_value_like(tape, x, x->needs_grad || mod->needs_grad);
    if (!y || !prx_tape_scratch(tape, 1, &n_rows, &mean) ||
        !prx_tape_scratch(tape, 1, &n_rows, &rstd) ||
        prx_tape_fails(tape, tape->be->ops->ln_modulate_fwd(
                                 tape->be, &y->value, &mean, &rstd, &x->value,
                                 &mod->value, i_shift, i_scale, eps)))
        return NULL;
    struct ln_modulate_note *note =
        prx_tape_note(tape, sizeof(*note), ln_modulate_bwd, y);
    if (note) {
        prx_tape_reads_block(tape, mod, i_shift * width_of(x), width_of(x));
        prx_tape_reads_block(tape, mod, i_scale * width_of(x), width_of(x));
        note->x = x;
        note->mod = mod;
        note->mean = mean;
        note->rstd = rstd;
        note->i_shift = i_shift;
        note->i_scale = i_scale;
        note->eps = eps;
        note->note.remake = ln_modulate_remake;
    }
    return y;
}

struct gate_residual_note {
    struct prx_note note;
    struct prx_var *h;
    struct prx_var *x;
    struct prx_var *mod;
    int i_gate;
};

static int gate_residual_bwd(struct prx_tape *tape, const void *note)
{
    const struct gate_residual_note *n = note;
    int64_t width = width_of(n->x);
    struct prx_grad dx;
    struct prx_grad dgate;

    PRX_TRY(prx_tape_remake(tape, n->x));
    PRX_TRY(prx_grad_open_set(tape, n->x, &dx));
    PRX_TRY(prx_grad_open_block(tape, n->mod, n->i_gate * width, width, &dgate));
    PRX_TRY(tape->be->ops->gate_residual_bwd(tape->be, dx.to, dgate.to,
                                             &n->note.out->grad, &n->x->value,
                                             &n->mod->value, n->i_gate));
    PRX_TRY(prx_grad_close(tape, &dgate));
    PRX_TRY(prx_grad_close(tape, &dx));
    return prx_grad_pass(tape, n->note.out, n->h);
}

static int gate_residual_remake(struct prx_tape *tape, const void *note)
{
    const struct gate_residual_note *n = note;

    PRX_TRY(prx_tape_remake(tape, n->h));
    PRX_TRY(prx_tape_remake(tape, n->x));
    return tape->be->ops->gate_residual_fwd(tape->be, &n->note.out->value, &n->h->value,
                                            &n->x->value, &n->mod->value, n->i_gate);
}

struct prx_var *prx_nn_gate_residual(struct prx_tape *tape, struct prx_var *h,
                                     struct prx_var *x, struct prx_var *mod, int i_gate)
{
    if (!h || !x || !mod)
        return NULL;
    struct prx_var *y =
        prx_tape_value_like(tape, h, h->needs_grad || x->needs_grad || mod->needs_grad);
    if (!y || prx_tape_fails(tape, tape->be->ops->gate_residual_fwd(
                                       tape->be, &y->value, &h->value, &x->value,
                                       &mod->value, i_gate)))
        return NULL;
    struct gate_residual_note *note =
        prx_tape_note(tape, sizeof(*note), gate_residual_bwd, y);
    if (note) {
        prx_tape_reads_block(tape, mod, i_gate * width_of(x), width_of(x));
        note->h = h;
        note->x = x;
        note->mod = mod;
        note->i_gate = i_gate;
        note->note.remake = gate_residual_remake;
    }
    return y;
}
