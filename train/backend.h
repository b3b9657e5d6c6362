/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - a place that computes: its memory, its ops, its clock.
 *
 * Work is queued in order and may run later; prx_backend_sync() waits and
 * reports what failed meanwhile (PRX_EDEVICE).  copy_in returns when the host
 * memory may be reused, copy_out when it is filled.  One thread at a time.
 *
 * Block signals that have a handler before opening "cpu" (its threads inherit
 * that), and take them in another thread: oneDNN's kernels move the stack pointer
 * into the heap, where a signal frame destroys what lies beside it.
 */
#ifndef PRX_TRAIN_BACKEND_H
#define PRX_TRAIN_BACKEND_H

#include "train/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_ops; /* train/ops.h */

struct prx_backend {
    const char *name; /* "cpu", "ref", "fence", "plan" */
    const struct prx_ops *ops;
    int n_threads;
    bool is_plan; /* computes nothing: what is copied in need not be drawn */
    void *impl;   /* private */
    int (*alloc)(struct prx_backend *be, size_t n_bytes,
                 void **out); /* 64-byte aligned */
    void (*free)(struct prx_backend *be, void *memory);
    int (*copy_in)(struct prx_backend *be, void *device, const void *host,
                   size_t n_bytes);
    int (*copy_out)(struct prx_backend *be, void *host, const void *device,
                    size_t n_bytes);
    int (*zero)(struct prx_backend *be, void *device, size_t n_bytes);
    int (*sync)(struct prx_backend *be);
    void (*close)(struct prx_backend *be);
};

/**
 * prx_backend_open - open backend @name: "cpu", "ref", "fence", "plan", or "auto" for
 * the fastest.
 *
 * "fence" is for tests, and slow: the ops of "cpu", with its results, in memory that
 * crashes whoever touches it outside an op or copy, as a device's would.
 *
 * "plan" counts memory and computes nothing: memory is addresses only, ops check and
 * do nothing, what is copied out is zeros.  See prx_plan_usage().
 *
 * @n_threads: 0 = all processors this process may use; "ref" uses one.
 * Errors: PRX_EINVAL (no such backend in this build), PRX_EDEVICE, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_backend_open(const char *name, int n_threads,
                                  struct prx_backend **out);
void prx_backend_close(struct prx_backend *be);
PRX_MUST_USE int prx_backend_sync(struct prx_backend *be);

/**
 * prx_backend_peak - the rate that @be's own matrix product (linear_fwd) reaches.
 *
 * It is measured, not looked up: float32 squares large enough to fill the machine, the
 * best of several in about @time_s seconds of the clock.  Nothing is kept.  What else
 * the machine does meanwhile lowers it, so that a step's share of it may exceed 1.
 * @flop_per_s: overwritten.  Errors: PRX_ENOMEM, PRX_EDEVICE.
 */
PRX_MUST_USE int prx_backend_peak(struct prx_backend *be, double time_s,
                                  double *flop_per_s);

/* What a backend "plan" has handed out, as its callers asked for it. */
struct prx_plan_usage {
    size_t live_bytes;
    size_t peak_bytes; /* the most at once since prx_plan_reset_peak() */
};
struct prx_plan_usage prx_plan_usage(const struct prx_backend *be);
void prx_plan_reset_peak(struct prx_backend *be);

/*
 * An arena hands out memory by moving a pointer and takes all of it back at
 * once, at the end of a step.  It grows by chunks the first time and merges them
 * into one when it is reset, so a steady state allocates nothing.
 */
struct prx_arena;

PRX_MUST_USE int prx_arena_new(struct prx_backend *be, struct prx_arena **out);
void prx_arena_free(struct prx_arena *arena);

/** prx_arena_tensor - an uninitialised tensor, valid until the arena is reset. */
PRX_MUST_USE int prx_arena_tensor(struct prx_arena *arena, enum prx_dtype dtype,
                                  int n_dims, const int64_t *dims,
                                  struct prx_tensor *out);

/* Host memory with the same life, zeroed; for graph nodes. */
PRX_MUST_USE int prx_arena_host(struct prx_arena *arena, size_t n_bytes, void **out);

PRX_MUST_USE int prx_arena_reset(struct prx_arena *arena);

/* A mark lets inner work give back what it took after it. */
struct prx_arena_mark {
    size_t i_chunk;
    size_t n_used_bytes;
};
struct prx_arena_mark prx_arena_mark(const struct prx_arena *arena);
void prx_arena_rewind(struct prx_arena *arena, struct prx_arena_mark mark);
size_t prx_arena_peak_bytes(const struct prx_arena *arena);

/* Tensors outside any arena: parameters, state, batches. */
PRX_MUST_USE int prx_tensor_alloc(struct prx_backend *be, enum prx_dtype dtype,
                                  int n_dims, const int64_t *dims,
                                  struct prx_tensor *out);
void prx_tensor_free(struct prx_backend *be, struct prx_tensor *tensor);
PRX_MUST_USE int prx_tensor_set(struct prx_backend *be, struct prx_tensor *tensor,
                                const void *host);
PRX_MUST_USE int prx_tensor_get(struct prx_backend *be, const struct prx_tensor *tensor,
                                void *host);
PRX_MUST_USE int prx_tensor_zero(struct prx_backend *be, struct prx_tensor *tensor);

/* Set and get of an f32 or bf16 tensor by float32 numbers, rounded to its dtype. */
PRX_MUST_USE int prx_tensor_set_f32(struct prx_backend *be, struct prx_tensor *tensor,
                                    const float *host);
PRX_MUST_USE int prx_tensor_get_f32(struct prx_backend *be,
                                    const struct prx_tensor *tensor, float *host);

#ifdef __cplusplus
}
#endif
#endif
