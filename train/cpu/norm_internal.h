/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of norms: one row of D, or the heads of one token. */
#ifndef PRX_TRAIN_CPU_NORM_INTERNAL_H
#define PRX_TRAIN_CPU_NORM_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "libdata/simd.h"

struct prx_norm_kernels {
    /* y = (1 + scale) (x - *mean) *rstd + shift, with *mean and *rstd found first. */
    void (*ln_fwd)(float *y, float *mean, float *rstd, const float *x,
                   const float *shift, const float *scale, int64_t D, float eps);
    /* dx (+)= ...;  dshift += dy;  dscale += dy (x - mean) rstd */
    void (*ln_bwd)(float *dx, bool add, float *dshift, float *dscale, const float *dy,
                   const float *x, const float *scale, float mean, float rstd,
                   int64_t D);
    /* y = h + gate x */
    void (*gate_fwd)(float *y, const float *h, const float *x, const float *gate,
                     int64_t D);
    /* dx = gate dy;  dgate += dy x */
    void (*gate_bwd)(float *dx, float *dgate, const float *dy, const float *x,
                     const float *gate, int64_t D);
    /*
     * All heads of one token: y = rrms (x turn[0] + swap(x) turn[1]), where swap
     * exchanges the two of each pair; turn is [2][HD], scale folded in.
     */
    void (*head_fwd)(float *y, float *rrms, const float *x, const float *turn,
                     int64_t NH, int64_t HD, float eps);
    /*
     * du = dy turn[0] + swap(dy) turn[1];  dscale += du x rrms
     * dx = rrms (du scale - x rrms^2 mean(du scale x))
     */
    void (*head_bwd)(float *dx, float *dscale, const float *dy, const float *x,
                     const float *rrms, const float *scale, const float *turn,
                     int64_t NH, int64_t HD);
    /* sum += x */
    void (*accumulate)(float *sum, const float *x, int64_t n);
};

PRX_SIMD_DECLARE(struct prx_norm_kernels, prx_norm_kernels);

#endif
