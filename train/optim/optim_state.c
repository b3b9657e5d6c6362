/* SPDX-License-Identifier: Apache-2.0 */
/* State beside parameters: its allocation. */
#include "train/optim/optim_internal.h"

#include <stdlib.h>

int prx_optim_state_new(struct prx_param_store *store, enum prx_dtype dtype,
                        const bool *is_wanted, struct prx_tensor **out)
{
    struct prx_tensor *state = calloc(store->n_params + 1, sizeof(*state));
    int rc = 0;

    if (!state)
        return prx_err_nomem("optimiser state");
    for (size_t i = 0; i < store->n_params; i++) {
        const struct prx_tensor *value = &store->params[i]->value;
        if (is_wanted && !is_wanted[i])
            continue;
        PRX_GO(
            prx_tensor_alloc(store->be, dtype, value->n_dims, value->dims, &state[i]));
        PRX_GO(prx_tensor_zero(store->be, &state[i]));
    }
    *out = state;
    state = NULL;
out:
    prx_optim_state_free(store, state);
    return rc;
}

void prx_optim_state_free(struct prx_param_store *store, struct prx_tensor *state)
{
    if (!state)
        return;
    for (size_t i = 0; i < store->n_params; i++)
        prx_tensor_free(store->be, &state[i]);
    free(state);
}
