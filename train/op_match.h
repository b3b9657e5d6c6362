/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_match.h - operands of the ops against the contracts of train/ops.h.
 *
 * Every implementation of an op begins with its family's prx_match_ function: it
 * checks shapes, dtypes and column blocks before anything is written (PRX_ESHAPE,
 * with the op's name), and hands out the dimensions under their letters.
 */
#ifndef PRX_TRAIN_OP_MATCH_H
#define PRX_TRAIN_OP_MATCH_H

#include "train/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_adamw_slot;
struct prx_muon_slot;

/* y [R, O], x [R, I], w [O, I], b [O] or absent; their gradients have their shapes. */
struct prx_linear_dims {
    int64_t R, I, O;
};
PRX_MUST_USE int prx_match_linear(struct prx_linear_dims *out, const char *op,
                                  const struct prx_tensor *y,
                                  const struct prx_tensor *x,
                                  const struct prx_tensor *w,
                                  const struct prx_tensor *b);
/* The gradients asked for: dx [R, I], dw [O, I], db [O], each may be absent. */
PRX_MUST_USE int prx_match_linear_grad(const struct prx_linear_dims *d, const char *op,
                                       const struct prx_tensor *dx,
                                       const struct prx_tensor *dw,
                                       const struct prx_tensor *db);

/* Operands of one count; b and c may be NULL: there are only one or two. */
PRX_MUST_USE int prx_match_elements(int64_t *count, const char *op,
                                    const struct prx_tensor *a,
                                    const struct prx_tensor *b,
                                    const struct prx_tensor *c);

/* y, x of one count, each f32 or bf16. */
PRX_MUST_USE int prx_match_cast(int64_t *count, const char *op,
                                const struct prx_tensor *y, const struct prx_tensor *x);

/* y [B, X], columns col .. col + dim - 1 of it, dim even; v [B]. */
struct prx_sinusoid_dims {
    int64_t B, X;
};
PRX_MUST_USE int prx_match_sinusoid(struct prx_sinusoid_dims *out, const char *op,
                                    const struct prx_tensor *y, int64_t col,
                                    int64_t dim, const struct prx_tensor *v);

/* tokens [B, (H/P)(W/P), C*P*P], image [B, C, H, W]. */
struct prx_patch_dims {
    int64_t B, C, H, W, P;
};
PRX_MUST_USE int prx_match_patch(struct prx_patch_dims *out, const char *op,
                                 const struct prx_tensor *tokens,
                                 const struct prx_tensor *image, int64_t patch);

/* y [B, LA + LX, X], a [B, LA, X], x [B, LX, X]; one of a and x may be NULL. */
struct prx_concat_dims {
    int64_t B, LA, LX, X;
};
PRX_MUST_USE int prx_match_concat(struct prx_concat_dims *out, const char *op,
                                  const struct prx_tensor *y,
                                  const struct prx_tensor *a,
                                  const struct prx_tensor *x);

/* y [B, M, X], x [1 or B, N, X], idx [B, M] i32. */
struct prx_gather_dims {
    int64_t B, N, M, X;
    int64_t x_stride; /* floats from one sample's x to the next: 0 if shared */
};
PRX_MUST_USE int prx_match_gather(struct prx_gather_dims *out, const char *op,
                                  const struct prx_tensor *y,
                                  const struct prx_tensor *x,
                                  const struct prx_tensor *idx);

/* y [B, N, X], x [B, M, X], idx [B, M] i32, rest [B, N, X] or [X]. */
struct prx_merge_dims {
    int64_t B, N, M, X;
    bool is_shared; /* rest is one row */
};
PRX_MUST_USE int prx_match_merge(struct prx_merge_dims *out, const char *op,
                                 const struct prx_tensor *y,
                                 const struct prx_tensor *x,
                                 const struct prx_tensor *idx,
                                 const struct prx_tensor *rest);

/* The M numbers at @idx are in 0..N-1 (PRX_EINVAL); where memory is the host's. */
PRX_MUST_USE int prx_match_indices(const char *op, const int32_t *idx, int64_t M,
                                   int64_t N);

/* x, y [B, N, D], mod [B, K], block i_block of D columns in it. */
struct prx_modulate_dims {
    int64_t B, N, D, K;
};
PRX_MUST_USE int prx_match_modulate(struct prx_modulate_dims *out, const char *op,
                                    const struct prx_tensor *x,
                                    const struct prx_tensor *y,
                                    const struct prx_tensor *mod, int i_block);
/* Per-row statistics [B*N]. */
PRX_MUST_USE int prx_match_row_stats(const struct prx_modulate_dims *d, const char *op,
                                     const struct prx_tensor *mean,
                                     const struct prx_tensor *rstd);

/* y [B, N, D], x [B, N, X] from col, rrms [B, N, NH], scale [HD], rope or absent. */
struct prx_head_norm_dims {
    int64_t B, N, NH, HD, X;
    int64_t rope_stride; /* floats from one sample's rope to the next: 0 if shared */
};
PRX_MUST_USE int prx_match_head_norm(struct prx_head_norm_dims *out, const char *op,
                                     const struct prx_tensor *y,
                                     const struct prx_tensor *x, int64_t col,
                                     const struct prx_tensor *rrms,
                                     const struct prx_tensor *scale,
                                     const struct prx_tensor *rope);

/* L is 0 without text; XV and XT are the widths of v and vt. */
struct prx_attention_dims {
    int64_t B, N, M, L, NH, HD, XV, XT;
};
/* The operands that attention_fwd and attention_bwd share. */
struct prx_attention_tensors {
    const struct prx_tensor *o, *lse, *q, *k, *v, *kt, *vt, *mask;
    int64_t col_v, col_vt;
};
PRX_MUST_USE int prx_match_attention(struct prx_attention_dims *out, const char *op,
                                     const struct prx_attention_tensors *tensors,
                                     int64_t n_heads);
PRX_MUST_USE int prx_match_attention_grad(const struct prx_attention_dims *d,
                                          const char *op, const struct prx_tensor *do_,
                                          const struct prx_tensor *dq,
                                          const struct prx_tensor *dk,
                                          const struct prx_tensor *dv,
                                          const struct prx_tensor *dkt,
                                          const struct prx_tensor *dvt);

/* Samples of equal size: a and b [B, ...], c as a or absent, each [B] or absent. */
struct prx_sample_dims {
    int64_t B;
    int64_t n_each; /* elements of one sample */
};
PRX_MUST_USE int prx_match_samples(struct prx_sample_dims *out, const char *op,
                                   const struct prx_tensor *a,
                                   const struct prx_tensor *b,
                                   const struct prx_tensor *c,
                                   const struct prx_tensor *each);

/* One element: a loss, a sum. */
PRX_MUST_USE int prx_match_scalar(const char *op, const struct prx_tensor *scalar);

/* n tensors. */
PRX_MUST_USE int prx_match_list(const char *op, size_t n,
                                const struct prx_tensor *tensors);
/* n pairs, each of one count; each tensor f32 or bf16. */
PRX_MUST_USE int prx_match_pairs(const char *op, size_t n, const struct prx_tensor *ys,
                                 const struct prx_tensor *xs);
/* Parameters and moments may be bf16, gradients are f32. */
PRX_MUST_USE int prx_match_adamw(const char *op, size_t n,
                                 const struct prx_adamw_slot *slots);
PRX_MUST_USE int prx_match_muon(const char *op, size_t n,
                                const struct prx_muon_slot *slots);

#ifdef __cplusplus
}
#endif
#endif
