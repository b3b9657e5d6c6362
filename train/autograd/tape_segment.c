/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments: parts of a network that run twice, to be forgotten in between.
 *
 * What a segment computes lives in a space of its own.  Forward, its result is
 * copied out and the space is reset.  Backward, the segment is recorded there as a
 * small tape, walked from the gradient of the result, and the space is reset again;
 * gradients of values from outside are outside, where the walk goes on.
 *
 * Source: Chen et al. 2016, arXiv:1604.06174.
 */
#include <stddef.h>
#include <string.h>

#include "train/autograd/autograd_internal.h"

struct segment_note {
    struct prx_note note;
    prx_segment_fn run;
    max_align_t ctx[]; /* the caller's bytes */
};

void prx_tape_recompute(struct prx_tape *tape, bool recompute)
{
    tape->recompute = recompute;
}

static int leave(struct prx_tape *tape)
{
    tape->space = &tape->whole;
    return prx_space_reset(&tape->segment);
}

static int segment_bwd(struct prx_tape *tape, const void *note)
{
    const struct segment_note *n = note;
    struct prx_note *last = tape->last;

    tape->space = &tape->segment;
    tape->last = NULL;
    struct prx_var *y = n->run(n->ctx);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(prx_grad_pass(tape, n->note.out, y));
    PRX_TRY(prx_tape_walk(tape));
    tape->last = last;
    return leave(tape);
}

/* Run, and record nothing: the result alone, in the memory of the whole tape. */
static struct prx_var *run_and_forget(struct prx_tape *tape, prx_segment_fn run,
                                      const void *ctx)
{
    tape->space = &tape->segment;
    tape->train = false;
    struct prx_var *y = run(ctx);
    tape->train = true;
    tape->space = &tape->whole;

    /* Whether anything in it is trained shows when it is recorded. */
    struct prx_var *out = y ? prx_tape_value_like(tape, y, true) : NULL;
    if (!out || prx_tape_fails(tape, tape->be->ops->axpby(tape->be, &out->value, 1.0f,
                                                          &y->value, 0.0f)))
        return NULL;
    return prx_tape_fails(tape, leave(tape)) ? NULL : out;
}

struct prx_var *prx_tape_segment(struct prx_tape *tape, prx_segment_fn run,
                                 const void *ctx, size_t n_ctx_bytes)
{
    if (!tape->recompute || !tape->train || tape->space == &tape->segment)
        return run(ctx);
    struct prx_var *out = run_and_forget(tape, run, ctx);
    if (!out)
        return NULL;
    struct segment_note *note =
        prx_tape_note(tape, sizeof(*note) + n_ctx_bytes, segment_bwd, out);
    if (!note)
        return NULL;
    note->run = run;
    memcpy(note->ctx, ctx, n_ctx_bytes);
    return out;
}
