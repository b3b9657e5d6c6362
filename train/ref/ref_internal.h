/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The specification of train/ops.h in plain loops: prx_ref_OP for every op.
 *
 * Read as mathematics.  Sums and transcendental functions are float64, each result
 * is rounded to float32 once, nothing is reordered or contracted.
 */
#ifndef PRX_TRAIN_REF_INTERNAL_H
#define PRX_TRAIN_REF_INTERNAL_H

#include "train/bf16.h"
#include "train/ops.h"

#define PRX_REF_DECLARE(op) PRX_OP_DECLARE(ref, op);
PRX_FOR_EACH_OP(PRX_REF_DECLARE)
#undef PRX_REF_DECLARE

extern const struct prx_ops prx_ref_ops;

/* Element @i of an f32 or bf16 tensor. */
static inline double prx_ref_get(const struct prx_tensor *x, int64_t i)
{
    if (x->dtype == PRX_BF16)
        return prx_bf16_to_f32(((const prx_bf16 *)x->data)[i]);
    return ((const float *)x->data)[i];
}

static inline void prx_ref_set(const struct prx_tensor *y, int64_t i, double value)
{
    if (y->dtype == PRX_BF16)
        ((prx_bf16 *)y->data)[i] = prx_bf16_from_f32((float)value);
    else
        ((float *)y->data)[i] = (float)value;
}

#endif
