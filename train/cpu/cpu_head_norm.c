/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Norm and rotation of heads, tokens shared out among threads.
 *
 * A token's cosines, sines and the norm's scale become one table [2][HD] for all of
 * its heads: y = rrms (x turn[0] + swap(x) turn[1]), swap exchanging pairs.
 */
#include "train/cpu/cpu_internal.h"
#include "train/cpu/norm_internal.h"

#include <string.h>

/* Tokens with one partial sum of dscale, and one table at a time. */
#define SPAN_TOKENS 64

static const struct prx_norm_kernels *kernels(void)
{
    return PRX_SIMD_PICK(prx_norm_kernels);
}

/* Token r's row of the rope table, or NULL. */
static const float *rope_row(const struct prx_head_norm_dims *d, prx_ct *rope,
                             int64_t r)
{
    if (prx_tensor_is_absent(rope))
        return NULL;
    return (const float *)rope->data + r / d->N * d->rope_stride + r % d->N * d->HD;
}

/* The rotation forth, of scaled elements. */
static void turn_fwd(float *turn, const float *rope, const float *scale, int64_t HD)
{
    for (int64_t m = 0; m < HD / 2; m++) {
        float cosine = rope ? rope[m] : 1.0F, sine = rope ? rope[HD / 2 + m] : 0.0F;
        turn[2 * m] = cosine * scale[2 * m];
        turn[2 * m + 1] = cosine * scale[2 * m + 1];
        turn[HD + 2 * m] = -sine * scale[2 * m + 1];
        turn[HD + 2 * m + 1] = sine * scale[2 * m];
    }
    if (HD % 2 != 0) { /* without rope only: no pair, no rotation */
        turn[HD - 1] = scale[HD - 1];
        turn[2 * HD - 1] = 0.0F;
    }
}

/* The rotation back. */
static void turn_bwd(float *turn, const float *rope, int64_t HD)
{
    for (int64_t m = 0; m < HD / 2; m++) {
        float cosine = rope ? rope[m] : 1.0F, sine = rope ? rope[HD / 2 + m] : 0.0F;
        turn[2 * m] = turn[2 * m + 1] = cosine;
        turn[HD + 2 * m] = sine;
        turn[HD + 2 * m + 1] = -sine;
    }
    if (HD % 2 != 0) {
        turn[HD - 1] = 1.0F;
        turn[2 * HD - 1] = 0.0F;
    }
}

int prx_cpu_head_norm_rope_fwd(prx_be *be, prx_t *y, prx_t *rrms, prx_ct *x,
                               int64_t col, prx_ct *scale, prx_ct *rope, float eps)
{
    struct prx_head_norm_dims d;
    float *turns = NULL; /* [n_spans][2][HD] */
    PRX_TRY(
        prx_match_head_norm(&d, "head_norm_rope_fwd", y, x, col, rrms, scale, rope));
    int64_t n_rows = d.B * d.N, D = d.NH * d.HD;
    int64_t n_spans = (n_rows + SPAN_TOKENS - 1) / SPAN_TOKENS;
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(n_rows * D));
    PRX_TRY(prx_cpu_scratch(be, n_spans * 2 * d.HD, &turns));

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < n_spans; i++) {
        float *turn = turns + i * 2 * d.HD;
        for (int64_t r = i * SPAN_TOKENS; r < n_rows && r < (i + 1) * SPAN_TOKENS;
             r++) {
            const float *angles = rope_row(&d, rope, r);
            if (angles || r == i * SPAN_TOKENS)
                turn_fwd(turn, angles, scale->data, d.HD);
            kernels()->head_fwd(
                (float *)y->data + r * D, (float *)rrms->data + r * d.NH,
                (const float *)x->data + r * d.X + col, turn, d.NH, d.HD, eps);
        }
    }
    return 0;
}

int prx_cpu_head_norm_rope_bwd(prx_be *be, prx_t *dx, prx_t *dscale, prx_ct *dy,
                               prx_ct *x, int64_t col, prx_ct *rrms, prx_ct *scale,
                               prx_ct *rope)
{
    struct prx_head_norm_dims d, d_grad;
    float *partial = NULL; /* [n_spans][3][HD]: dscale, then the turn */
    PRX_TRY(prx_match_head_norm(&d_grad, "head_norm_rope_bwd", dy, dx, col, rrms,
                                dscale, rope));
    PRX_TRY(
        prx_match_head_norm(&d, "head_norm_rope_bwd", dy, x, col, rrms, scale, rope));
    int64_t n_rows = d.B * d.N, D = d.NH * d.HD;
    int64_t n_spans = (n_rows + SPAN_TOKENS - 1) / SPAN_TOKENS;
    int n_team = prx_cpu_team(be, prx_cpu_n_runs(n_rows * D));
    PRX_TRY(prx_cpu_scratch(be, n_spans * 3 * d.HD, &partial));

#pragma omp parallel for schedule(static) num_threads(n_team)
    for (int64_t i = 0; i < n_spans; i++) {
        float *sum = partial + i * 3 * d.HD, *turn = sum + d.HD;
        memset(sum, 0, (size_t)d.HD * sizeof(float));
        for (int64_t r = i * SPAN_TOKENS; r < n_rows && r < (i + 1) * SPAN_TOKENS;
             r++) {
            const float *angles = rope_row(&d, rope, r);
            if (angles || r == i * SPAN_TOKENS)
                turn_bwd(turn, angles, d.HD);
            kernels()->head_bwd(
                (float *)dx->data + r * d_grad.X + col, sum,
                (const float *)dy->data + r * D, (const float *)x->data + r * d.X + col,
                (const float *)rrms->data + r * d.NH, scale->data, turn, d.NH, d.HD);
        }
    }
    for (int64_t i = 0; i < n_spans; i++)
        kernels()->accumulate(dscale->data, partial + i * 3 * d.HD, d.HD);
    return 0;
}
