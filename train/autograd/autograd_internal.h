/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What layers share: making values, noting backward ops, and finding where a
 * gradient goes.
 *
 * A layer is two functions.  The forward one makes its result with
 * prx_tape_value(), runs the op, and leaves a note with prx_tape_note().  The
 * backward one opens the gradients of its operands, runs the backward op, and
 * closes them.
 */
#ifndef PRX_TRAIN_AUTOGRAD_INTERNAL_H
#define PRX_TRAIN_AUTOGRAD_INTERNAL_H

#include "train/tape.h"

typedef int (*prx_bwd_fn)(struct prx_tape *tape, const void *note);

/* First member of every note. */
struct prx_note {
    struct prx_note *prev;
    prx_bwd_fn bwd;
    prx_bwd_fn remake; /* computes out->value again; NULL: it cannot be forgotten */
    struct prx_var *out;
};

struct prx_spare; /* memory no longer needed */

/* Memory of values, and of their gradients: both are given back together. */
struct prx_space {
    struct prx_arena *arena;
    struct prx_spare *spares;
};

struct prx_tape {
    struct prx_backend *be;
    struct prx_space whole;   /* until the tape is reset */
    struct prx_space segment; /* until the end of a segment that runs twice */
    struct prx_space *space;  /* the one of these that new values are made in */
    struct prx_note *last;
    bool train;
    bool recompute;
    struct prx_error error; /* code 0: none */
};

/** prx_tape_value - an uninitialised f32 value; NULL once the tape has failed. */
struct prx_var *prx_tape_value(struct prx_tape *tape, int n_dims, const int64_t *dims,
                               bool needs_grad);
struct prx_var *prx_tape_value_like(struct prx_tape *tape, const struct prx_var *x,
                                    bool needs_grad);

/** prx_tape_scratch - memory that the backward op will read; false on failure. */
bool prx_tape_scratch(struct prx_tape *tape, int n_dims, const int64_t *dims,
                      struct prx_tensor *out);

/**
 * prx_tape_note - note that @bwd yields the gradients behind @out.
 *
 * Returns zeroed memory for a struct that begins with struct prx_note, or NULL
 * where no gradient of @out will be asked for (or the tape has failed).
 */
void *prx_tape_note(struct prx_tape *tape, size_t n_bytes, prx_bwd_fn bwd,
                    struct prx_var *out);

/** prx_space_take - an uninitialised f32 tensor: spare memory of its size, or new. */
PRX_MUST_USE int prx_space_take(struct prx_space *space, int n_dims,
                                const int64_t *dims, struct prx_tensor *out);

/** prx_space_give - @tensor's memory is spare; its shape stays. */
PRX_MUST_USE int prx_space_give(struct prx_space *space, struct prx_tensor *tensor);

/** prx_space_reset - forget what lives in @space; memory is kept for reuse. */
PRX_MUST_USE int prx_space_reset(struct prx_space *space);

/**
 * prx_tape_remake - make @x's value again if it was forgotten.
 *
 * Backward ops, and forward ops that run again, call it for each operand whose value
 * they read.
 */
PRX_MUST_USE int prx_tape_remake(struct prx_tape *tape, struct prx_var *x);

/** prx_tape_walk - run the noted backward ops, last first, of all that was reached. */
PRX_MUST_USE int prx_tape_walk(struct prx_tape *tape);

/** prx_tape_reads_block - declare the reader of columns col .. col+width-1 of @x. */
void prx_tape_reads_block(struct prx_tape *tape, struct prx_var *x, int64_t col,
                          int64_t width);

/*
 * An operand's gradient while a backward op writes it.  Ops take what they are
 * given and know nothing of wants: where a gradient is not wanted, or an op that
 * only overwrites finds one there, it writes aside; prx_grad_close() then drops
 * or adds what was written.  So every open is closed after the op ran.
 */
struct prx_grad {
    struct prx_tensor *to;  /* what the op writes; NULL: there is no operand */
    bool add;               /* for ops that can add */
    struct prx_tensor *sum; /* private: aside goes here in the end, or NULL */
    struct prx_tensor aside;
};

/** prx_grad_open - the gradient of @x (NULL is fine), for an op that honours add. */
PRX_MUST_USE int prx_grad_open(struct prx_tape *tape, struct prx_var *x,
                               struct prx_grad *out);

/** prx_grad_open_set - the same for an op that overwrites. */
PRX_MUST_USE int prx_grad_open_set(struct prx_tape *tape, struct prx_var *x,
                                   struct prx_grad *out);

/** prx_grad_open_over - the same for an op whose gradient may alias the operand @x. */
PRX_MUST_USE int prx_grad_open_over(struct prx_tape *tape, struct prx_var *x,
                                    struct prx_grad *out);

/** prx_grad_open_block - the same for an op that overwrites a declared block of @x. */
PRX_MUST_USE int prx_grad_open_block(struct prx_tape *tape, struct prx_var *x,
                                     int64_t col, int64_t width, struct prx_grad *out);

/** prx_grad_open_param - the gradient of @param, to which ops always add. */
PRX_MUST_USE int prx_grad_open_param(struct prx_tape *tape, struct prx_param *param,
                                     struct prx_grad *out);
PRX_MUST_USE int prx_grad_close(struct prx_tape *tape, struct prx_grad *grad);

/** prx_grad_pass - the gradient of @from is also that of @to; it moves if it can. */
PRX_MUST_USE int prx_grad_pass(struct prx_tape *tape, struct prx_var *from,
                               struct prx_var *to);

/*
 * A parameter's value while an op reads it: the value itself or, where that is stored
 * as bf16, a float32 copy in spare memory.  Every open is closed after the op ran.
 */
struct prx_weight {
    struct prx_tensor value; /* f32; without memory where there is no parameter */
    struct prx_tensor copy;  /* private */
};

/** prx_weight_open - @param (NULL is fine) for reading. */
PRX_MUST_USE int prx_weight_open(struct prx_tape *tape, const struct prx_param *param,
                                 struct prx_weight *out);
PRX_MUST_USE int prx_weight_close(struct prx_tape *tape, struct prx_weight *weight);

/** prx_grad_drop - the gradient of @x has been used: its memory is spare. */
PRX_MUST_USE int prx_grad_drop(struct prx_var *x);

#endif
