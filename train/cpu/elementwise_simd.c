/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to one element after another: activations, sums, optimiser.
 *
 * Each kernel is one expression over vectors, the last of which is padded where the
 * count asks for it.  Sums over elements are float64: each vector lane has its own,
 * added up in pairs at the end; but for sumsq, which reads more than it adds.
 */
#include <math.h>
#include <stddef.h>

#include "train/cpu/elementwise_internal.h"
#include "train/cpu/vector_internal.h"

INLINE vf sigmoid(vf x)
{
    return 1.0F / (1.0F + v_exp(-x));
}

static void silu_fwd(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = v_load_upto(x + i, n - i);
        v_store_upto(y + i, v * sigmoid(v), n - i);
    }
}

static void silu_bwd(float *dx, bool add, const float *dy, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = v_load_upto(x + i, n - i);
        vf s = sigmoid(v);
        vf grad = v_load_upto(dy + i, n - i) * s * (1.0F + v * (1.0F - s));
        v_store_upto(dx + i, add ? v_load_upto(dx + i, n - i) + grad : grad, n - i);
    }
}

/*
 * gelu(x) = x (1 + tanh z)/2 = x sigmoid(2z),  2z = x (C1 + C3 x^2)
 * gelu'(x) = s + x s (1 - s) (C1 + 3 C3 x^2)
 */
#define GELU_C1 1.5957691216F /* 2 sqrt(2/pi) */
#define GELU_C3 0.0713548163F /* C1 * 0.044715 */

static void gated_gelu_fwd(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf x = v_load_upto(g + i, n - i);
        vf s = sigmoid(x * (x * x * GELU_C3 + GELU_C1));
        v_store_upto(y + i, x * s * v_load_upto(u + i, n - i), n - i);
    }
}

static void gated_gelu_bwd(float *dg, float *du, const float *dy, const float *g,
                           const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf x = v_load_upto(g + i, n - i);
        vf grad = v_load_upto(dy + i, n - i), gate = v_load_upto(u + i, n - i);
        vf square = x * x;
        vf s = sigmoid(x * (square * GELU_C3 + GELU_C1));
        vf slope = s + x * s * (1.0F - s) * (square * (3.0F * GELU_C3) + GELU_C1);
        v_store_upto(du + i, grad * x * s, n - i);
        v_store_upto(dg + i, grad * gate * slope, n - i);
    }
}

static void add(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        v_store_upto(y + i, v_load_upto(a + i, n - i) + v_load_upto(b + i, n - i),
                     n - i);
}

static void axpby(float *y, float alpha, const float *x, float beta, int64_t n)
{
    if (beta == 0) {
        for (int64_t i = 0; i < n; i += LANES)
            v_store_upto(y + i, alpha * v_load_upto(x + i, n - i), n - i);
        return;
    }
    for (int64_t i = 0; i < n; i += LANES)
        v_store_upto(
            y + i, alpha * v_load_upto(x + i, n - i) + beta * v_load_upto(y + i, n - i),
            n - i);
}

static void flow_mix(float *xt, float *v, const float *x0, const float *noise, float t,
                     int64_t n)
{
    float keep = 1.0F - t;
    for (int64_t i = 0; i < n; i += LANES) {
        vf clean = v_load_upto(x0 + i, n - i), noisy = v_load_upto(noise + i, n - i);
        v_store_upto(xt + i, keep * clean + t * noisy, n - i);
        if (v)
            v_store_upto(v + i, noisy - clean, n - i);
    }
}

static void mse_bwd(float *dp, bool add, const float *p, const float *target,
                    float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf grad = factor * (v_load_upto(p + i, n - i) - v_load_upto(target + i, n - i));
        v_store_upto(dp + i, add ? v_load_upto(dp + i, n - i) + grad : grad, n - i);
    }
}

INLINE vf v_sqrt(vf v)
{
    float lanes[LANES];
    v_store(lanes, v);
    for (int i = 0; i < LANES; i++)
        lanes[i] = sqrtf(lanes[i]);
    return v_load(lanes);
}

static void adamw(float *p, const float *g, float *m, float *v, int64_t n,
                  const struct prx_adamw_rates *r)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf grad = r->grad_scale * v_load_upto(g + i, n - i);
        vf mean = r->beta1 * v_load_upto(m + i, n - i) + r->one_less_beta1 * grad;
        vf square =
            r->beta2 * v_load_upto(v + i, n - i) + r->one_less_beta2 * grad * grad;
        vf divisor = v_sqrt(square) * r->inverse_root + r->eps;
        divisor = v_select(mean == 0.0F, v_set(1.0F), divisor); /* 0/0 is 0 */
        v_store_upto(m + i, mean, n - i);
        v_store_upto(v + i, square, n - i);
        v_store_upto(p + i,
                     r->keep * v_load_upto(p + i, n - i) - r->rate * mean / divisor,
                     n - i);
    }
}

static void muon(float *m, float *u, const float *g, int64_t n,
                 const struct prx_muon_rates *r)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf part = r->weight * (r->grad_scale * v_load_upto(g + i, n - i));
        vf mean = r->keep * v_load_upto(m + i, n - i) + part;
        v_store_upto(m + i, mean, n - i);
        v_store_upto(u + i, r->nesterov ? r->keep * mean + part : mean, n - i);
    }
}

INLINE vf v_round_bf16(vf v, bool is_wanted)
{
    return is_wanted ? (vf)v_round_bits(v) : v;
}

static void scale_add(float *y, float alpha, const float *x, const float *z,
                      enum prx_rounding rounding, int64_t n)
{
    bool each = rounding == PRX_ROUND_EACH, last = rounding != PRX_ROUND_NONE;
    for (int64_t i = 0; i < n; i += LANES) {
        vf sum = v_round_bf16(alpha * v_load_upto(x + i, n - i), z ? each : last);
        if (z)
            sum = v_round_bf16(sum + v_round_bf16(v_load_upto(z + i, n - i), each),
                               last);
        v_store_upto(y + i, sum, n - i);
    }
}

static void divide(float *y, const float *x, float divisor, enum prx_rounding rounding,
                   int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        v_store_upto(y + i,
                     v_round_bf16(v_load_upto(x + i, n - i) / divisor,
                                  rounding != PRX_ROUND_NONE),
                     n - i);
}

static void widen(float *y, const prx_bf16 *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        v_store_upto(y + i, v_load_bf16_upto(x + i, n - i), n - i);
}

static void narrow(prx_bf16 *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        v_store_bf16_upto(y + i, v_load_upto(x + i, n - i), n - i);
}

static void lerp(float *y, const float *x, float keep, float weight, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        v_store_upto(y + i,
                     keep * v_load_upto(y + i, n - i) +
                         weight * v_load_upto(x + i, n - i),
                     n - i);
}

typedef double vd __attribute__((vector_size(8 * LANES)));

INLINE double vd_sum(const vd *v)
{
    double lanes[LANES];
    memcpy(lanes, v, sizeof(*v));
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            lanes[i] += lanes[i + n];
    return lanes[0];
}

/* Squares summed in float32 before they join the float64 sum: at most 64 a lane. */
#define SQUARES 1024
#define CHAINS  4 /* sums that do not wait for one another */

static float sumsq_part(const float *x, int64_t n)
{
    vf sum[CHAINS] = {{0}};
    int64_t i = 0;

    for (; i + CHAINS * LANES <= n; i += CHAINS * LANES) {
#pragma GCC unroll 4
        for (int64_t c = 0; c < CHAINS; c++) {
            vf v = v_load(x + i + c * LANES);
            sum[c] += v * v;
        }
    }
    for (; i < n; i += LANES) {
        vf v = v_load_upto(x + i, n - i);
        sum[0] += v * v;
    }
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static double sumsq(const float *x, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i += SQUARES)
        sum += (double)sumsq_part(x + i, n - i < SQUARES ? n - i : SQUARES);
    return sum;
}

static double sumsq_gap(const float *a, const float *b, int64_t n)
{
    vd sum = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        vd v = __builtin_convertvector(v_load_upto(a + i, n - i), vd) -
               __builtin_convertvector(v_load_upto(b + i, n - i), vd);
        sum += v * v;
    }
    return vd_sum(&sum);
}

const struct prx_elementwise_kernels PRX_SIMD_NAME(prx_elementwise_kernels) = {
    .silu_fwd = silu_fwd,
    .silu_bwd = silu_bwd,
    .gated_gelu_fwd = gated_gelu_fwd,
    .gated_gelu_bwd = gated_gelu_bwd,
    .add = add,
    .axpby = axpby,
    .flow_mix = flow_mix,
    .mse_bwd = mse_bwd,
    .adamw = adamw,
    .muon = muon,
    .scale_add = scale_add,
    .divide = divide,
    .widen = widen,
    .narrow = narrow,
    .lerp = lerp,
    .sumsq = sumsq,
    .sumsq_gap = sumsq_gap,
};
