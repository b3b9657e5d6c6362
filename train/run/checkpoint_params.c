/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of a parameter store to a safetensors file and back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/npy.h"
#include "libdata/safetensors.h"
#include "train/bf16.h"
#include "train/checkpoint.h"

#define NAME_BYTES 256

/* The tensor that stands for parameter @i: of @tensors, or its own value. */
static struct prx_tensor *tensor_of(struct prx_param_store *store,
                                    struct prx_tensor *tensors, size_t i)
{
    return tensors ? &tensors[i] : &store->params[i]->value;
}

/* --- saving ---------------------------------------------------------------------- */

struct save {
    struct prx_backend *be;
    const struct prx_tensor **tensors; /* in the file's order */
    struct prx_st_tensor *list;        /* the file's */
    char (*names)[NAME_BYTES];
    size_t n;
};

static enum prx_st_type stored_type(const struct prx_tensor *tensor,
                                    const struct prx_weight_format *format)
{
    switch (format->type) {
    case PRX_WEIGHT_F32:
        return PRX_ST_F32;
    case PRX_WEIGHT_BF16:
        return PRX_ST_BF16;
    case PRX_WEIGHT_F16:
        return PRX_ST_F16;
    default:
        return tensor->dtype == PRX_BF16 ? PRX_ST_BF16 : PRX_ST_F32;
    }
}

/* @n elements of @tensor, on the host, as float32. */
static int get_f32(struct prx_backend *be, const struct prx_tensor *tensor, size_t n,
                   float *out)
{
    if (tensor->dtype != PRX_BF16)
        return prx_tensor_get(be, tensor, out);
    /* In the upper half of the memory, and widened from the front. */
    prx_bf16 *halves = (prx_bf16 *)(void *)out + n;
    PRX_TRY(prx_tensor_get(be, tensor, halves));
    for (size_t i = 0; i < n; i++)
        out[i] = prx_bf16_to_f32(halves[i]);
    return 0;
}

static int put_halves(const struct prx_st_tensor *stored, const float *values, size_t n,
                      uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = stored->type == PRX_ST_BF16 ? prx_bf16_from_f32(values[i]).bits
                                             : prx_f16_from_f32(values[i]);
        if (stored->type == PRX_ST_F16 && !isfinite(prx_f32_from_f16(out[i])))
            return prx_err(PRX_ENONFINITE, "%s: %g is no float16", stored->name,
                           (double)values[i]);
    }
    return 0;
}

static int read_out(void *ctx, size_t i, void *out)
{
    const struct save *save = ctx;
    const struct prx_tensor *tensor = save->tensors[i];
    const struct prx_st_tensor *stored = &save->list[i];
    size_t n = (size_t)prx_tensor_count(tensor);

    if (stored->n_bytes == prx_tensor_bytes(tensor) && stored->type != PRX_ST_F16)
        return prx_tensor_get(save->be, tensor, out);
    if (stored->type == PRX_ST_F32)
        return get_f32(save->be, tensor, n, out);
    float *values = malloc(n * sizeof(*values));
    if (!values)
        return prx_err_nomem(stored->name);
    int rc = get_f32(save->be, tensor, n, values);
    if (rc == 0)
        rc = put_halves(stored, values, n, out);
    free(values);
    return rc;
}

/* One tensor more for the file. */
static int add_tensor(struct save *save, const struct prx_tensor *tensor,
                      const char *name, const struct prx_weight_format *format)
{
    struct prx_st_tensor *stored = &save->list[save->n];
    enum prx_st_type type = stored_type(tensor, format);
    char *own_name = save->names[save->n];

    if (format->prx_names)
        PRX_TRY(prx_param_name_to_prx(name, own_name, NAME_BYTES));
    *stored = (struct prx_st_tensor){
        .name = format->prx_names ? own_name : name,
        .type = type,
        .n_dims = tensor->n_dims,
        .n_bytes = (size_t)prx_tensor_count(tensor) * prx_st_type_bytes(type),
    };
    memcpy(stored->dims, tensor->dims, (size_t)tensor->n_dims * sizeof(int64_t));
    save->tensors[save->n++] = tensor;
    return 0;
}

static int save_as(struct prx_param_store *store, const struct prx_tensor *tensors,
                   const struct prx_weight_format *format, const char *path)
{
    struct save save = {.be = store->be};
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    int rc = 0;

    save.list = calloc(store->n_params + 1, sizeof(*save.list));
    save.names = calloc(store->n_params + 1, sizeof(*save.names));
    save.tensors = calloc(store->n_params + 1, sizeof(*save.tensors));
    if (!save.list || !metadata || !save.names || !save.tensors)
        PRX_GO(prx_err_nomem(path));
    for (size_t i = 0; i < store->n_params; i++) {
        const struct prx_tensor *tensor =
            tensors ? &tensors[i] : &store->params[i]->value;
        if (tensor->n_dims > 0)
            PRX_GO(add_tensor(&save, tensor, store->params[i]->name, format));
    }
    rc = prx_st_write_from(path, save.list, save.n, metadata, read_out, &save);
out:
    json_decref(metadata);
    free(save.tensors);
    free(save.names);
    free(save.list);
    return rc;
}

int prx_params_save(struct prx_param_store *store, const struct prx_tensor *tensors,
                    const char *path)
{
    return save_as(store, tensors, &(struct prx_weight_format){0}, path);
}

int prx_params_export(struct prx_param_store *store,
                      const struct prx_weight_format *format, const char *path)
{
    return save_as(store, NULL, format, path);
}

/* --- loading ---------------------------------------------------------------------- */

static bool has_shape_of(const struct prx_st_tensor *stored,
                         const struct prx_tensor *wanted)
{
    if (stored->n_dims != wanted->n_dims)
        return false;
    for (int i = 0; i < wanted->n_dims; i++)
        if (stored->dims[i] != wanted->dims[i])
            return false;
    return true;
}

static int load_tensor(struct prx_backend *be, struct prx_tensor *tensor,
                       const struct prx_st_tensor *stored)
{
    size_t n = (size_t)prx_tensor_count(tensor);
    enum prx_st_type own = tensor->dtype == PRX_BF16 ? PRX_ST_BF16 : PRX_ST_F32;

    if (stored->type == own)
        return prx_tensor_set(be, tensor, stored->bytes);
    float *values = calloc(n + 1, sizeof(*values));
    if (!values)
        return prx_err_nomem(stored->name);
    int rc = prx_st_get_f32(stored, values);
    if (rc == 0)
        rc = prx_tensor_set_f32(be, tensor, values);
    free(values);
    return rc;
}

static int find_param(const struct prx_param_store *store, const char *stored_name,
                      size_t *out)
{
    char name[NAME_BYTES];

    PRX_TRY(prx_param_name_from_prx(stored_name, name, sizeof(name)));
    for (size_t i = 0; i < store->n_params; i++) {
        if (strcmp(store->params[i]->name, name) == 0) {
            *out = i;
            return 0;
        }
    }
    return prx_err(PRX_ESHAPE, "%s is no parameter of this network", stored_name);
}

static int load_all(struct prx_param_store *store, struct prx_tensor *tensors,
                    const struct prx_st_file *file, bool *is_loaded)
{
    for (size_t j = 0; j < file->n_tensors; j++) {
        const struct prx_st_tensor *stored = &file->tensors[j];
        size_t i = 0;
        PRX_TRY(find_param(store, stored->name, &i));
        if (is_loaded[i])
            return prx_err(PRX_ESHAPE, "%s is there under two names", stored->name);
        struct prx_tensor *tensor = tensor_of(store, tensors, i);
        if (tensor->n_dims == 0)
            return prx_err(PRX_ESHAPE, "%s is not expected", stored->name);
        if (!has_shape_of(stored, tensor)) {
            char wanted[64];
            prx_tensor_format_shape(tensor, wanted, sizeof(wanted));
            return prx_err(PRX_ESHAPE, "%s has another shape than %s", stored->name,
                           wanted);
        }
        PRX_TRY(load_tensor(store->be, tensor, stored));
        is_loaded[i] = true;
    }
    for (size_t i = 0; i < store->n_params; i++)
        if (!is_loaded[i] && tensor_of(store, tensors, i)->n_dims > 0)
            return prx_err(PRX_ESHAPE, "%s is missing", store->params[i]->name);
    return 0;
}

int prx_params_load(struct prx_param_store *store, struct prx_tensor *tensors,
                    const char *path)
{
    struct prx_st_file file = {0};
    int rc = 0;

    bool *is_loaded = calloc(store->n_params + 1, sizeof(*is_loaded));
    if (!is_loaded)
        return prx_err_nomem(path);
    PRX_GO(prx_st_open(path, &file));
    rc = load_all(store, tensors, &file, is_loaded);
    if (rc < 0)
        rc = prx_err_frame(rc, "%s", path);
out:
    prx_st_close(&file);
    free(is_loaded);
    return rc;
}
