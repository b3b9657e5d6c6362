/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tape.h - records ops as they run, and runs their gradients backwards.
 *
 * A network is plain C: it calls prx_nn_* functions on values, each of which runs
 * an op at once and, where a gradient will be wanted, notes how to run its
 * backward op.  prx_tape_backward() walks the notes from the end.
 *
 * Values live in the tape's arena until prx_tape_reset().  Failure is sticky, so
 * that networks read as mathematics: the first failing call is kept, it and all
 * later calls return NULL, NULL operands give NULL results, and
 * prx_tape_error() tells.  One thread at a time.
 *
 * A value may be read whole any number of times: its gradients add up.  Layers
 * with a col or i_ argument read one column block of a wider value; each block
 * has at most one such reader, which writes its part of the one gradient, so
 * joined projections (q, k, v; the six modulations) cost no copies.  A value read
 * by blocks is not also read whole.
 */
#ifndef PRX_TRAIN_TAPE_H
#define PRX_TRAIN_TAPE_H

#include "train/backend.h"
#include "train/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A trained tensor: lives in a store, outlives every tape. */
struct prx_param {
    char *name;              /* as in the published checkpoint (diffusers form) */
    struct prx_tensor value; /* f32 or bf16, as the store has it */
    struct prx_tensor grad;  /* f32, same shape; data NULL when not trained */
};

/* The parameters of one model, in a fixed order; values and gradients are owned. */
struct prx_param_store {
    struct prx_backend *be;
    bool train;                /* parameters have gradients */
    enum prx_dtype dtype;      /* of values, f32 at first: prx_param_store_cast() */
    struct prx_param **params; /* each allocated alone: addresses stay */
    size_t n_params;
    size_t cap_params;
};

void prx_param_store_init(struct prx_param_store *store, struct prx_backend *be,
                          bool train);
void prx_param_store_release(struct prx_param_store *store);

/** prx_param_store_add - a new parameter, value (and gradient) zero. */
PRX_MUST_USE int prx_param_store_add(struct prx_param_store *store, const char *name,
                                     int n_dims, const int64_t *dims,
                                     struct prx_param **out);

/**
 * prx_param_store_cast - keep all values as @dtype, f32 or bf16; they are rounded.
 *
 * Gradients stay float32, and so does what layers compute: they widen a value while
 * they read it.
 */
PRX_MUST_USE int prx_param_store_cast(struct prx_param_store *store,
                                      enum prx_dtype dtype);

/** prx_param_freeze - give back the gradient of @param: it is not trained. */
void prx_param_freeze(struct prx_param_store *store, struct prx_param *param);

/** prx_param_store_find - the parameter @name, or NULL. */
struct prx_param *prx_param_store_find(const struct prx_param_store *store,
                                       const char *name);
PRX_MUST_USE int prx_param_store_zero_grad(struct prx_param_store *store);
int64_t prx_param_store_count(const struct prx_param_store *store); /* elements */

struct prx_space; /* private */
struct prx_note;

/* A value on the tape. */
struct prx_var {
    struct prx_tensor value;
    struct prx_tensor grad; /* of an input, after backward; data NULL where none came */
    bool needs_grad;
    /* Private. */
    struct prx_space *space; /* whose memory this is */
    struct prx_note *note;   /* how its gradient runs on; NULL: it does not */
    bool is_forgotten;       /* its memory was given back, and is taken when needed */
    bool is_spent;           /* its gradient may be written over it */
    uint32_t blocks_read;    /* bit per column block that has a reader */
    uint32_t blocks_written; /* ... whose gradient is there */
    float loss_weight;       /* gradient of a loss: a number of the host */
};

struct prx_tape;

PRX_MUST_USE int prx_tape_new(struct prx_backend *be, struct prx_tape **out);
void prx_tape_free(struct prx_tape *tape);

/** prx_tape_reset - forget values, notes and any failure; memory is kept for reuse. */
PRX_MUST_USE int prx_tape_reset(struct prx_tape *tape);

/** prx_tape_train - whether gradients will be wanted; false records nothing. */
void prx_tape_train(struct prx_tape *tape, bool train);

/** prx_tape_error - 0, or the first failure's code, its message restored. */
PRX_MUST_USE int prx_tape_error(struct prx_tape *tape);

/** prx_tape_fails - make a failure @rc the tape's, for code between layers. */
bool prx_tape_fails(struct prx_tape *tape, int rc);
struct prx_backend *prx_tape_backend(struct prx_tape *tape);
struct prx_arena *prx_tape_arena(struct prx_tape *tape);

/** prx_tape_peak_bytes - the most device memory values and gradients took so far. */
size_t prx_tape_peak_bytes(const struct prx_tape *tape);

/*
 * Forward only, a network can give back the memory of a part of itself: what was
 * computed since @mark is dropped, but for @kept, which moves into the memory of
 * @into (older than the mark, of the same shape, its own value no longer needed).
 * Returns the value to go on with; on a tape that trains that is @kept itself.
 */
struct prx_arena_mark prx_tape_mark(struct prx_tape *tape);
struct prx_var *prx_tape_rewind(struct prx_tape *tape, struct prx_arena_mark mark,
                                struct prx_var *kept, struct prx_var *into);

/*
 * prx_tape_forget - give back the memory of @x, whose value forward reads no more.
 *
 * Where backward needs it, the op that made it runs again, with the same bits.  For
 * results that cost little beside what reads them: of prx_nn_ln_modulate(),
 * _gate_residual(), _head_norm_rope() and _gated_gelu().  Their operands are not
 * forgotten before them.  On a tape that does not train this does nothing.
 */
void prx_tape_forget(struct prx_tape *tape, struct prx_var *x);

/*
 * prx_var_spend - let the gradient of @x take the place of its value.
 *
 * For operands of prx_nn_gated_gelu() that nothing else reads; others are left alone.
 */
void prx_var_spend(struct prx_var *x);

/*
 * A segment is a part of a network that can be run again, so that its values need
 * not be kept from forward to backward (in PyTorch: activation checkpointing).
 * Where recomputing is on, only the result of @run stays; backward runs @run a
 * second time, now recording, and gives its memory back at once.  The gradients are
 * those of a plain call, bit for bit.
 *
 * @run: the same layers on the same values both times.  It may read values from
 *       before the segment; of its own it hands out but the result.
 * @ctx: @n_ctx_bytes for @run, copied; what it points to lives until backward.
 *
 * Without recomputing, on a tape that does not train, and inside another segment,
 * this is @run(@ctx).
 */
typedef struct prx_var *(*prx_segment_fn)(const void *ctx);

void prx_tape_recompute(struct prx_tape *tape, bool recompute);
struct prx_var *prx_tape_segment(struct prx_tape *tape, prx_segment_fn run,
                                 const void *ctx, size_t n_ctx_bytes);

/* Leaves.  An input may ask for its gradient (needs_grad). */
struct prx_var *prx_tape_input(struct prx_tape *tape, const struct prx_tensor *value,
                               bool needs_grad);
struct prx_var *prx_tape_param(struct prx_tape *tape, struct prx_param *param);

/** prx_tape_constant - a copy of @host's elements as an input without gradient. */
struct prx_var *prx_tape_constant(struct prx_tape *tape, enum prx_dtype dtype,
                                  int n_dims, const int64_t *dims, const void *host);

/**
 * prx_tape_backward - gradients of @loss times @weight into everything before it.
 *
 * @loss: a [1] value of this tape (from prx_nn_mse() and its like).
 * Parameter gradients are added to; call prx_param_store_zero_grad() first.
 * Walks the tape once: memory of gradients is reused on the way, so that only those
 * of inputs remain.
 */
PRX_MUST_USE int prx_tape_backward(struct prx_tape *tape, struct prx_var *loss,
                                   float weight);

/*
 * Layers; shapes and formulas as in train/ops.h.  May be NULL: @b, @rope, @mask, the
 * text's @kt and @vt, and @per_sample (the caller's, [B]).
 */
struct prx_var *prx_nn_linear(struct prx_tape *tape, struct prx_var *x,
                              struct prx_param *w, struct prx_param *b);

/* prx_nn_sinusoid - @n_vs embeddings of @width side by side: [B, n_vs * width]. */
struct prx_var *prx_nn_sinusoid(struct prx_tape *tape,
                                const struct prx_tensor *const *vs, int64_t n_vs,
                                int64_t width, double factor, double max_period);
struct prx_var *prx_nn_silu(struct prx_tape *tape, struct prx_var *x);
struct prx_var *prx_nn_add(struct prx_tape *tape, struct prx_var *a, struct prx_var *b);
struct prx_var *prx_nn_patchify(struct prx_tape *tape, struct prx_var *x,
                                int64_t patch);
struct prx_var *prx_nn_unpatchify(struct prx_tape *tape, struct prx_var *y,
                                  int64_t channels, int64_t height, int64_t width,
                                  int64_t patch);
struct prx_var *prx_nn_concat_tokens(struct prx_tape *tape, struct prx_var *a,
                                     struct prx_var *x);

/* Token routing; @idx [B, M] i32 lives until backward.  fill_tokens puts @x among
 * copies of @token, to @n_tokens; concat_channels joins [.., X] and [.., X]. */
struct prx_var *prx_nn_gather_tokens(struct prx_tape *tape, struct prx_var *x,
                                     const struct prx_tensor *idx);
struct prx_var *prx_nn_merge_tokens(struct prx_tape *tape, struct prx_var *x,
                                    const struct prx_tensor *idx, struct prx_var *rest);
struct prx_var *prx_nn_fill_tokens(struct prx_tape *tape, struct prx_var *x,
                                   const struct prx_tensor *idx, int64_t n_tokens,
                                   struct prx_param *token);
struct prx_var *prx_nn_concat_channels(struct prx_tape *tape, struct prx_var *a,
                                       struct prx_var *b);
struct prx_var *prx_nn_ln_modulate(struct prx_tape *tape, struct prx_var *x,
                                   struct prx_var *mod, int i_shift, int i_scale,
                                   float eps);
struct prx_var *prx_nn_gate_residual(struct prx_tape *tape, struct prx_var *h,
                                     struct prx_var *x, struct prx_var *mod,
                                     int i_gate);
struct prx_var *prx_nn_head_norm_rope(struct prx_tape *tape, struct prx_var *x,
                                      int64_t col, int64_t width,
                                      struct prx_param *scale,
                                      const struct prx_tensor *rope, float eps);
struct prx_var *prx_nn_attention(struct prx_tape *tape, struct prx_var *q,
                                 struct prx_var *k, struct prx_var *v, int64_t col_v,
                                 struct prx_var *kt, struct prx_var *vt, int64_t col_vt,
                                 const struct prx_tensor *mask, int64_t n_heads);
struct prx_var *prx_nn_gated_gelu(struct prx_tape *tape, struct prx_var *g,
                                  struct prx_var *u);
struct prx_var *prx_nn_x0_velocity(struct prx_tape *tape, struct prx_var *x0,
                                   const struct prx_tensor *xt,
                                   const struct prx_tensor *t, float t_min);
struct prx_var *prx_nn_mse(struct prx_tape *tape, struct prx_var *p,
                           const struct prx_tensor *target,
                           struct prx_tensor *per_sample);

#ifdef __cplusplus
}
#endif
#endif
