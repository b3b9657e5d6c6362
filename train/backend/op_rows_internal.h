/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every op of train/ops.h with its parameters, for backends that do one thing with all
 * ops: a new op has its row here, and those backends have it.
 *
 *     X(op, (parameters behind be), (what is passed on), (operands))
 *
 * Operands are all tensors that the op touches: pointers in the first table, some of
 * which may be NULL or absent; lists {tensors, n} in the second.
 */
#ifndef PRX_TRAIN_OP_ROWS_INTERNAL_H
#define PRX_TRAIN_OP_ROWS_INTERNAL_H

#include "train/ops.h"

/* A parenthesised list of a row, without its parentheses. */
#define PRX_UNPACK(...) __VA_ARGS__

struct prx_operand_list {
    prx_ct *tensors;
    size_t n;
};

/* The slots of optimisers are lists of tensors. */
_Static_assert(sizeof(struct prx_adamw_slot) == 4 * sizeof(struct prx_tensor) &&
                   sizeof(struct prx_muon_slot) == 3 * sizeof(struct prx_tensor),
               "slots are tensors and nothing else");

/* clang-format off */
#define PRX_OP_ROWS(X)                                                                \
    X(linear_fwd, (prx_t *y, prx_ct *x, prx_ct *w, prx_ct *b), (y, x, w, b),          \
      (y, x, w, b))                                                                   \
    X(linear_bwd,                                                                     \
      (prx_t *dx, bool add, prx_t *dw, prx_t *db, prx_ct *dy, prx_ct *x, prx_ct *w),  \
      (dx, add, dw, db, dy, x, w), (dx, dw, db, dy, x, w))                            \
    X(silu_fwd, (prx_t *y, prx_ct *x), (y, x), (y, x))                                \
    X(silu_bwd, (prx_t *dx, bool add, prx_ct *dy, prx_ct *x), (dx, add, dy, x),       \
      (dx, dy, x))                                                                    \
    X(add, (prx_t *y, prx_ct *a, prx_ct *b), (y, a, b), (y, a, b))                    \
    X(axpby, (prx_t *y, float alpha, prx_ct *x, float beta), (y, alpha, x, beta),     \
      (y, x))                                                                         \
    X(cast, (prx_t *y, prx_ct *x), (y, x), (y, x))                                    \
    X(sinusoid,                                                                       \
      (prx_t *y, int64_t col, int64_t dim, prx_ct *v, float factor,                   \
       float max_period), (y, col, dim, v, factor, max_period), (y, v))               \
    X(patchify, (prx_t *y, prx_ct *x, int64_t patch), (y, x, patch), (y, x))          \
    X(unpatchify, (prx_t *x, prx_ct *y, int64_t patch), (x, y, patch), (x, y))        \
    X(concat_tokens_fwd, (prx_t *y, prx_ct *a, prx_ct *x), (y, a, x), (y, a, x))      \
    X(concat_tokens_bwd, (prx_t *da, prx_t *dx, prx_ct *dy), (da, dx, dy),            \
      (da, dx, dy))                                                                   \
    X(gather_tokens_fwd, (prx_t *y, prx_ct *x, prx_ct *idx), (y, x, idx),             \
      (y, x, idx))                                                                    \
    X(gather_tokens_bwd, (prx_t *dx, bool add, prx_ct *dy, prx_ct *idx),              \
      (dx, add, dy, idx), (dx, dy, idx))                                              \
    X(merge_tokens_fwd, (prx_t *y, prx_ct *x, prx_ct *idx, prx_ct *rest),             \
      (y, x, idx, rest), (y, x, idx, rest))                                           \
    X(merge_tokens_bwd,                                                               \
      (prx_t *dx, prx_t *drest, bool add, prx_ct *dy, prx_ct *idx),                   \
      (dx, drest, add, dy, idx), (dx, drest, dy, idx))                                \
    X(ln_modulate_fwd,                                                                \
      (prx_t *y, prx_t *mean, prx_t *rstd, prx_ct *x, prx_ct *mod, int i_shift,       \
       int i_scale, float eps), (y, mean, rstd, x, mod, i_shift, i_scale, eps),       \
      (y, mean, rstd, x, mod))                                                        \
    X(ln_modulate_bwd,                                                                \
      (prx_t *dx, bool add, prx_t *dmod, prx_ct *dy, prx_ct *x, prx_ct *mean,         \
       prx_ct *rstd, prx_ct *mod, int i_shift, int i_scale),                          \
      (dx, add, dmod, dy, x, mean, rstd, mod, i_shift, i_scale),                      \
      (dx, dmod, dy, x, mean, rstd, mod))                                             \
    X(gate_residual_fwd, (prx_t *y, prx_ct *h, prx_ct *x, prx_ct *mod, int i_gate),   \
      (y, h, x, mod, i_gate), (y, h, x, mod))                                         \
    X(gate_residual_bwd,                                                              \
      (prx_t *dx, prx_t *dmod, prx_ct *dy, prx_ct *x, prx_ct *mod, int i_gate),       \
      (dx, dmod, dy, x, mod, i_gate), (dx, dmod, dy, x, mod))                         \
    X(head_norm_rope_fwd,                                                             \
      (prx_t *y, prx_t *rrms, prx_ct *x, int64_t col, prx_ct *scale, prx_ct *rope,    \
       float eps), (y, rrms, x, col, scale, rope, eps), (y, rrms, x, scale, rope))    \
    X(head_norm_rope_bwd,                                                             \
      (prx_t *dx, prx_t *dscale, prx_ct *dy, prx_ct *x, int64_t col, prx_ct *rrms,    \
       prx_ct *scale, prx_ct *rope), (dx, dscale, dy, x, col, rrms, scale, rope),     \
      (dx, dscale, dy, x, rrms, scale, rope))                                         \
    X(attention_fwd,                                                                  \
      (prx_t *o, prx_t *lse, prx_ct *q, prx_ct *k, prx_ct *v, int64_t col_v,          \
       prx_ct *kt, prx_ct *vt, int64_t col_vt, prx_ct *mask, int64_t n_heads),        \
      (o, lse, q, k, v, col_v, kt, vt, col_vt, mask, n_heads),                        \
      (o, lse, q, k, v, kt, vt, mask))                                                \
    X(attention_bwd,                                                                  \
      (prx_t *dq, prx_t *dk, prx_t *dv, prx_t *dkt, prx_t *dvt, prx_ct *do_,          \
       prx_ct *o, prx_ct *lse, prx_ct *q, prx_ct *k, prx_ct *v, int64_t col_v,        \
       prx_ct *kt, prx_ct *vt, int64_t col_vt, prx_ct *mask, int64_t n_heads),        \
      (dq, dk, dv, dkt, dvt, do_, o, lse, q, k, v, col_v, kt, vt, col_vt, mask,       \
       n_heads), (dq, dk, dv, dkt, dvt, do_, o, lse, q, k, v, kt, vt, mask))          \
    X(gated_gelu_fwd, (prx_t *y, prx_ct *g, prx_ct *u), (y, g, u), (y, g, u))         \
    X(gated_gelu_bwd, (prx_t *dg, prx_t *du, prx_ct *dy, prx_ct *g, prx_ct *u),       \
      (dg, du, dy, g, u), (dg, du, dy, g, u))                                         \
    X(flow_mix, (prx_t *xt, prx_t *v, prx_ct *x0, prx_ct *noise, prx_ct *t),          \
      (xt, v, x0, noise, t), (xt, v, x0, noise, t))                                   \
    X(x0_velocity_fwd,                                                                \
      (prx_t *v, prx_ct *xt, prx_ct *x0, prx_ct *t, float t_min),                     \
      (v, xt, x0, t, t_min), (v, xt, x0, t))                                          \
    X(x0_velocity_bwd, (prx_t *dx0, bool add, prx_ct *dv, prx_ct *t, float t_min),    \
      (dx0, add, dv, t, t_min), (dx0, dv, t))                                         \
    X(mse_fwd, (prx_t *loss, prx_t *per_sample, prx_ct *p, prx_ct *target),           \
      (loss, per_sample, p, target), (loss, per_sample, p, target))                   \
    X(mse_bwd, (prx_t *dp, bool add, prx_ct *p, prx_ct *target, float weight),        \
      (dp, add, p, target, weight), (dp, p, target))

#define PRX_LIST_OP_ROWS(X)                                                           \
    X(sumsq, (prx_t *out, const struct prx_tensor *tensors, size_t n),                \
      (out, tensors, n), ({out, 1}, {tensors, n}))                                    \
    X(adamw,                                                                          \
      (const struct prx_adamw_slot *slots, size_t n,                                  \
       const struct prx_adamw_args *args), (slots, n, args),                          \
      ({n > 0 ? &slots->p : NULL, 4 * n}))                                            \
    X(muon,                                                                           \
      (const struct prx_muon_slot *slots, size_t n,                                   \
       const struct prx_muon_args *args), (slots, n, args),                           \
      ({n > 0 ? &slots->p : NULL, 3 * n}))                                            \
    X(lerp,                                                                           \
      (const struct prx_tensor *ys, const struct prx_tensor *xs, size_t n,            \
       double weight), (ys, xs, n, weight), ({ys, n}, {xs, n}))
/* clang-format on */

#endif
