/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of attention: head_norm_rope, attention. */
#include "train/autograd/autograd_internal.h"

struct head_norm_rope_note {
    struct prx_note note;
    struct prx_var *x;
    int64_t col;
    struct prx_param *scale;
    struct prx_tensor rope; /* data NULL: none */
    struct prx_tensor rrms;
    float eps;
};

static int head_norm_rope_bwd(struct prx_tape *tape, const void *note)
{
    const struct head_norm_rope_note *n = note;
    const struct prx_tensor *dy = &n->note.out->grad; // [B, N, D]
    struct prx_grad dx;
    struct prx_grad dscale;
    struct prx_weight scale;

    PRX_TRY(prx_tape_remake(tape, n->x));
    PRX_TRY(prx_grad_open_block(tape, n->x, n->col, dy->dims[2], &dx));
    PRX_TRY(prx_grad_open_param(tape, n->scale, &dscale));
    PRX_TRY(prx_weight_open(tape, n->scale, &scale));
    PRX_TRY(tape->be->ops->head_norm_rope_bwd(tape->be, dx.to, dscale.to, dy,
                                              &n->x->value, n->col, &n->rrms,
                                              &scale.value, &n->rope));
    PRX_TRY(prx_weight_close(tape, &scale));
    PRX_TRY(prx_grad_close(tape, &dscale));
    return prx_grad_close(tape, &dx);
}

static int head_norm_rope_fwd(struct prx_tape *tape, struct prx_tensor *y,
                              struct prx_tensor *rrms, const struct prx_tensor *x,
                              int64_t col, const struct prx_param *param,
                              const struct prx_tensor *rope, float eps)
{
    struct prx_weight scale;

    PRX_TRY(prx_weight_open(tape, param, &scale));
    PRX_TRY(tape->be->ops->head_norm_rope_fwd(tape->be, y, rrms, x, col, &scale.value,
                                              rope, eps));
    return prx_weight_close(tape, &scale);
}

static int head_norm_rope_remake(struct prx_tape *tape, const void *note)
{
    const struct head_norm_rope_note *n = note;
    struct prx_tensor rrms = n->rrms; /* written as it is */

    PRX_TRY(prx_tape_remake(tape, n->x));
    return head_norm_rope_fwd(tape, &n->note.out->value, &rrms, &n->x->value, n->col,
                              n->scale, &n->rope, n->eps);
}

struct prx_var *prx_nn_head_norm_rope(struct prx_tape *tape, struct prx_var *x,
                                      int64_t col, int64_t width,
                                      struct prx_param *scale,
                                      const struct prx_tensor *rope, float eps)
{
    struct prx_tensor rrms;

    if (!x)
        return NULL;
    int64_t dims[3] = {x->value.dims[0], x->value.dims[1], width};
    int64_t rrms_dims[3] = {dims[0], dims[1], width / scale->value.dims[0]};
    struct prx_var *y =
        prx_tape_value(tape, 3, dims, x->needs_grad || scale->grad.data);
    if (!y || !prx_tape_scratch(tape, 3, rrms_dims, &rrms) ||
        prx_tape_fails(tape, head_norm_rope_fwd(tape, &y->value, &rrms, &x->value, col,
                                                scale, rope, eps)))
        return NULL;
    struct head_norm_rope_note *note =
        prx_tape_note(tape, sizeof(*note), head_norm_rope_bwd, y);
    if (note) {
        prx_tape_reads_block(tape, x, col, width);
        note->x = x;
        note->col = col;
        note->scale = scale;
        note->rrms = rrms;
        note->eps = eps;
        note->note.remake = head_norm_rope_remake;
        if (rope)
            note->rope = *rope;
    }
    return y;
}

struct attention_note {
    struct prx_note note;
    struct prx_var *q, *k, *v;
    int64_t col_v;
    struct prx_var *kt, *vt;
    int64_t col_vt;
    struct prx_tensor mask; /* data NULL: none */
    struct prx_tensor lse;
    int64_t n_heads;
};

static const struct prx_tensor *value_of(const struct prx_var *x)
{
    return x ? &x->value : NULL;
}

static int attention_bwd(struct prx_tape *tape, const void *note)
{
    const struct attention_note *n = note;
    const struct prx_var *o = n->note.out;
    int64_t width = o->value.dims[2];
    struct prx_grad dq, dk, dv, dkt, dvt;
    struct prx_var *const operands[] = {n->q, n->k, n->v, n->kt, n->vt};

    for (size_t i = 0; i < sizeof(operands) / sizeof(operands[0]); i++)
        if (operands[i])
            PRX_TRY(prx_tape_remake(tape, operands[i]));
    PRX_TRY(prx_grad_open_set(tape, n->q, &dq));
    PRX_TRY(prx_grad_open_set(tape, n->k, &dk));
    PRX_TRY(prx_grad_open_block(tape, n->v, n->col_v, width, &dv));
    PRX_TRY(prx_grad_open_set(tape, n->kt, &dkt));
    PRX_TRY(prx_grad_open_block(tape, n->vt, n->col_vt, width, &dvt));
    PRX_TRY(tape->be->ops->attention_bwd(
        tape->be, dq.to, dk.to, dv.to, dkt.to, dvt.to, &o->grad, &o->value, &n->lse,
        &n->q->value, &n->k->value, &n->v->value, n->col_v, value_of(n->kt),
        value_of(n->vt), n->col_vt, &n->mask, n->n_heads));
    PRX_TRY(prx_grad_close(tape, &dvt));
    PRX_TRY(prx_grad_close(tape, &dkt));
    PRX_TRY(prx_grad_close(tape, &dv));
    PRX_TRY(prx_grad_close(tape, &dk));
    return prx_grad_close(tape, &dq);
}

struct prx_var *prx_nn_attention(struct prx_tape *tape, struct prx_var *q,
                                 struct prx_var *k, struct prx_var *v, int64_t col_v,
                                 struct prx_var *kt, struct prx_var *vt, int64_t col_vt,
                                 const struct prx_tensor *mask, int64_t n_heads)
{
    struct prx_tensor lse;

    if (!q || !k || !v)
        return NULL;
    int64_t lse_dims[3] = {q->value.dims[0], n_heads, q->value.dims[1]};
    struct prx_var *o =
        prx_tape_value_like(tape, q,
                            q->needs_grad || k->needs_grad || v->needs_grad ||
                                (kt && kt->needs_grad) || (vt && vt->needs_grad));
    if (!o || !prx_tape_scratch(tape, 3, lse_dims, &lse) ||
        prx_tape_fails(tape,
                       tape->be->ops->attention_fwd(
                           tape->be, &o->value, &lse, &q->value, &k->value, &v->value,
                           col_v, value_of(kt), value_of(vt), col_vt, mask, n_heads)))
        return NULL;
    struct attention_note *note = prx_tape_note(tape, sizeof(*note), attention_bwd, o);
    if (note) {
        prx_tape_reads_block(tape, v, col_v, o->value.dims[2]);
        if (vt)
            prx_tape_reads_block(tape, vt, col_vt, o->value.dims[2]);
        *note = (struct attention_note){
            .note = note->note,
            .q = q,
            .k = k,
            .v = v,
            .col_v = col_v,
            .kt = kt,
            .vt = vt,
            .col_vt = col_vt,
            .lse = lse,
            .n_heads = n_heads,
        };
        if (mask)
            note->mask = *mask;
    }
    return o;
}
