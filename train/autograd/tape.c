/* SPDX-License-Identifier: Apache-2.0 */
/* The tape: its life, its leaves, its failure, and the walk backwards. */
#include "train/autograd/autograd_internal.h"

#include <stdlib.h>

int prx_tape_new(struct prx_backend *be, struct prx_tape **out)
{
    struct prx_tape *tape = calloc(1, sizeof(*tape));
    int rc = 0;

    if (!tape)
        return prx_err_nomem("a tape");
    tape->be = be;
    tape->train = true;
    tape->space = &tape->whole;
    PRX_GO(prx_arena_new(be, &tape->whole.arena));
    PRX_GO(prx_arena_new(be, &tape->segment.arena));
    *out = tape;
    tape = NULL;
out:
    prx_tape_free(tape);
    return rc;
}

void prx_tape_free(struct prx_tape *tape)
{
    if (!tape)
        return;
    prx_arena_free(tape->whole.arena);
    prx_arena_free(tape->segment.arena);
    free(tape);
}

int prx_tape_reset(struct prx_tape *tape)
{
    tape->last = NULL;
    tape->space = &tape->whole;
    tape->error = (struct prx_error){0};
    PRX_TRY(prx_space_reset(&tape->segment));
    return prx_space_reset(&tape->whole);
}

void prx_tape_train(struct prx_tape *tape, bool train)
{
    tape->train = train;
}

struct prx_backend *prx_tape_backend(struct prx_tape *tape)
{
    return tape->be;
}

struct prx_arena *prx_tape_arena(struct prx_tape *tape)
{
    return tape->space->arena;
}

size_t prx_tape_peak_bytes(const struct prx_tape *tape)
{
    return prx_arena_peak_bytes(tape->whole.arena) +
           prx_arena_peak_bytes(tape->segment.arena);
}

bool prx_tape_fails(struct prx_tape *tape, int rc)
{
    if (rc >= 0)
        return false;
    if (tape->error.code == 0)
        prx_err_save(&tape->error);
    return true;
}

int prx_tape_error(struct prx_tape *tape)
{
    return tape->error.code < 0 ? prx_err_restore(&tape->error) : 0;
}

static struct prx_var *new_var(struct prx_tape *tape, const struct prx_tensor *value,
                               bool needs_grad)
{
    void *memory = NULL;
    if (prx_tape_fails(tape, prx_arena_host(tape->space->arena, sizeof(struct prx_var),
                                            &memory)))
        return NULL;
    struct prx_var *var = memory;
    var->value = *value;
    var->needs_grad = needs_grad && tape->train;
    var->space = tape->space;
    return var;
}

bool prx_tape_scratch(struct prx_tape *tape, int n_dims, const int64_t *dims,
                      struct prx_tensor *out)
{
    return tape->error.code == 0 &&
           !prx_tape_fails(tape, prx_space_take(tape->space, n_dims, dims, out));
}

struct prx_var *prx_tape_value(struct prx_tape *tape, int n_dims, const int64_t *dims,
                               bool needs_grad)
{
    struct prx_tensor value = {0};
    if (!prx_tape_scratch(tape, n_dims, dims, &value))
        return NULL;
    return new_var(tape, &value, needs_grad);
}

struct prx_var *prx_tape_value_like(struct prx_tape *tape, const struct prx_var *x,
                                    bool needs_grad)
{
    return prx_tape_value(tape, x->value.n_dims, x->value.dims, needs_grad);
}

struct prx_var *prx_tape_input(struct prx_tape *tape, const struct prx_tensor *value,
                               bool needs_grad)
{
    return tape->error.code == 0 ? new_var(tape, value, needs_grad) : NULL;
}

struct prx_var *prx_tape_param(struct prx_tape *tape, struct prx_param *param)
{
    struct prx_tensor value = param->value;
    /* Read by any layer, any time: a copy of what is stored narrower has to last. */
    if (value.dtype != PRX_F32 &&
        (!prx_tape_scratch(tape, value.n_dims, value.dims, &value) ||
         prx_tape_fails(tape, tape->be->ops->cast(tape->be, &value, &param->value))))
        return NULL;
    struct prx_var *var = prx_tape_input(tape, &value, param->grad.data != NULL);
    /* With its gradient there from the start, every reader adds to it. */
    if (var && var->needs_grad)
        var->grad = param->grad;
    return var;
}

void *prx_tape_note(struct prx_tape *tape, size_t n_bytes, prx_bwd_fn bwd,
                    struct prx_var *out)
{
    void *memory = NULL;
    if (!out->needs_grad ||
        prx_tape_fails(tape, prx_arena_host(tape->space->arena, n_bytes, &memory)))
        return NULL;
    struct prx_note *note = memory;
    *note = (struct prx_note){.prev = tape->last, .bwd = bwd, .out = out};
    tape->last = note;
    out->note = note;
    return note;
}

struct prx_arena_mark prx_tape_mark(struct prx_tape *tape)
{
    return prx_arena_mark(tape->space->arena);
}

struct prx_var *prx_tape_rewind(struct prx_tape *tape, struct prx_arena_mark mark,
                                struct prx_var *kept, struct prx_var *into)
{
    if (tape->train || !kept || !into)
        return kept;
    PRX_BUG_IF(!prx_tensor_same_shape(&kept->value, &into->value));
    if (prx_tape_fails(tape, tape->be->ops->axpby(tape->be, &into->value, 1.0f,
                                                  &kept->value, 0.0f)))
        return NULL;
    prx_arena_rewind(tape->space->arena, mark);
    tape->space->spares = NULL; /* some lay behind the mark */
    return into;
}

static bool is_reached(const struct prx_var *var)
{
    return var->grad.data || var->loss_weight != 0.0f;
}

int prx_tape_walk(struct prx_tape *tape)
{
    for (; tape->last; tape->last = tape->last->prev) {
        struct prx_var *out = tape->last->out;
        if (!is_reached(out))
            continue;
        if (out->blocks_written != out->blocks_read)
            return prx_err(PRX_EINVAL, "a column block that was read got no gradient");
        PRX_TRY(tape->last->bwd(tape, tape->last));
        PRX_TRY(prx_grad_drop(out));
        if (out->is_forgotten) /* what was made again has been read for the last time */
            PRX_TRY(prx_space_give(out->space, &out->value));
    }
    return 0;
}

int prx_tape_backward(struct prx_tape *tape, struct prx_var *loss, float weight)
{
    PRX_TRY(prx_tape_error(tape));
    if (!loss || prx_tensor_count(&loss->value) != 1)
        return prx_err(PRX_ESHAPE, "backward starts at a loss of one element");
    loss->loss_weight = weight;
    return prx_tape_walk(tape);
}
