/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.h - the list of everything a backend computes: the seam between networks
 * and devices.
 *
 * train/ref is this contract in plain loops; train/cpu and kernels are the same
 * thing, faster, and are tested against it.
 *
 * Letters: B batch, H W latent rows and columns, C channels, P patch, N image
 * tokens, L text tokens, D hidden, NH heads, HD = D/NH, F mlp hidden, R rows
 * (B*N or B*L), I and O inputs and outputs of a linear map, X any row length.
 *
 * Laws that hold for every op, and are not repeated below:
 *   - Outputs are overwritten (=); gradients of parameters are added to (+=).
 *     A gradient of an activation is overwritten, or added to where the op has
 *     the argument @add and it is true.
 *   - Tensors are float32 unless said; sums run in float32 or wider.  What is
 *     marked bf16 may be either: it is widened when read, computed with as float32,
 *     and rounded once, to the nearest even, when written.
 *   - Outputs do not alias inputs unless said.
 *   - An operand that may be NULL may also be a tensor whose data is NULL.
 *   - A count of zero (R = 0, B = 0, L = 0) does nothing and is no error.
 *   - Errors: PRX_ESHAPE (shapes or dtypes disagree), PRX_EDEVICE, PRX_ENOMEM
 *     (scratch).  Nothing is written when shapes disagree.
 *   - "col" names a column block of a wider tensor: columns col .. col+width-1 of
 *     its last dimension.  Ops that write such a block leave the other columns.
 */
#ifndef PRX_TRAIN_OPS_H
#define PRX_TRAIN_OPS_H

#include "train/backend.h"
#include "train/op_match.h"
#include "train/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct prx_backend prx_be;
typedef struct prx_tensor prx_t;
typedef const struct prx_tensor prx_ct;

/* One parameter of the multi-tensor optimiser ops; all of a slot have one shape. */
struct prx_adamw_slot {
    struct prx_tensor p; /* parameter, bf16 */
    struct prx_tensor g; /* gradient */
    struct prx_tensor m; /* first moment, bf16 */
    struct prx_tensor v; /* second moment, bf16 */
};

/* float64: 1 - beta2 of a float32 beta2 would be wrong in the fifth digit. */
struct prx_adamw_args {
    double lr;
    double beta1, beta2;
    double eps;
    double weight_decay;
    int64_t step;      /* k = 1, 2, ... */
    double grad_scale; /* gradients are multiplied by this first (clipping) */
};

/* One matrix of muon; all of a slot have one shape, [O, I]. */
struct prx_muon_slot {
    struct prx_tensor p; /* parameter, bf16 */
    struct prx_tensor g; /* gradient */
    struct prx_tensor m; /* momentum, bf16 */
};

/* How an update of zero is kept from being divided by zero. */
enum prx_muon_eps {
    PRX_MUON_EPS_ADD,   /* |u| + eps, as muon_fsdp2 */
    PRX_MUON_EPS_CLAMP, /* max(|u|, eps), as torch.optim.Muon */
};

struct prx_muon_args {
    double lr;
    double momentum; /* mu */
    bool nesterov;
    double weight_decay;
    int ns_steps;   /* Newton-Schulz iterations */
    double a, b, c; /* their coefficients */
    double eps;
    enum prx_muon_eps eps_mode;
    bool rms_scale;
    bool bf16; /* round the iterations to bf16 */
    double grad_scale;
};

struct prx_ops {
    /*
     * linear_fwd - y = x W^T + b.
     * @y [R, O]  @x [R, I]  @w [O, I]  @b [O] or NULL
     */
    int (*linear_fwd)(prx_be *be, prx_t *y, prx_ct *x, prx_ct *w, prx_ct *b);

    /*
     * linear_bwd - dx (+)= dy W;  dw += dy^T x;  db += sum_r dy.
     * @dx [R, I] or NULL (not wanted), honours @add  @dw [O, I] or NULL
     * @db [O] or NULL  @dy [R, O]
     */
    int (*linear_bwd)(prx_be *be, prx_t *dx, bool add, prx_t *dw, prx_t *db, prx_ct *dy,
                      prx_ct *x, prx_ct *w);

    /* silu_fwd - y = x / (1 + exp(-x)), element by element; any shape. */
    int (*silu_fwd)(prx_be *be, prx_t *y, prx_ct *x);
    int (*silu_bwd)(prx_be *be, prx_t *dx, bool add, prx_ct *dy, prx_ct *x);

    /* add - y = a + b; y may alias a or b.  Its gradient is a copy to both. */
    int (*add)(prx_be *be, prx_t *y, prx_ct *a, prx_ct *b);

    /* axpby - y = alpha x + beta y; beta = 0 does not read y. */
    int (*axpby)(prx_be *be, prx_t *y, float alpha, prx_ct *x, float beta);

    /* cast - y = x in the dtype of y; both bf16, any one count; NaN stays NaN. */
    int (*cast)(prx_be *be, prx_t *y, prx_ct *x);

    /*
     * sinusoid - embedding of numbers, cosines first (Vaswani et al. 2017,
     * arXiv:1706.03762, in the layout of diffusers' flip_sin_to_cos).
     *     f_j = exp(-ln(max_period) j / (dim/2)),  a_j = (factor v) f_j
     *     y[b, col .. col+dim-1] = [cos a_0 .. cos a_(dim/2-1), sin a_0 ..]
     * f and a in float64 (or in float32 in exactly this order).
     * @y [B, X]  @v [B]  @dim even
     */
    int (*sinusoid)(prx_be *be, prx_t *y, int64_t col, int64_t dim, prx_ct *v,
                    float factor, float max_period);

    /*
     * patchify - y[b, n, (c*P + dy)*P + dx] = x[b, c, gy*P + dy, gx*P + dx],
     * n = gy*(W/P) + gx.  unpatchify is its inverse; each is the other's gradient.
     * @y [B, N, C*P*P]  @x [B, C, H, W], P divides H and W
     */
    int (*patchify)(prx_be *be, prx_t *y, prx_ct *x, int64_t patch);
    int (*unpatchify)(prx_be *be, prx_t *x, prx_ct *y, int64_t patch);

    /*
     * concat_tokens_fwd - y[b] = [a[b]; x[b]] along tokens.
     * @y [B, LA+LX, X]  @a [B, LA, X]  @x [B, LX, X]
     * bwd: da and dx take their rows of dy.  One may be NULL: the rows that the
     * other does not have are then left out.
     */
    int (*concat_tokens_fwd)(prx_be *be, prx_t *y, prx_ct *a, prx_ct *x);
    int (*concat_tokens_bwd)(prx_be *be, prx_t *da, prx_t *dx, prx_ct *dy);

    /*
     * gather_tokens_fwd - y[b, m] = x[b, idx[b, m]]: some tokens of each sample, for
     * token routing (Krause et al. 2025, arXiv:2501.04765).
     * @y [B, M, X]  @x [1 or B, N, X]: one sample's rows may serve all
     * @idx [B, M] i32, each in 0..N-1 and distinct within a sample; a device does
     * not check that
     * bwd: dx[b, idx[b, m]] (+)= dy[b, m], honours @add; without it the other rows
     * become 0.  @dx [B, N, X]
     */
    int (*gather_tokens_fwd)(prx_be *be, prx_t *y, prx_ct *x, prx_ct *idx);
    int (*gather_tokens_bwd)(prx_be *be, prx_t *dx, bool add, prx_ct *dy, prx_ct *idx);

    /*
     * merge_tokens_fwd - the way back: y[b, idx[b, m]] = x[b, m], and the other rows
     * are rest's.
     * @y [B, N, X]  @x [B, M, X]  @idx as above
     * @rest [B, N, X], row for row, or [X]: one row for all
     */
    int (*merge_tokens_fwd)(prx_be *be, prx_t *y, prx_ct *x, prx_ct *idx, prx_ct *rest);
    /*
     * @dx [B, M, X] takes its rows of dy.  @drest (+)= the other rows: of [B, N, X]
     * it honours @add, and rows of idx add 0; [X] is a parameter, += their sum.
     * Either may be NULL.
     */
    int (*merge_tokens_bwd)(prx_be *be, prx_t *dx, prx_t *drest, bool add, prx_ct *dy,
                            prx_ct *idx);

    /*
     * ln_modulate_fwd - layer norm without weights, then a shift and scale a sample
     * (Peebles & Xie 2023, arXiv:2212.09748, adaLN).
     *     y = (1 + scale_b) (x - mean_r) rstd_r + shift_b,
     *     rstd_r = 1/sqrt(var_r + eps), biased variance
     * @y [B, N, D]  @mean, @rstd [B*N], wanted by bwd  @x [B, N, D]
     * @mod [B, K*D]: shift is its block i_shift, scale its block i_scale (of D)
     */
    int (*ln_modulate_fwd)(prx_be *be, prx_t *y, prx_t *mean, prx_t *rstd, prx_ct *x,
                           prx_ct *mod, int i_shift, int i_scale, float eps);
    /* dx honours @add; blocks i_shift and i_scale of @dmod [B, K*D] are overwritten. */
    int (*ln_modulate_bwd)(prx_be *be, prx_t *dx, bool add, prx_t *dmod, prx_ct *dy,
                           prx_ct *x, prx_ct *mean, prx_ct *rstd, prx_ct *mod,
                           int i_shift, int i_scale);

    /*
     * gate_residual_fwd - y = h + gate_b * x; y may alias h.
     * @y, @h, @x [B, N, D]  @mod [B, K*D], gate is its block i_gate
     */
    int (*gate_residual_fwd)(prx_be *be, prx_t *y, prx_ct *h, prx_ct *x, prx_ct *mod,
                             int i_gate);
    /* dx = gate dy, dgate_b = sum_n dy x into block i_gate; dh is dy itself. */
    int (*gate_residual_bwd)(prx_be *be, prx_t *dx, prx_t *dmod, prx_ct *dy, prx_ct *x,
                             prx_ct *mod, int i_gate);

    /*
     * head_norm_rope_fwd - root-mean-square norm of each head, then rotation by
     * position (Zhang & Sennrich 2019, arXiv:1910.07467; Su et al. 2021,
     * arXiv:2104.09864), pairs (2m, 2m+1) with angle m.
     *     u = x rrms scale,  rrms = 1/sqrt(mean_d x^2 + eps)
     *     y[2m] = u[2m] cos - u[2m+1] sin;  y[2m+1] = u[2m] sin + u[2m+1] cos
     * @y [B, N, D]  @rrms [B, N, NH], wanted by bwd
     * @x [B, N, X], block col .. col+D-1  @scale [HD]
     * @rope [1 or B, N, 2, HD/2] (cosines, then sines), or NULL: no rotation
     */
    int (*head_norm_rope_fwd)(prx_be *be, prx_t *y, prx_t *rrms, prx_ct *x, int64_t col,
                              prx_ct *scale, prx_ct *rope, float eps);
    /* Block col of @dx [B, N, X] is overwritten; dscale [HD] += . */
    int (*head_norm_rope_bwd)(prx_be *be, prx_t *dx, prx_t *dscale, prx_ct *dy,
                              prx_ct *x, int64_t col, prx_ct *rrms, prx_ct *scale,
                              prx_ct *rope);

    /*
     * attention_fwd - image queries over text and image keys, without an N x N
     * matrix in memory (Dao 2023, arXiv:2307.08691).
     *     s = q [kt; k]^T / sqrt(HD), masked text keys excluded;
     *     o = softmax(s) [vt; v]
     * @o [B, N, D]  @lse [B, NH, N] log sum exp of s, wanted by bwd
     * @q [B, N, D]  @k [B, M, D]  @v [B, M, XV], block col_v .. col_v+D-1
     * @kt [B, L, D]  @vt [B, L, XT], block col_vt ..; both NULL: there is no text
     * @mask [B, L] i32, 0 = hidden; NULL = all visible.  A fully masked text is
     * legal; a query without any key (M = 0 as well) gives o = 0, lse = -inf.
     * D = n_heads * HD.
     */
    int (*attention_fwd)(prx_be *be, prx_t *o, prx_t *lse, prx_ct *q, prx_ct *k,
                         prx_ct *v, int64_t col_v, prx_ct *kt, prx_ct *vt,
                         int64_t col_vt, prx_ct *mask, int64_t n_heads);
    /*
     * All gradients are overwritten; dv and dvt are blocks of wider tensors, as v
     * and vt.  Masked keys get 0.
     */
    int (*attention_bwd)(prx_be *be, prx_t *dq, prx_t *dk, prx_t *dv, prx_t *dkt,
                         prx_t *dvt, prx_ct *do_, prx_ct *o, prx_ct *lse, prx_ct *q,
                         prx_ct *k, prx_ct *v, int64_t col_v, prx_ct *kt, prx_ct *vt,
                         int64_t col_vt, prx_ct *mask, int64_t n_heads);

    /*
     * gated_gelu_fwd - y = gelu(g) u, gelu in its tanh form (Hendrycks & Gimpel
     * 2016, arXiv:1606.08415; Shazeer 2020, arXiv:2002.05202).  Any one shape.
     */
    int (*gated_gelu_fwd)(prx_be *be, prx_t *y, prx_ct *g, prx_ct *u);
    /* dg and du may alias g and u. */
    int (*gated_gelu_bwd)(prx_be *be, prx_t *dg, prx_t *du, prx_ct *dy, prx_ct *g,
                          prx_ct *u);

    /*
     * flow_mix - a point on the straight path and its velocity (Liu et al. 2022,
     * arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747): t = 1 is noise.
     *     xt = (1 - t_b) x0 + t_b noise,  v = noise - x0
     * @xt, @v, @x0, @noise [B, ...]  @t [B]; v may be NULL
     */
    int (*flow_mix)(prx_be *be, prx_t *xt, prx_t *v, prx_ct *x0, prx_ct *noise,
                    prx_ct *t);

    /*
     * x0_velocity_fwd - the velocity at x_t of a network that predicts x0 (Li & He
     * 2025, arXiv:2511.13720).
     *     v = (xt - x0) / max(t_b, t_min)
     * @v, @xt, @x0 [B, ...]  @t [B]  @t_min > 0; v may alias xt or x0
     */
    int (*x0_velocity_fwd)(prx_be *be, prx_t *v, prx_ct *xt, prx_ct *x0, prx_ct *t,
                           float t_min);
    /* dx0 (+)= -dv / max(t_b, t_min). */
    int (*x0_velocity_bwd)(prx_be *be, prx_t *dx0, bool add, prx_ct *dv, prx_ct *t,
                           float t_min);

    /*
     * mse_fwd - loss[0] = mean over elements of (p - target)^2, summed in float64.
     * per_sample [B], or NULL, receives each sample's mean.
     */
    int (*mse_fwd)(prx_be *be, prx_t *loss, prx_t *per_sample, prx_ct *p,
                   prx_ct *target);
    /* dp (+)= 2 weight (p - target) / count. */
    int (*mse_bwd)(prx_be *be, prx_t *dp, bool add, prx_ct *p, prx_ct *target,
                   float weight);

    /* sumsq - out[0] += sum of squares of all elements; in float64, of sums in float32
     * of at most 1024. */
    int (*sumsq)(prx_be *be, prx_t *out, const struct prx_tensor *tensors, size_t n);

    /*
     * adamw - one step for n parameters (Loshchilov & Hutter 2017, arXiv:1711.05101).
     *     g = grad_scale g;  p *= 1 - lr wd
     *     m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
     *     p -= lr/(1-b1^k) m / (sqrt(v)/sqrt(1-b2^k) + eps);  0/0 counts as 0
     */
    int (*adamw)(prx_be *be, const struct prx_adamw_slot *slots, size_t n,
                 const struct prx_adamw_args *args);

    /*
     * muon - one step for n matrices: momentum, made nearly orthogonal (Jordan et al.
     * 2024, kellerjordan.github.io/posts/muon), as muon_fsdp2 and torch.optim.Muon.
     *     g = grad_scale g;  p *= 1 - lr wd
     *     m = mu m + (1-mu) g;  u = nesterov ? mu m + (1-mu) g : m
     *     X = u / (|u|_F + eps), or u / max(|u|_F, eps)
     *     ns_steps times: A = X X^T;  B = b A + (c A) A;  X = a X + B X
     *     p -= lr f X,  f = rms_scale ? 0.2 sqrt(max(O, I)) : sqrt(max(1, O/I))
     * f with rms_scale gives the update the size of AdamW's (Liu et al. 2025,
     * arXiv:2502.16982).  Of a matrix with O > I, X is the transpose.
     *
     * @bf16: u, |u|_F, the divisor, X, A and B are rounded to bf16, each product of
     * matrices being summed in float32; with PRX_MUON_EPS_ADD also b A, c A, (c A) A,
     * a X and B X, as that implementation has them as tensors.
     */
    int (*muon)(prx_be *be, const struct prx_muon_slot *slots, size_t n,
                const struct prx_muon_args *args);

    /* lerp - y = (1 - weight) y + weight x for n pairs of tensors, bf16 (EMA). */
    int (*lerp)(prx_be *be, const struct prx_tensor *ys, const struct prx_tensor *xs,
                size_t n, double weight);
};

/* The names of all slots, for tables: a backend's own, wrappers, tests. */
/* clang-format off */
#define PRX_FOR_EACH_OP(X)                                                       \
    X(linear_fwd) X(linear_bwd) X(silu_fwd) X(silu_bwd) X(add) X(axpby) X(cast)  \
    X(sinusoid) X(patchify) X(unpatchify) X(concat_tokens_fwd)                   \
    X(concat_tokens_bwd) X(gather_tokens_fwd) X(gather_tokens_bwd)               \
    X(merge_tokens_fwd) X(merge_tokens_bwd) X(ln_modulate_fwd)                   \
    X(ln_modulate_bwd) X(gate_residual_fwd) X(gate_residual_bwd)                 \
    X(head_norm_rope_fwd) X(head_norm_rope_bwd) X(attention_fwd)                 \
    X(attention_bwd) X(gated_gelu_fwd) X(gated_gelu_bwd) X(flow_mix)             \
    X(x0_velocity_fwd) X(x0_velocity_bwd) X(mse_fwd) X(mse_bwd) X(sumsq)         \
    X(adamw) X(muon) X(lerp)
/* clang-format on */

/* Declare prx_PLACE_OP with the type of the slot it fills. */
#define PRX_OP_DECLARE(place, op) \
 extern __typeof__(*((struct prx_ops *)0)->op) prx_##place##_##op

#ifdef __cplusplus
}
#endif
#endif
