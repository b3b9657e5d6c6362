/* SPDX-License-Identifier: Apache-2.0 */
/* Norms within a row: two or three passes over a row that stays in the first cache. */
#include <math.h>

#include "train/cpu/norm_internal.h"
#include "train/cpu/vector_internal.h"

/* Whole vectors of n elements; the rest is one padded vector. */
#define FULL(n) ((n) - (n) % LANES)

static void ln_fwd(float *y, float *mean, float *rstd, const float *x,
                   const float *shift, const float *scale, int64_t D, float eps)
{
    int64_t rest = D % LANES;
    vf sum = {0}, square = {0};

    for (int64_t i = 0; i < D; i += LANES)
        sum += v_load_upto(x + i, D - i);
    float centre = v_sum(sum) / (float)D;
    for (int64_t i = 0; i < FULL(D); i += LANES) {
        vf gap = v_load(x + i) - centre;
        square += gap * gap;
    }
    float total = v_sum(square);
    for (int64_t i = D - rest; i < D; i++)
        total += (x[i] - centre) * (x[i] - centre);
    float inverse = 1.0F / sqrtf(total / (float)D + eps);
    for (int64_t i = 0; i < D; i += LANES) {
        vf xhat = (v_load_upto(x + i, D - i) - centre) * inverse;
        v_store_upto(y + i,
                     (1.0F + v_load_upto(scale + i, D - i)) * xhat +
                         v_load_upto(shift + i, D - i),
                     D - i);
    }
    *mean = centre;
    *rstd = inverse;
}

static void ln_bwd(float *dx, bool add, float *dshift, float *dscale, const float *dy,
                   const float *x, const float *scale, float mean, float rstd,
                   int64_t D)
{
    vf sum_g = {0}, sum_gx = {0};

    for (int64_t i = 0; i < D; i += LANES) {
        vf grad = v_load_upto(dy + i, D - i);
        vf xhat = (v_load_upto(x + i, D - i) - mean) * rstd;
        vf g = (1.0F + v_load_upto(scale + i, D - i)) * grad;
        sum_g += g;
        sum_gx += g * xhat; /* padded lanes: g is 0 */
        v_store_upto(dshift + i, v_load_upto(dshift + i, D - i) + grad, D - i);
        v_store_upto(dscale + i, v_load_upto(dscale + i, D - i) + grad * xhat, D - i);
    }
    float mean_g = v_sum(sum_g) / (float)D, mean_gx = v_sum(sum_gx) / (float)D;
    for (int64_t i = 0; i < D; i += LANES) {
        vf g = (1.0F + v_load_upto(scale + i, D - i)) * v_load_upto(dy + i, D - i);
        vf xhat = (v_load_upto(x + i, D - i) - mean) * rstd;
        vf out = rstd * (g - mean_g - xhat * mean_gx);
        v_store_upto(dx + i, add ? v_load_upto(dx + i, D - i) + out : out, D - i);
    }
}

static void gate_fwd(float *y, const float *h, const float *x, const float *gate,
                     int64_t D)
{
    for (int64_t i = 0; i < D; i += LANES)
        v_store_upto(y + i,
                     v_load_upto(h + i, D - i) +
                         v_load_upto(gate + i, D - i) * v_load_upto(x + i, D - i),
                     D - i);
}

static void gate_bwd(float *dx, float *dgate, const float *dy, const float *x,
                     const float *gate, int64_t D)
{
    for (int64_t i = 0; i < D; i += LANES) {
        vf grad = v_load_upto(dy + i, D - i);
        v_store_upto(dgate + i,
                     v_load_upto(dgate + i, D - i) + grad * v_load_upto(x + i, D - i),
                     D - i);
        v_store_upto(dx + i, grad * v_load_upto(gate + i, D - i), D - i);
    }
}

/* The two of each pair exchanged. */
INLINE vf swap_pairs(vf v)
{
#if LANES == 16
    return __builtin_shuffle(
        v, (vi){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
#elif LANES == 8
    return __builtin_shuffle(v, (vi){1, 0, 3, 2, 5, 4, 7, 6});
#else
    return __builtin_shuffle(v, (vi){1, 0, 3, 2});
#endif
}

static void head_fwd(float *y, float *rrms, const float *x, const float *turn,
                     int64_t NH, int64_t HD, float eps)
{
    for (int64_t h = 0; h < NH; h++, x += HD, y += HD) {
        vf square = {0};
        for (int64_t i = 0; i < HD; i += LANES) {
            vf v = v_load_upto(x + i, HD - i);
            square += v * v;
        }
        rrms[h] = 1.0F / sqrtf(v_sum(square) / (float)HD + eps);
        for (int64_t i = 0; i < HD; i += LANES) {
            vf v = v_load_upto(x + i, HD - i) * rrms[h];
            v_store_upto(y + i,
                         v * v_load_upto(turn + i, HD - i) +
                             swap_pairs(v) * v_load_upto(turn + HD + i, HD - i),
                         HD - i);
        }
    }
}

static void head_bwd(float *dx, float *dscale, const float *dy, const float *x,
                     const float *rrms, const float *scale, const float *turn,
                     int64_t NH, int64_t HD)
{
    for (int64_t h = 0; h < NH; h++, x += HD, dy += HD, dx += HD) {
        vf sum = {0};
        for (int64_t i = 0; i < HD; i += LANES) {
            vf grad = v_load_upto(dy + i, HD - i);
            vf du = grad * v_load_upto(turn + i, HD - i) +
                    swap_pairs(grad) * v_load_upto(turn + HD + i, HD - i);
            vf along = du * v_load_upto(x + i, HD - i) * rrms[h];
            vf du_scaled = du * v_load_upto(scale + i, HD - i);
            v_store_upto(dscale + i, v_load_upto(dscale + i, HD - i) + along, HD - i);
            v_store_upto(dx + i, du_scaled, HD - i);
            sum += du_scaled * v_load_upto(x + i, HD - i);
        }
        float factor = v_sum(sum) * rrms[h] * rrms[h] / (float)HD;
        for (int64_t i = 0; i < HD; i += LANES)
            v_store_upto(dx + i,
                         rrms[h] * (v_load_upto(dx + i, HD - i) -
                                    v_load_upto(x + i, HD - i) * factor),
                         HD - i);
    }
}

static void accumulate(float *sum, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        v_store_upto(sum + i, v_load_upto(sum + i, n - i) + v_load_upto(x + i, n - i),
                     n - i);
}

const struct prx_norm_kernels PRX_SIMD_NAME(prx_norm_kernels) = {
    .ln_fwd = ln_fwd,
    .ln_bwd = ln_bwd,
    .gate_fwd = gate_fwd,
    .gate_bwd = gate_bwd,
    .head_fwd = head_fwd,
    .head_bwd = head_bwd,
    .accumulate = accumulate,
};
