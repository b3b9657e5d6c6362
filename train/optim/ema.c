/* SPDX-License-Identifier: Apache-2.0 */
/* Exponential moving averages of weights. */
#include "train/optim/optim_internal.h"

#include <stdlib.h>

static int lerp(struct prx_ema *ema, double weight)
{
    struct prx_param_store *store = ema->store;
    size_t n_params = store->n_params;
    struct prx_tensor *weights = malloc((n_params + 1) * sizeof(*weights));

    if (!weights)
        return prx_err_nomem("a list of weights");
    for (size_t i = 0; i < n_params; i++)
        weights[i] = store->params[i]->value;
    int rc = store->be->ops->lerp(store->be, ema->averages, weights, n_params, weight);
    free(weights);
    return rc;
}

static int copy_weights(struct prx_ema *ema)
{
    struct prx_backend *be = ema->store->be;
    for (size_t i = 0; i < ema->store->n_params; i++)
        PRX_TRY(
            be->ops->cast(be, &ema->averages[i], &ema->store->params[i]->value));
    return 0;
}

int prx_ema_new(struct prx_param_store *store, double smoothing, int64_t interval_steps,
                int64_t start_step, struct prx_ema **out)
{
    struct prx_ema *ema = NULL;
    int rc = 0;

    if (!(smoothing >= 0.0 && smoothing <= 1.0) || interval_steps < 1)
        return prx_err(PRX_EINVAL, "no average with smoothing %g every %lld steps",
                       smoothing, (long long)interval_steps);
    ema = malloc(sizeof(*ema));
    if (!ema)
        return prx_err_nomem("averages of weights");
    *ema = (struct prx_ema){
        .store = store,
        .smoothing = smoothing,
        .interval_steps = interval_steps,
        .start_step = start_step,
    };
    PRX_GO(prx_optim_state_new(store, PRX_F32, NULL, &ema->averages));
    PRX_GO(copy_weights(ema));
    *out = ema;
    ema = NULL;
out:
    prx_ema_free(ema);
    return rc;
}

void prx_ema_free(struct prx_ema *ema)
{
    if (!ema)
        return;
    prx_optim_state_free(ema->store, ema->averages);
    free(ema);
}

int prx_ema_step(struct prx_ema *ema, int64_t k)
{
    if (!ema->active && k >= ema->start_step) {
        PRX_TRY(copy_weights(ema));
        ema->active = true;
    }
    if (ema->active && k % ema->interval_steps == 0)
        PRX_TRY(lerp(ema, 1.0 - ema->smoothing));
    return 0;
}

void prx_ema_swap(struct prx_ema *ema)
{
    for (size_t i = 0; i < ema->store->n_params; i++) {
        struct prx_tensor *value = &ema->store->params[i]->value;
        struct prx_tensor average = ema->averages[i];
        ema->averages[i] = *value;
        *value = average;
    }
}
