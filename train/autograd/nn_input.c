/* SPDX-License-Identifier: Apache-2.0 */
/* Layers at the start of a network, without gradients: constant, sinusoid. */
#include "train/autograd/autograd_internal.h"

struct prx_var *prx_tape_constant(struct prx_tape *tape, enum prx_dtype dtype,
                                  int n_dims, const int64_t *dims, const void *host)
{
    struct prx_tensor value = {0};

    if (tape->error.code != 0 ||
        prx_tape_fails(tape, prx_arena_tensor(tape->space->arena, dtype, n_dims, dims,
                                              &value)) ||
        prx_tape_fails(tape, prx_tensor_set(tape->be, &value, host)))
        return NULL;
    return prx_tape_input(tape, &value, false);
}

struct prx_var *prx_nn_sinusoid(struct prx_tape *tape,
                                const struct prx_tensor *const *vs, int64_t n_vs,
                                int64_t width, double factor, double max_period)
{
    int64_t dims[2] = {vs[0]->dims[0], n_vs * width};
    struct prx_var *y = prx_tape_value(tape, 2, dims, false);

    for (int64_t i = 0; y && i < n_vs; i++)
        if (prx_tape_fails(tape, tape->be->ops->sinusoid(tape->be, &y->value, i * width,
                                                         width, vs[i], (float)factor,
                                                         (float)max_period)))
            return NULL;
    return y;
}
