/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path of train/ops.h: prx_cpu_OP for every op.
 *
 * Loops over rows, heads and tensors are OpenMP's, in plain files, with the
 * backend's number of threads; what happens within a row is in *_simd.c, compiled
 * for each instruction set.  Every element is computed by one thread and every sum
 * runs in index order, so results do not depend on timing.
 */
#ifndef PRX_TRAIN_CPU_INTERNAL_H
#define PRX_TRAIN_CPU_INTERNAL_H

#include "train/ops.h"

#define PRX_CPU_DECLARE(op) PRX_OP_DECLARE(cpu, op);
PRX_FOR_EACH_OP(PRX_CPU_DECLARE)
#undef PRX_CPU_DECLARE

extern const struct prx_ops prx_cpu_ops;

/* What backend->impl of "cpu" points to. */
struct prx_cpu {
    struct prx_cpu_area {
        float *floats;
        size_t n_bytes;
    } scratch, matrices;
};

/**
 * prx_cpu_scratch - at least @n_floats floats, 64-byte aligned, uninitialised.
 *
 * Owned by the backend, valid until the next call; grows, never shrinks.
 */
PRX_MUST_USE int prx_cpu_scratch(prx_be *be, int64_t n_floats, float **out);

/** prx_cpu_matrices - the same, for operands of prx_cpu_gemm(), which uses scratch. */
PRX_MUST_USE int prx_cpu_matrices(prx_be *be, int64_t n_floats, float **out);

/*
 * Long arrays are shared out in runs of this many elements, and summed by run, so
 * that a sum is the same for any number of threads.
 */
#define PRX_CPU_RUN 8192

static inline int64_t prx_cpu_n_runs(int64_t count)
{
    return (count + PRX_CPU_RUN - 1) / PRX_CPU_RUN;
}

/* Elements of the run that begins where @n_left are left. */
static inline int64_t prx_cpu_run(int64_t n_left)
{
    return n_left < PRX_CPU_RUN ? n_left : PRX_CPU_RUN;
}

/* Threads worth waking for @n_parts equal parts of work. */
static inline int prx_cpu_team(const prx_be *be, int64_t n_parts)
{
    return n_parts < be->n_threads ? (n_parts > 0 ? (int)n_parts : 1) : be->n_threads;
}

#endif
