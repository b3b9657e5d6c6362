/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of tensors that may be bf16, for kernels of floats: a float32 run is used
 * where it is, a bf16 one is widened into the caller's room and narrowed again.
 */
#ifndef PRX_TRAIN_CPU_RUN_INTERNAL_H
#define PRX_TRAIN_CPU_RUN_INTERNAL_H

#include "train/cpu/cpu_internal.h"
#include "train/cpu/elementwise_internal.h"

/* Elements @at to @at + @n - 1 of @x; @room [PRX_CPU_RUN] lives as long as they. */
static inline float *prx_run_open(const struct prx_elementwise_kernels *kernels,
                                  const struct prx_tensor *x, int64_t at, int64_t n,
                                  float *room)
{
    if (x->dtype == PRX_F32)
        return (float *)x->data + at;
    kernels->widen(room, (const prx_bf16 *)x->data + at, n);
    return room;
}

/* Put a run that was written back to where prx_run_open() had it from. */
static inline void prx_run_close(const struct prx_elementwise_kernels *kernels,
                                 const struct prx_tensor *x, int64_t at, int64_t n,
                                 const float *run)
{
    if (x->dtype == PRX_BF16)
        kernels->narrow((prx_bf16 *)x->data + at, run, n);
}

#endif
