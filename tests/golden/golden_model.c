/* SPDX-License-Identifier: Apache-2.0 */
/* The denoiser of a case: config.model, and weights stored or generated. */
#include "tests/golden/golden.h"

#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 256

/* Without a kind, weights of the fusion tell SPRINT from TREAD. */
static int route_of(const struct golden_case *golden, struct prx_route *out)
{
    const char *kind = golden_text(golden, "route.kind");
    bool has_fusion = prx_st_find(&golden->file, "w.sprint_fuse.weight") != NULL;
    const json_t *config = json_object_get(golden->root, "config");
    const json_t *detach = json_object_get(json_object_get(config, "route"), "detach");

    *out = (struct prx_route){.kind = PRX_ROUTE_NONE};
    if (!golden_has(golden, "route"))
        return 0;
    if (strcmp(kind, "sprint") == 0 || (!*kind && has_fusion))
        out->kind = PRX_ROUTE_SPRINT;
    else if (strcmp(kind, "tread") == 0 || !*kind)
        out->kind = PRX_ROUTE_TREAD;
    else
        return prx_err(PRX_EINVAL, "route.kind %.40s", kind);
    out->detach = json_is_true(detach);
    PRX_TRY(golden_integer(golden, "route.start", &out->start));
    return golden_integer(golden, "route.end", &out->end);
}

static int model_config(const struct golden_case *golden,
                        struct prx_denoiser_config *out)
{
    const char *mode = golden_text(golden, "resolution_mode");
    double axis = 0.0;

    *out = (struct prx_denoiser_config){0};
    PRX_TRY(golden_integer(golden, "model.in_channels", &out->in_channels));
    PRX_TRY(golden_integer(golden, "model.patch_size", &out->patch_size));
    PRX_TRY(golden_integer(golden, "model.context_in_dim", &out->context_in_dim));
    PRX_TRY(golden_integer(golden, "model.hidden_size", &out->hidden_size));
    PRX_TRY(golden_number(golden, "model.mlp_ratio", &out->mlp_ratio));
    PRX_TRY(golden_integer(golden, "model.num_heads", &out->num_heads));
    PRX_TRY(golden_integer(golden, "model.depth", &out->depth));
    for (size_t i = 0; i < 2; i++) {
        PRX_TRY(golden_element(golden, "model.axes_dim", i, &axis));
        out->axes_dim[i] = (int64_t)axis;
    }
    PRX_TRY(golden_number(golden, "model.theta", &out->theta));
    PRX_TRY(golden_number(golden, "model.time_factor", &out->time_factor));
    PRX_TRY(golden_number(golden, "model.time_max_period", &out->time_max_period));
    if (golden_has(golden, "model.bottleneck_size"))
        PRX_TRY(golden_integer(golden, "model.bottleneck_size", &out->bottleneck_size));
    PRX_TRY(route_of(golden, &out->route));
    if (strcmp(mode, "vec") == 0)
        out->resolution_mode = PRX_RESOLUTION_VEC;
    else if (strcmp(mode, "token") == 0)
        out->resolution_mode = PRX_RESOLUTION_TOKEN;
    else if (*mode)
        return prx_err(PRX_EINVAL, "resolution_mode %.40s", mode);
    return 0;
}

int golden_param_name(const struct golden_case *golden, const struct prx_param *param,
                      char *out, size_t n_out_bytes)
{
    if (strcmp(golden_text(golden, "naming"), "prx") == 0)
        return prx_param_name_to_prx(param->name, out, n_out_bytes);
    return prx_param_name_from_prx(param->name, out, n_out_bytes);
}

static int load_param(struct golden_case *golden, struct prx_param *param)
{
    const struct prx_st_tensor *weight = NULL;
    char name[NAME_BYTES];
    float *values = NULL;

    PRX_TRY(golden_param_name(golden, param, name, sizeof(name)));
    PRX_TRY(golden_input(golden, &weight, "w.%s", name));
    bool is_same = weight->n_dims == param->value.n_dims;
    for (int i = 0; is_same && i < weight->n_dims; i++)
        is_same = weight->dims[i] == param->value.dims[i];
    if (!is_same)
        return prx_err(PRX_ESHAPE, "w.%s has another shape than the model's", name);
    PRX_TRY(golden_alloc(golden, (size_t)prx_tensor_count(&param->value), sizeof(float),
                         &values));
    PRX_TRY(prx_st_get_f32(weight, values));
    return prx_tensor_set(golden->be, &param->value, values);
}

/* Every stored weight must belong to the model. */
static int load_stored(struct golden_case *golden, struct prx_param_store *store)
{
    size_t n_weights = 0;

    for (size_t i = 0; i < golden->file.n_tensors; i++)
        n_weights += strncmp(golden->file.tensors[i].name, "w.", 2) == 0;
    for (size_t i = 0; i < store->n_params; i++)
        PRX_TRY(load_param(golden, store->params[i]));
    if (n_weights != store->n_params)
        return prx_err(PRX_ENOENT, "%zu weights for the %zu parameters of the model",
                       n_weights, store->n_params);
    return 0;
}

double golden_splitmix(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (double)(z >> 40) * 0x1p-23 - 1.0;
}

static int generate_param(struct golden_case *golden, const json_t *row,
                          struct prx_param_store *store, uint64_t seed)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    char own_name[NAME_BYTES];
    float *values = NULL;

    PRX_TRY(prx_param_name_from_prx(name ? name : "", own_name, sizeof(own_name)));
    struct prx_param *param = prx_param_store_find(store, own_name);
    if (!param)
        return prx_err(PRX_ENOENT, "the model has no parameter %.100s", own_name);
    uint64_t i_first = (uint64_t)json_integer_value(json_object_get(row, "offset"));
    double scale = json_number_value(json_object_get(row, "scale"));
    double bias = json_number_value(json_object_get(row, "bias"));
    int64_t count = prx_tensor_count(&param->value);
    PRX_TRY(golden_alloc(golden, (size_t)count, sizeof(float), &values));
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)bias +
                    (float)scale * (float)golden_splitmix(seed, i_first + (uint64_t)i);
    return prx_tensor_set(golden->be, &param->value, values);
}

static int load_generated(struct golden_case *golden, struct prx_param_store *store)
{
    const json_t *weights =
        json_object_get(json_object_get(golden->root, "config"), "weights");
    const json_t *rows = json_object_get(weights, "params");
    int64_t seed = 0;

    if (strcmp(golden_text(golden, "weights.kind"), "splitmix64") != 0 ||
        json_array_size(rows) != store->n_params)
        return prx_err(PRX_ECORRUPT, "config.weights does not describe the model");
    PRX_TRY(golden_integer(golden, "weights.seed", &seed));
    for (size_t i = 0; i < json_array_size(rows); i++)
        PRX_TRY(generate_param(golden, json_array_get(rows, i), store, (uint64_t)seed));
    return 0;
}

int golden_model(struct golden_case *golden, bool train, struct prx_denoiser **out)
{
    struct prx_denoiser_config config;
    struct prx_denoiser *denoiser = NULL;
    int rc = 0;

    PRX_TRY(model_config(golden, &config));
    PRX_GO(prx_denoiser_new(golden->be, &config, train, &denoiser));
    if (golden_has(golden, "weights"))
        PRX_GO(load_generated(golden, prx_denoiser_params(denoiser)));
    else
        PRX_GO(load_stored(golden, prx_denoiser_params(denoiser)));
    *out = denoiser;
    denoiser = NULL;
out:
    prx_denoiser_free(denoiser);
    return rc;
}

bool golden_is_todo(const struct golden_case *golden)
{
    return golden_has(golden, "repa") || golden_has(golden, "contrastive_lambda");
}

int golden_prediction(const struct golden_case *golden, enum prx_prediction *out)
{
    return prx_prediction_find(golden_text(golden, "prediction_type"), out);
}

int golden_visible(struct golden_case *golden, struct prx_tensor *out)
{
    *out = (struct prx_tensor){0};
    if (!prx_st_find(&golden->file, "in.routed_idx"))
        return 0;
    return golden_upload(golden, out, "in.visible_idx");
}
