/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters as layers read them: in float32, whatever they are stored as. */
#include "train/autograd/autograd_internal.h"

int prx_weight_open(struct prx_tape *tape, const struct prx_param *param,
                    struct prx_weight *out)
{
    *out = (struct prx_weight){0};
    if (!param)
        return 0;
    out->value = param->value;
    if (param->value.dtype == PRX_F32)
        return 0;
    PRX_TRY(prx_space_take(tape->space, param->value.n_dims, param->value.dims,
                           &out->copy));
    out->value = out->copy;
    return tape->be->ops->cast(tape->be, &out->copy, &param->value);
}

int prx_weight_close(struct prx_tape *tape, struct prx_weight *weight)
{
    return prx_space_give(tape->space, &weight->copy);
}
