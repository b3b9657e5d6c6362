/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where gradients live.
 *
 * Whether a backward op overwrites or adds is decided here, by whether a gradient
 * is there already: the walk is strictly backwards, so the last reader of a value
 * writes its gradient, and earlier ones add.
 *
 * A gradient is needed from the first write to the moment its producer's backward
 * op has run.  Then its memory is spare for the next one of the same size; blocks
 * of a network repeat, so a walk over any depth takes little more memory than
 * over one block (tape_space.c).
 *
 * A gradient lives in the space of its value, so that what a segment adds to the
 * gradient of a value outside it outlives the segment.
 */
#include "train/autograd/autograd_internal.h"

static int take_grad(struct prx_var *x)
{
    return prx_space_take(x->space, x->value.n_dims, x->value.dims, &x->grad);
}

static int open_aside(struct prx_tape *tape, const struct prx_tensor *value,
                      struct prx_tensor *sum, struct prx_grad *out)
{
    PRX_TRY(prx_space_take(tape->space, value->n_dims, value->dims, &out->aside));
    out->to = &out->aside;
    out->sum = sum;
    return 0;
}

int prx_grad_open(struct prx_tape *tape, struct prx_var *x, struct prx_grad *out)
{
    *out = (struct prx_grad){0};
    if (!x)
        return 0;
    if (!x->needs_grad)
        return open_aside(tape, &x->value, NULL, out);
    if (x->blocks_read)
        return prx_err(PRX_EINVAL, "a value is read both whole and by column blocks");
    out->add = x->grad.data != NULL;
    out->to = &x->grad;
    return out->add ? 0 : take_grad(x);
}

int prx_grad_open_set(struct prx_tape *tape, struct prx_var *x, struct prx_grad *out)
{
    PRX_TRY(prx_grad_open(tape, x, out));
    return out->add ? open_aside(tape, &x->value, &x->grad, out) : 0;
}

int prx_grad_open_over(struct prx_tape *tape, struct prx_var *x, struct prx_grad *out)
{
    if (!x->is_spent || !x->needs_grad || x->grad.data || x->blocks_read)
        return prx_grad_open_set(tape, x, out);
    x->grad = x->value;
    *out = (struct prx_grad){.to = &x->grad};
    return 0;
}

int prx_grad_open_param(struct prx_tape *tape, struct prx_param *param,
                        struct prx_grad *out)
{
    *out = (struct prx_grad){.add = true};
    if (!param->grad.data)
        return open_aside(tape, &param->value, NULL, out);
    out->to = &param->grad;
    return 0;
}

int prx_grad_close(struct prx_tape *tape, struct prx_grad *grad)
{
    if (grad->sum)
        PRX_TRY(tape->be->ops->axpby(tape->be, grad->sum, 1.0f, &grad->aside, 1.0f));
    return prx_space_give(tape->space, &grad->aside);
}

static uint32_t block_bit(const struct prx_var *x, int64_t col, int64_t width)
{
    int64_t n_cols = x->value.dims[x->value.n_dims - 1];
    PRX_BUG_IF(width <= 0 || col % width != 0 || n_cols % width != 0 ||
               n_cols / width > 32 || col >= n_cols);
    return UINT32_C(1) << col / width;
}

static bool has_all_readers(const struct prx_var *x, int64_t width)
{
    int64_t n_blocks = x->value.dims[x->value.n_dims - 1] / width;
    return x->blocks_read == UINT32_MAX >> (32 - n_blocks);
}

void prx_tape_reads_block(struct prx_tape *tape, struct prx_var *x, int64_t col,
                          int64_t width)
{
    if (!x->needs_grad)
        return;
    uint32_t bit = block_bit(x, col, width);
    if (x->blocks_read & bit)
        prx_tape_fails(tape, prx_err(PRX_EINVAL, "a column block has two readers"));
    x->blocks_read |= bit;
}

int prx_grad_open_block(struct prx_tape *tape, struct prx_var *x, int64_t col,
                        int64_t width, struct prx_grad *out)
{
    *out = (struct prx_grad){0};
    if (!x)
        return 0;
    if (!x->needs_grad)
        return open_aside(tape, &x->value, NULL, out);
    if (!x->blocks_written) {
        PRX_TRY(take_grad(x));
        /* Columns that nobody reads have gradient zero. */
        if (x->grad.data && !has_all_readers(x, width))
            PRX_TRY(tape->be->zero(tape->be, x->grad.data, prx_tensor_bytes(&x->grad)));
    }
    x->blocks_written |= block_bit(x, col, width);
    out->to = &x->grad;
    return 0;
}

int prx_grad_pass(struct prx_tape *tape, struct prx_var *from, struct prx_var *to)
{
    struct prx_grad grad;

    if (!to->needs_grad)
        return 0;
    if (!to->grad.data && !to->blocks_read && from->space == to->space) {
        to->grad = from->grad;
        from->grad.data = NULL;
        return 0;
    }
    PRX_TRY(prx_grad_open(tape, to, &grad));
    return tape->be->ops->axpby(tape->be, grad.to, 1.0f, &from->grad, grad.add);
}

int prx_grad_drop(struct prx_var *x)
{
    return prx_space_give(x->space, &x->grad);
}
