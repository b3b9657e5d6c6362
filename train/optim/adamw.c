/* SPDX-License-Identifier: Apache-2.0 */
/* AdamW over a parameter store, one op a step. */
#include "train/optim/optim_internal.h"

#include <stdlib.h>

int prx_adamw_new(struct prx_param_store *store, const struct prx_adamw_config *config,
                  struct prx_adamw **out)
{
    struct prx_adamw *optim = calloc(1, sizeof(*optim));
    int rc = 0;

    if (!optim)
        return prx_err_nomem("an optimiser");
    *optim = (struct prx_adamw){.store = store, .config = *config};
    optim->slots = calloc(store->n_params + 1, sizeof(*optim->slots));
    if (!optim->slots)
        PRX_GO(prx_err_nomem("an optimiser"));
    PRX_GO(prx_optim_state_new(store, &optim->m));
    PRX_GO(prx_optim_state_new(store, &optim->v));
    *out = optim;
    optim = NULL;
out:
    prx_adamw_free(optim);
    return rc;
}

void prx_adamw_free(struct prx_adamw *optim)
{
    if (!optim)
        return;
    prx_optim_state_free(optim->store, optim->m);
    prx_optim_state_free(optim->store, optim->v);
    free(optim->slots);
    free(optim);
}

int prx_adamw_step(struct prx_adamw *optim, double lr, double grad_scale)
{
    const struct prx_param_store *store = optim->store;
    const struct prx_adamw_config *config = &optim->config;
    struct prx_adamw_args args = {
        .lr = lr,
        .beta1 = config->beta1,
        .beta2 = config->beta2,
        .eps = config->eps,
        .weight_decay = config->weight_decay,
        .step = optim->n_steps + 1,
        .grad_scale = grad_scale,
    };
    size_t n_slots = 0;

    /* Gathered anew: an exchange of averages and weights moves the values. */
    for (size_t i = 0; i < store->n_params; i++)
        if (store->params[i]->grad.data)
            optim->slots[n_slots++] = (struct prx_adamw_slot){
                .p = store->params[i]->value,
                .g = store->params[i]->grad,
                .m = optim->m[i],
                .v = optim->v[i],
            };
    PRX_TRY(store->be->ops->adamw(store->be, optim->slots, n_slots, &args));
    optim->n_steps++;
    return 0;
}
