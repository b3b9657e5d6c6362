/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels over plain runs of floats; any of the arrays may be the same one. */
#ifndef PRX_TRAIN_CPU_ELEMENTWISE_INTERNAL_H
#define PRX_TRAIN_CPU_ELEMENTWISE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "libdata/simd.h"
#include "train/bf16.h"

/* adamw's constants of one step, derived once in float64. */
struct prx_adamw_rates {
    float grad_scale;
    float keep; /* 1 - lr wd */
    float beta1, one_less_beta1;
    float beta2, one_less_beta2;
    float rate;         /* lr / (1 - beta1^k) */
    float inverse_root; /* 1 / sqrt(1 - beta2^k) */
    float eps;
};

/* muon's constants of one step. */
struct prx_muon_rates {
    float grad_scale;
    float keep;   /* mu */
    float weight; /* 1 - mu */
    bool nesterov;
};

/* Which of the results behind one another become bf16 numbers. */
enum prx_rounding {
    PRX_ROUND_NONE,
    PRX_ROUND_LAST,
    PRX_ROUND_EACH,
};

struct prx_elementwise_kernels {
    void (*silu_fwd)(float *y, const float *x, int64_t n);
    void (*silu_bwd)(float *dx, bool add, const float *dy, const float *x, int64_t n);
    void (*gated_gelu_fwd)(float *y, const float *g, const float *u, int64_t n);
    void (*gated_gelu_bwd)(float *dg, float *du, const float *dy, const float *g,
                           const float *u, int64_t n);
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    void (*axpby)(float *y, float alpha, const float *x, float beta, int64_t n);
    void (*flow_mix)(float *xt, float *v, const float *x0, const float *noise, float t,
                     int64_t n); /* v may be NULL */
    void (*mse_bwd)(float *dp, bool add, const float *p, const float *target,
                    float factor, int64_t n);
    void (*adamw)(float *p, const float *g, float *m, float *v, int64_t n,
                  const struct prx_adamw_rates *rates);
    /* m and u, the update, of a gradient. */
    void (*muon)(float *m, float *u, const float *g, int64_t n,
                 const struct prx_muon_rates *rates);
    /* y = alpha x + z; z may be NULL: y = alpha x. */
    void (*scale_add)(float *y, float alpha, const float *x, const float *z,
                      enum prx_rounding rounding, int64_t n);
    void (*divide)(float *y, const float *x, float divisor, enum prx_rounding rounding,
                   int64_t n);
    void (*widen)(float *y, const prx_bf16 *x, int64_t n);
    void (*narrow)(prx_bf16 *y, const float *x, int64_t n);
    void (*lerp)(float *y, const float *x, float keep, float weight, int64_t n);
    double (*sumsq)(const float *x, int64_t n);
    double (*sumsq_gap)(const float *a, const float *b, int64_t n);
};

PRX_SIMD_DECLARE(struct prx_elementwise_kernels, prx_elementwise_kernels);

#endif
