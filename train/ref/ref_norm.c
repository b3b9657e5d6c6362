/* SPDX-License-Identifier: Apache-2.0 */
/* Modulated layer norm, gated residual, and the norm of heads with rotation. */
#include "train/ref/ref_internal.h"

#include <math.h>

/* Block i_block of D columns in row b of mod [B, K*D]. */
static float *mod_block(prx_ct *mod, int64_t b, int i_block, int64_t D)
{
    return (float *)mod->data + b * mod->dims[1] + i_block * D;
}

int prx_ref_ln_modulate_fwd(prx_be *be, prx_t *y, prx_t *mean, prx_t *rstd, prx_ct *x,
                            prx_ct *mod, int i_shift, int i_scale, float eps)
{
    struct prx_modulate_dims d;
    (void)be;
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_fwd", x, y, mod, i_shift));
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_fwd", x, y, mod, i_scale));
    PRX_TRY(prx_match_row_stats(&d, "ln_modulate_fwd", mean, rstd));
    int64_t N = d.N, D = d.D;

    for (int64_t r = 0; r < d.B * N; r++) {
        const float *x_row = (const float *)x->data + r * D;
        const float *shift = mod_block(mod, r / N, i_shift, D);
        const float *scale = mod_block(mod, r / N, i_scale, D);
        double sum = 0.0, sum_sq = 0.0;
        for (int64_t i = 0; i < D; i++)
            sum += x_row[i];
        double centre = sum / (double)D;
        for (int64_t i = 0; i < D; i++)
            sum_sq += (x_row[i] - centre) * (x_row[i] - centre);
        double inverse = 1.0 / sqrt(sum_sq / (double)D + eps);
        for (int64_t i = 0; i < D; i++)
            ((float *)y->data)[r * D + i] =
                (float)((1.0 + scale[i]) * (x_row[i] - centre) * inverse + shift[i]);
        ((float *)mean->data)[r] = (float)centre;
        ((float *)rstd->data)[r] = (float)inverse;
    }
    return 0;
}

int prx_ref_ln_modulate_bwd(prx_be *be, prx_t *dx, bool add, prx_t *dmod, prx_ct *dy,
                            prx_ct *x, prx_ct *mean, prx_ct *rstd, prx_ct *mod,
                            int i_shift, int i_scale)
{
    struct prx_modulate_dims d;
    (void)be;
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_bwd", x, dx, mod, i_shift));
    PRX_TRY(prx_match_modulate(&d, "ln_modulate_bwd", x, dy, dmod, i_scale));
    PRX_TRY(prx_match_row_stats(&d, "ln_modulate_bwd", mean, rstd));
    int64_t N = d.N, D = d.D;

    /* dshift = sum_n dy, dscale = sum_n dy xhat, xhat = (x - mean) rstd */
    for (int64_t b = 0; b < d.B; b++) {
        for (int64_t i = 0; i < D; i++) {
            double dshift = 0.0, dscale = 0.0;
            for (int64_t r = b * N; r < (b + 1) * N; r++) {
                double xhat = ((double)((const float *)x->data)[r * D + i] -
                               ((const float *)mean->data)[r]) *
                              ((const float *)rstd->data)[r];
                dshift += ((const float *)dy->data)[r * D + i];
                dscale += ((const float *)dy->data)[r * D + i] * xhat;
            }
            mod_block(dmod, b, i_shift, D)[i] = (float)dshift;
            mod_block(dmod, b, i_scale, D)[i] = (float)dscale;
        }
    }
    /* g = (1 + scale) dy;  dx = rstd (g - mean_d g - xhat mean_d (g xhat)) */
    for (int64_t r = 0; r < d.B * N; r++) {
        const float *x_row = (const float *)x->data + r * D;
        const float *dy_row = (const float *)dy->data + r * D;
        const float *scale = mod_block(mod, r / N, i_scale, D);
        double centre = ((const float *)mean->data)[r];
        double inverse = ((const float *)rstd->data)[r];
        double sum_g = 0.0, sum_gx = 0.0;
        for (int64_t i = 0; i < D; i++) {
            double g = (1.0 + scale[i]) * dy_row[i];
            sum_g += g;
            sum_gx += g * (x_row[i] - centre) * inverse;
        }
        for (int64_t i = 0; i < D; i++) {
            double g = (1.0 + scale[i]) * dy_row[i];
            double xhat = (x_row[i] - centre) * inverse;
            float *out = (float *)dx->data + r * D + i;
            double before = add ? *out : 0.0;
            *out = (float)(before + inverse * (g - sum_g / (double)D -
                                               xhat * sum_gx / (double)D));
        }
    }
    return 0;
}

int prx_ref_gate_residual_fwd(prx_be *be, prx_t *y, prx_ct *h, prx_ct *x, prx_ct *mod,
                              int i_gate)
{
    struct prx_modulate_dims d;
    (void)be;
    PRX_TRY(prx_match_modulate(&d, "gate_residual_fwd", x, y, mod, i_gate));
    PRX_TRY(prx_match_modulate(&d, "gate_residual_fwd", x, h, mod, i_gate));
    int64_t N = d.N, D = d.D;

    for (int64_t r = 0; r < d.B * N; r++) {
        const float *gate = mod_block(mod, r / N, i_gate, D);
        for (int64_t i = r * D; i < (r + 1) * D; i++)
            ((float *)y->data)[i] =
                (float)(((const float *)h->data)[i] +
                        (double)gate[i - r * D] * ((const float *)x->data)[i]);
    }
    return 0;
}

int prx_ref_gate_residual_bwd(prx_be *be, prx_t *dx, prx_t *dmod, prx_ct *dy, prx_ct *x,
                              prx_ct *mod, int i_gate)
{
    struct prx_modulate_dims d;
    (void)be;
    PRX_TRY(prx_match_modulate(&d, "gate_residual_bwd", x, dx, mod, i_gate));
    PRX_TRY(prx_match_modulate(&d, "gate_residual_bwd", x, dy, dmod, i_gate));
    int64_t N = d.N, D = d.D;

    for (int64_t b = 0; b < d.B; b++) {
        for (int64_t i = 0; i < D; i++) {
            double gate = mod_block(mod, b, i_gate, D)[i];
            double dgate = 0.0;
            for (int64_t r = b * N; r < (b + 1) * N; r++) {
                double grad = ((const float *)dy->data)[r * D + i];
                dgate += grad * ((const float *)x->data)[r * D + i];
                ((float *)dx->data)[r * D + i] = (float)(gate * grad);
            }
            mod_block(dmod, b, i_gate, D)[i] = (float)dgate;
        }
    }
    return 0;
}
