/* SPDX-License-Identifier: Apache-2.0 */
/* Root-mean-square norm of each head, then its rotation by position. */
#include "train/ref/ref_internal.h"

#include <math.h>

/* Cosine and sine of pair m at token n of sample b; (1, 0) without a table. */
struct turn {
    double cosine, sine;
};

static struct turn turn_of(const struct prx_head_norm_dims *d, const float *rope,
                           int64_t b, int64_t n, int64_t m)
{
    if (!rope)
        return (struct turn){1.0, 0.0};
    const float *row = rope + b * d->rope_stride + n * d->HD;
    return (struct turn){row[m], row[d->HD / 2 + m]};
}

int prx_ref_head_norm_rope_fwd(prx_be *be, prx_t *y, prx_t *rrms, prx_ct *x,
                               int64_t col, prx_ct *scale, prx_ct *rope, float eps)
{
    struct prx_head_norm_dims d;
    (void)be;
    PRX_TRY(
        prx_match_head_norm(&d, "head_norm_rope_fwd", y, x, col, rrms, scale, rope));
    const float *s = scale->data;
    const float *table = prx_tensor_is_absent(rope) ? NULL : rope->data;

    for (int64_t i = 0; i < d.B * d.N * d.NH; i++) {
        int64_t r = i / d.NH, h = i % d.NH;
        const float *in = (const float *)x->data + r * d.X + col + h * d.HD;
        float *out = (float *)y->data + i * d.HD;
        double sum_sq = 0.0;
        for (int64_t k = 0; k < d.HD; k++)
            sum_sq += (double)in[k] * in[k];
        double inverse = 1.0 / sqrt(sum_sq / (double)d.HD + eps);
        ((float *)rrms->data)[i] = (float)inverse;
        for (int64_t k = 0; k < d.HD; k++)
            out[k] = (float)(in[k] * inverse * s[k]);
        for (int64_t m = 0; table && m < d.HD / 2; m++) {
            struct turn turn = turn_of(&d, table, r / d.N, r % d.N, m);
            double even = in[2 * m] * inverse * s[2 * m];
            double odd = in[2 * m + 1] * inverse * s[2 * m + 1];
            out[2 * m] = (float)(even * turn.cosine - odd * turn.sine);
            out[2 * m + 1] = (float)(even * turn.sine + odd * turn.cosine);
        }
    }
    return 0;
}

/* Element k of the head i of dy, rotated back. */
static double turned_back(const struct prx_head_norm_dims *d, const float *dy,
                          const float *rope, int64_t i, int64_t k)
{
    int64_t r = i / d->NH;
    struct turn turn = turn_of(d, rope, r / d->N, r % d->N, k / 2);
    const float *head = dy + i * d->HD;
    if (!rope)
        return head[k];
    return k % 2 == 0 ? head[k] * turn.cosine + head[k + 1] * turn.sine
                      : head[k] * turn.cosine - head[k - 1] * turn.sine;
}

int prx_ref_head_norm_rope_bwd(prx_be *be, prx_t *dx, prx_t *dscale, prx_ct *dy,
                               prx_ct *x, int64_t col, prx_ct *rrms, prx_ct *scale,
                               prx_ct *rope)
{
    struct prx_head_norm_dims d;
    (void)be;
    PRX_TRY(
        prx_match_head_norm(&d, "head_norm_rope_bwd", dy, x, col, rrms, scale, rope));
    PRX_TRY(
        prx_match_head_norm(&d, "head_norm_rope_bwd", dy, dx, col, rrms, dscale, rope));
    const float *s = scale->data, *inverses = rrms->data, *grad = dy->data;
    const float *table = prx_tensor_is_absent(rope) ? NULL : rope->data;
    int64_t n_heads = d.B * d.N * d.NH;

    /* u = x rrms scale;  dx = rrms (du scale - x rrms^2 mean_d (du scale x)) */
    for (int64_t i = 0; i < n_heads; i++) {
        int64_t at = i / d.NH * dx->dims[2] + col + i % d.NH * d.HD;
        const float *in =
            (const float *)x->data + i / d.NH * d.X + col + i % d.NH * d.HD;
        double inverse = inverses[i];
        double sum = 0.0;
        for (int64_t k = 0; k < d.HD; k++)
            sum += turned_back(&d, grad, table, i, k) * s[k] * in[k];
        for (int64_t k = 0; k < d.HD; k++) {
            double du = turned_back(&d, grad, table, i, k);
            double along = in[k] * inverse * inverse * sum / (double)d.HD;
            ((float *)dx->data)[at + k] = (float)(inverse * (du * s[k] - along));
        }
    }
    /* dscale += sum du x rrms */
    for (int64_t k = 0; k < d.HD; k++) {
        double sum = ((const float *)dscale->data)[k];
        for (int64_t i = 0; i < n_heads; i++) {
            int64_t at = i / d.NH * d.X + col + i % d.NH * d.HD + k;
            sum += turned_back(&d, grad, table, i, k) * ((const float *)x->data)[at] *
                   inverses[i];
        }
        ((float *)dscale->data)[k] = (float)sum;
    }
    return 0;
}
