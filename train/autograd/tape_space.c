/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of values and gradients: taken from an arena, and used again.
 *
 * A tensor that is no longer needed leaves its memory as a spare for the next one of
 * the same size.  Blocks of a network repeat, so the sizes do, too.
 */
#include "train/autograd/autograd_internal.h"

struct prx_spare {
    struct prx_spare *next;
    void *data;
    size_t n_bytes;
};

int prx_space_take(struct prx_space *space, int n_dims, const int64_t *dims,
                   struct prx_tensor *out)
{
    struct prx_tensor tensor;

    PRX_TRY(prx_tensor_shape(PRX_F32, n_dims, dims, &tensor));
    for (struct prx_spare **at = &space->spares; *at; at = &(*at)->next) {
        if ((*at)->n_bytes != prx_tensor_bytes(&tensor))
            continue;
        *out = tensor;
        out->data = (*at)->data;
        *at = (*at)->next;
        return 0;
    }
    return prx_arena_tensor(space->arena, PRX_F32, n_dims, dims, out);
}

int prx_space_give(struct prx_space *space, struct prx_tensor *tensor)
{
    void *memory = NULL;

    if (!tensor->data)
        return 0;
    PRX_TRY(prx_arena_host(space->arena, sizeof(struct prx_spare), &memory));
    struct prx_spare *spare = memory;
    *spare = (struct prx_spare){
        .next = space->spares,
        .data = tensor->data,
        .n_bytes = prx_tensor_bytes(tensor),
    };
    space->spares = spare;
    tensor->data = NULL;
    return 0;
}

int prx_space_reset(struct prx_space *space)
{
    space->spares = NULL;
    return prx_arena_reset(space->arena);
}

void prx_tape_forget(struct prx_tape *tape, struct prx_var *x)
{
    if (!x || !x->note)
        return;
    PRX_BUG_IF(!x->note->remake);
    x->is_forgotten = true;
    (void)prx_tape_fails(tape, prx_space_give(x->space, &x->value));
}

void prx_var_spend(struct prx_var *x)
{
    if (x)
        x->is_spent = true;
}

int prx_tape_remake(struct prx_tape *tape, struct prx_var *x)
{
    if (!x->is_forgotten || x->value.data)
        return 0;
    PRX_TRY(prx_space_take(x->space, x->value.n_dims, x->value.dims, &x->value));
    return x->note->remake(tape, x->note);
}
