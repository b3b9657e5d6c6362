/* SPDX-License-Identifier: Apache-2.0 */
/* The global norm of gradients, and by how much it must shrink. */
#include "train/optim.h"

#include <math.h>
#include <stdlib.h>

int prx_grad_norm(struct prx_param_store *store, double *out)
{
    struct prx_backend *be = store->be;
    struct prx_tensor *grads = calloc(store->n_params + 1, sizeof(*grads));
    struct prx_tensor total = {0};
    float sum = 0.0f;
    size_t n_grads = 0;
    int rc = 0;

    if (!grads)
        return prx_err_nomem("a list of gradients");
    for (size_t i = 0; i < store->n_params; i++)
        if (store->params[i]->grad.data)
            grads[n_grads++] = store->params[i]->grad;
    PRX_GO(prx_tensor_alloc(be, PRX_F32, 1, (int64_t[]){1}, &total));
    PRX_GO(prx_tensor_zero(be, &total));
    PRX_GO(be->ops->sumsq(be, &total, grads, n_grads));
    PRX_GO(prx_tensor_get(be, &total, &sum));
    *out = sqrt((double)sum);
out:
    prx_tensor_free(be, &total);
    free(grads);
    return rc;
}

double prx_clip_factor(double norm, double max_norm)
{
    double factor = max_norm / (norm + 1e-6);
    return factor > 1.0 ? 1.0 : factor; /* a NaN stays one */
}
