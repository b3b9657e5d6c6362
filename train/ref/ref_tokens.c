/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that place numbers: patches, joined tokens, sinusoids. */
#include "train/ref/ref_internal.h"

#include <math.h>

int prx_ref_sinusoid(prx_be *be, prx_t *y, int64_t col, int64_t dim, prx_ct *v,
                     float factor, float max_period)
{
    struct prx_sinusoid_dims d;
    int64_t half = dim / 2;
    (void)be;
    PRX_TRY(prx_match_sinusoid(&d, "sinusoid", y, col, dim, v));

    for (int64_t b = 0; b < d.B; b++) {
        float *row = (float *)y->data + b * d.X + col;
        for (int64_t j = 0; j < half; j++) {
            double freq = exp(-log(max_period) * (double)j / (double)half);
            double angle = (double)factor * ((const float *)v->data)[b] * freq;
            row[j] = (float)cos(angle);
            row[half + j] = (float)sin(angle);
        }
    }
    return 0;
}

/* Index in [B, N, C*P*P] of pixel (y, x) of channel c. */
static int64_t token_index(const struct prx_patch_dims *d, int64_t b, int64_t c,
                           int64_t y, int64_t x)
{
    int64_t n = (y / d->P) * (d->W / d->P) + x / d->P;
    int64_t n_tokens = (d->H / d->P) * (d->W / d->P);
    return ((b * n_tokens + n) * d->C + c) * d->P * d->P + (y % d->P) * d->P + x % d->P;
}

int prx_ref_patchify(prx_be *be, prx_t *y, prx_ct *x, int64_t patch)
{
    struct prx_patch_dims d;
    const float *pixel = x->data;
    (void)be;
    PRX_TRY(prx_match_patch(&d, "patchify", y, x, patch));

    for (int64_t b = 0; b < d.B; b++)
        for (int64_t c = 0; c < d.C; c++)
            for (int64_t row = 0; row < d.H; row++)
                for (int64_t column = 0; column < d.W; column++)
                    ((float *)y->data)[token_index(&d, b, c, row, column)] = *pixel++;
    return 0;
}

int prx_ref_unpatchify(prx_be *be, prx_t *x, prx_ct *y, int64_t patch)
{
    struct prx_patch_dims d;
    float *pixel = x->data;
    (void)be;
    PRX_TRY(prx_match_patch(&d, "unpatchify", y, x, patch));

    for (int64_t b = 0; b < d.B; b++)
        for (int64_t c = 0; c < d.C; c++)
            for (int64_t row = 0; row < d.H; row++)
                for (int64_t column = 0; column < d.W; column++)
                    *pixel++ =
                        ((const float *)y->data)[token_index(&d, b, c, row, column)];
    return 0;
}

int prx_ref_concat_tokens_fwd(prx_be *be, prx_t *y, prx_ct *a, prx_ct *x)
{
    struct prx_concat_dims d;
    float *out = y->data;
    (void)be;
    PRX_TRY(prx_match_concat(&d, "concat_tokens_fwd", y, a, x));

    for (int64_t b = 0; b < d.B; b++) {
        for (int64_t i = 0; i < d.LA * d.X; i++)
            *out++ = ((const float *)a->data)[b * d.LA * d.X + i];
        for (int64_t i = 0; i < d.LX * d.X; i++)
            *out++ = ((const float *)x->data)[b * d.LX * d.X + i];
    }
    return 0;
}

int prx_ref_concat_tokens_bwd(prx_be *be, prx_t *da, prx_t *dx, prx_ct *dy)
{
    struct prx_concat_dims d;
    const float *in = dy->data;
    (void)be;
    PRX_TRY(prx_match_concat(&d, "concat_tokens_bwd", dy, da, dx));

    for (int64_t b = 0; b < d.B; b++) {
        for (int64_t i = 0; i < d.LA * d.X; i++, in++)
            if (da)
                ((float *)da->data)[b * d.LA * d.X + i] = *in;
        for (int64_t i = 0; i < d.LX * d.X; i++, in++)
            if (dx)
                ((float *)dx->data)[b * d.LX * d.X + i] = *in;
    }
    return 0;
}
