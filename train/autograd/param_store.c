/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a model: named, in a fixed order, each with its gradient. */
#include "train/tape.h"

#include "libdata/buf.h"

#include <stdlib.h>
#include <string.h>

void prx_param_store_init(struct prx_param_store *store, struct prx_backend *be,
                          bool train)
{
    *store = (struct prx_param_store){.be = be, .train = train};
}

static void param_free(struct prx_backend *be, struct prx_param *param)
{
    if (!param)
        return;
    prx_tensor_free(be, &param->value);
    prx_tensor_free(be, &param->grad);
    free(param->name);
    free(param);
}

void prx_param_store_release(struct prx_param_store *store)
{
    for (size_t i = 0; i < store->n_params; i++)
        param_free(store->be, store->params[i]);
    free(store->params);
    *store = (struct prx_param_store){0};
}

static int reserve(struct prx_param_store *store)
{
    if (store->n_params < store->cap_params)
        return 0;
    size_t cap_params = store->cap_params ? 2 * store->cap_params : 64;
    struct prx_param **params =
        realloc(store->params, cap_params * sizeof(*store->params));
    if (!params)
        return prx_err_nomem("a list of parameters");
    store->params = params;
    store->cap_params = cap_params;
    return 0;
}

static int new_zeros(struct prx_backend *be, enum prx_dtype dtype, int n_dims,
                     const int64_t *dims, struct prx_tensor *out)
{
    PRX_TRY(prx_tensor_alloc(be, dtype, n_dims, dims, out));
    return prx_tensor_zero(be, out);
}

int prx_param_store_add(struct prx_param_store *store, const char *name, int n_dims,
                        const int64_t *dims, struct prx_param **out)
{
    struct prx_param *param = NULL;
    int rc = 0;

    if (prx_param_store_find(store, name))
        return prx_err(PRX_EEXIST, "two parameters named %s", name);
    PRX_GO(reserve(store));
    param = calloc(1, sizeof(*param));
    if (!param)
        return prx_err_nomem("a parameter");
    PRX_GO(prx_strdup(name, &param->name));
    PRX_GO(new_zeros(store->be, store->dtype, n_dims, dims, &param->value));
    if (store->train)
        PRX_GO(new_zeros(store->be, PRX_F32, n_dims, dims, &param->grad));
    store->params[store->n_params++] = param;
    if (out)
        *out = param;
    param = NULL;
out:
    param_free(store->be, param);
    return rc;
}

static int cast_value(struct prx_backend *be, struct prx_tensor *value,
                      enum prx_dtype dtype)
{
    struct prx_tensor cast = {0};
    int rc = 0;

    if (value->dtype == dtype)
        return 0;
    PRX_GO(prx_tensor_alloc(be, dtype, value->n_dims, value->dims, &cast));
    PRX_GO(be->ops->cast(be, &cast, value));
    struct prx_tensor before = *value;
    *value = cast;
    cast = before;
out:
    prx_tensor_free(be, &cast);
    return rc;
}

int prx_param_store_cast(struct prx_param_store *store, enum prx_dtype dtype)
{
    for (size_t i = 0; i < store->n_params; i++)
        PRX_TRY(cast_value(store->be, &store->params[i]->value, dtype));
    store->dtype = dtype;
    return 0;
}

void prx_param_freeze(struct prx_param_store *store, struct prx_param *param)
{
    prx_tensor_free(store->be, &param->grad);
}

struct prx_param *prx_param_store_find(const struct prx_param_store *store,
                                       const char *name)
{
    for (size_t i = 0; i < store->n_params; i++)
        if (strcmp(store->params[i]->name, name) == 0)
            return store->params[i];
    return NULL;
}

int prx_param_store_zero_grad(struct prx_param_store *store)
{
    for (size_t i = 0; i < store->n_params; i++)
        if (store->params[i]->grad.data)
            PRX_TRY(prx_tensor_zero(store->be, &store->params[i]->grad));
    return 0;
}

int64_t prx_param_store_count(const struct prx_param_store *store)
{
    int64_t count = 0;
    for (size_t i = 0; i < store->n_params; i++)
        count += prx_tensor_count(&store->params[i]->value);
    return count;
}
