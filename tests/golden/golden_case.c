/* SPDX-License-Identifier: Apache-2.0 */
/* One golden case: its files, its inputs, the results put into it. */
#include "tests/golden/golden.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 256

static int open_json(struct golden_case *golden)
{
    char path[4096];
    json_error_t error;

    snprintf(path, sizeof(path), "%s/case.json", golden->dir);
    golden->root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!golden->root)
        return prx_err(PRX_ECORRUPT, "case.json: line %d: %s", error.line, error.text);
    const char *op = json_string_value(json_object_get(golden->root, "op"));
    if (!op)
        return prx_err(PRX_ECORRUPT, "case.json: no op");
    golden->op = op;
    if (!json_is_object(json_object_get(golden->root, "config")))
        return prx_err(PRX_ECORRUPT, "case.json: no config");
    return 0;
}

int golden_case_open(struct golden_case *golden, const char *dir,
                     struct prx_backend *be)
{
    char path[4096];
    const char *slash = strrchr(dir, '/');

    *golden = (struct golden_case){
        .dir = dir,
        .name = slash ? slash + 1 : dir,
        .op = "-",
        .be = be,
    };
    PRX_TRY(open_json(golden));
    snprintf(path, sizeof(path), "%s/case.safetensors", dir);
    return prx_st_open(path, &golden->file);
}

void golden_case_close(struct golden_case *golden)
{
    for (size_t i = 0; i < golden->n_uploads; i++)
        prx_tensor_free(golden->be, &golden->uploads[i]);
    free(golden->uploads);
    free(golden->results);
    for (size_t i = 0; i < golden->n_blocks; i++)
        free(golden->blocks[i]);
    free(golden->blocks);
    prx_st_close(&golden->file);
    json_decref(golden->root);
    *golden = (struct golden_case){0};
}

/* Room for one more in an array of pointers or structs. */
static int grow(void *array_pointer, size_t n, size_t n_bytes_each)
{
    void **array = array_pointer;
    void *grown = realloc(*array, (n + 1) * n_bytes_each);
    if (!grown)
        return prx_err_nomem("a case");
    *array = grown;
    return 0;
}

int golden_alloc(struct golden_case *golden, size_t n, size_t n_bytes_each,
                 void *out_pointer)
{
    void **out = out_pointer;

    PRX_TRY(grow(&golden->blocks, golden->n_blocks, sizeof(*golden->blocks)));
    *out = calloc(n > 0 ? n : 1, n_bytes_each);
    if (!*out)
        return prx_err_nomem("a case");
    golden->blocks[golden->n_blocks++] = *out;
    return 0;
}

/* --- config ---------------------------------------------------------------- */

static const json_t *find(const struct golden_case *golden, const char *key)
{
    const json_t *at = json_object_get(golden->root, "config");
    char part[64];

    while (at) {
        size_t n_chars = strcspn(key, ".");
        snprintf(part, sizeof(part), "%.*s", (int)n_chars, key);
        at = json_object_get(at, part);
        if (key[n_chars] == '\0')
            break;
        key += n_chars + 1;
    }
    return at;
}

bool golden_has(const struct golden_case *golden, const char *key)
{
    const json_t *value = find(golden, key);
    return value && !json_is_null(value);
}

static int number_of(const json_t *value, const char *key, double *out)
{
    if (!json_is_number(value))
        return prx_err(PRX_ENOENT, "config has no number %s", key);
    *out = json_number_value(value);
    return 0;
}

int golden_number(const struct golden_case *golden, const char *key, double *out)
{
    return number_of(find(golden, key), key, out);
}

int golden_integer(const struct golden_case *golden, const char *key, int64_t *out)
{
    double number = 0.0;
    PRX_TRY(golden_number(golden, key, &number));
    if (!(number >= -0x1p53 && number <= 0x1p53) || (double)(int64_t)number != number)
        return prx_err(PRX_EINVAL, "config.%s is no whole number", key);
    *out = (int64_t)number;
    return 0;
}

int golden_element(const struct golden_case *golden, const char *key, size_t i,
                   double *out)
{
    return number_of(json_array_get(find(golden, key), i), key, out);
}

const char *golden_text(const struct golden_case *golden, const char *key)
{
    const char *text = json_string_value(find(golden, key));
    return text ? text : "";
}

/* --- inputs ------------------------------------------------------------------ */

static const struct prx_st_tensor *lookup(const struct golden_case *golden,
                                          const char *fmt, va_list args)
{
    char name[NAME_BYTES];
    vsnprintf(name, sizeof(name), fmt, args);
    return prx_st_find(&golden->file, name);
}

int golden_input(const struct golden_case *golden, const struct prx_st_tensor **out,
                 const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    *out = lookup(golden, fmt, args);
    va_end(args);
    if (*out)
        return 0;
    char name[NAME_BYTES];
    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    return prx_err(PRX_ENOENT, "no tensor %s", name);
}

/* A private copy of the elements, because those in the file may be unaligned. */
static int typed_input(struct golden_case *golden, const char *name, int n_dims,
                       enum prx_st_type type, const struct prx_st_tensor **tensor,
                       void *out_pointer)
{
    void **out = out_pointer;

    PRX_TRY(golden_input(golden, tensor, "%s", name));
    if ((*tensor)->type != type || (n_dims > 0 && (*tensor)->n_dims != n_dims))
        return prx_err(PRX_ESHAPE, "%s is not %s of %d dimensions", name,
                       prx_st_type_name(type), n_dims);
    PRX_TRY(golden_alloc(golden, (*tensor)->n_bytes, 1, out));
    if ((*tensor)->n_bytes > 0)
        memcpy(*out, (*tensor)->bytes, (*tensor)->n_bytes);
    return 0;
}

int golden_floats(struct golden_case *golden, const char *name, int n_dims,
                  const struct prx_st_tensor **tensor, const float **out)
{
    return typed_input(golden, name, n_dims, PRX_ST_F32, tensor, out);
}

int golden_ints(struct golden_case *golden, const char *name, int n_dims,
                const struct prx_st_tensor **tensor, const int32_t **out)
{
    return typed_input(golden, name, n_dims, PRX_ST_I32, tensor, out);
}

int golden_device(struct golden_case *golden, enum prx_dtype dtype, int n_dims,
                  const int64_t *dims, struct prx_tensor *out)
{
    PRX_TRY(grow(&golden->uploads, golden->n_uploads, sizeof(*golden->uploads)));
    PRX_TRY(prx_tensor_alloc(golden->be, dtype, n_dims, dims, out));
    golden->uploads[golden->n_uploads++] = *out;
    return 0;
}

int golden_upload(struct golden_case *golden, struct prx_tensor *out, const char *fmt,
                  ...)
{
    va_list args;

    *out = (struct prx_tensor){0};
    va_start(args, fmt);
    const struct prx_st_tensor *tensor = lookup(golden, fmt, args);
    va_end(args);
    if (!tensor)
        return 0;
    if ((tensor->type != PRX_ST_F32 && tensor->type != PRX_ST_I32) ||
        tensor->n_dims < 1 || tensor->n_dims > PRX_DIMS_MAX)
        return prx_err(PRX_ESHAPE, "%s is not F32 or I32 of 1 to %d dimensions",
                       tensor->name, PRX_DIMS_MAX);
    PRX_TRY(golden_device(golden, tensor->type == PRX_ST_F32 ? PRX_F32 : PRX_I32,
                          tensor->n_dims, tensor->dims, out));
    return prx_tensor_set(golden->be, out, tensor->bytes);
}

/* --- results ------------------------------------------------------------------ */

int golden_put(struct golden_case *golden, const char *name, enum prx_st_type type,
               int n_dims, const int64_t *dims, const void *values)
{
    struct prx_st_tensor result = {.type = type, .n_dims = n_dims};
    size_t n_bytes = prx_st_type_bytes(type);
    char *name_copy = NULL;
    void *bytes = NULL;

    for (int i = 0; i < n_dims; i++) {
        result.dims[i] = dims[i];
        n_bytes *= (size_t)dims[i];
    }
    PRX_TRY(grow(&golden->results, golden->n_results, sizeof(*golden->results)));
    PRX_TRY(golden_alloc(golden, strlen(name) + 1, 1, &name_copy));
    PRX_TRY(golden_alloc(golden, n_bytes, 1, &bytes));
    memcpy(name_copy, name, strlen(name));
    if (n_bytes > 0)
        memcpy(bytes, values, n_bytes);
    result.name = name_copy;
    result.bytes = bytes;
    result.n_bytes = n_bytes;
    golden->results[golden->n_results++] = result;
    return 0;
}

int golden_put_numbers(struct golden_case *golden, const char *name,
                       const double *values, int64_t n)
{
    float *floats = NULL;
    PRX_TRY(golden_alloc(golden, (size_t)n, sizeof(*floats), &floats));
    for (int64_t i = 0; i < n; i++)
        floats[i] = (float)values[i];
    return golden_put(golden, name, PRX_ST_F32, 1, &n, floats);
}

int golden_put_device(struct golden_case *golden, const struct prx_tensor *tensor,
                      const char *fmt, ...)
{
    char name[NAME_BYTES];
    void *values = NULL;
    va_list args;

    va_start(args, fmt);
    vsnprintf(name, sizeof(name), fmt, args);
    va_end(args);
    PRX_TRY(golden_alloc(golden, prx_tensor_bytes(tensor), 1, &values));
    PRX_TRY(prx_tensor_get(golden->be, tensor, values));
    return golden_put(golden, name, tensor->dtype == PRX_I32 ? PRX_ST_I32 : PRX_ST_F32,
                      tensor->n_dims, tensor->dims, values);
}
