/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes: counts, bytes and views of tensors; no memory is touched here. */
#include "train/tensor.h"

#include <inttypes.h>
#include <stdio.h>

size_t prx_dtype_bytes(enum prx_dtype dtype)
{
    return dtype == PRX_BF16 ? 2 : 4;
}

const char *prx_dtype_name(enum prx_dtype dtype)
{
    switch (dtype) {
    case PRX_BF16:
        return "bf16";
    case PRX_I32:
        return "i32";
    default:
        return "f32";
    }
}

int prx_tensor_shape(enum prx_dtype dtype, int n_dims, const int64_t *dims,
                     struct prx_tensor *out)
{
    size_t n_bytes = prx_dtype_bytes(dtype);

    if (n_dims < 1 || n_dims > PRX_DIMS_MAX)
        return prx_err(PRX_ESHAPE, "a tensor of %d dimensions", n_dims);
    *out = (struct prx_tensor){.dtype = dtype, .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) {
        if (dims[i] < 0)
            return prx_err(PRX_ESHAPE, "a tensor dimension of %" PRId64, dims[i]);
        out->dims[i] = dims[i];
        if (dims[i] > 0 &&
            (__builtin_mul_overflow(n_bytes, (uint64_t)dims[i], &n_bytes) ||
             n_bytes > PTRDIFF_MAX))
            return prx_err(PRX_ESHAPE, "a tensor larger than memory can be");
    }
    return 0;
}

int64_t prx_tensor_count(const struct prx_tensor *tensor)
{
    int64_t count = tensor->n_dims > 0;
    for (int i = 0; i < tensor->n_dims; i++)
        count *= tensor->dims[i];
    return count;
}

size_t prx_tensor_bytes(const struct prx_tensor *tensor)
{
    return (size_t)prx_tensor_count(tensor) * prx_dtype_bytes(tensor->dtype);
}

bool prx_tensor_is_absent(const struct prx_tensor *tensor)
{
    return !tensor || !tensor->data;
}

bool prx_tensor_same_shape(const struct prx_tensor *a, const struct prx_tensor *b)
{
    if (a->n_dims != b->n_dims)
        return false;
    for (int i = 0; i < a->n_dims; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

struct prx_tensor prx_tensor_view(const struct prx_tensor *tensor, int n_dims,
                                  const int64_t *dims)
{
    struct prx_tensor view = {
        .dtype = tensor->dtype,
        .n_dims = n_dims,
        .data = tensor->data,
    };
    PRX_BUG_IF(n_dims < 1 || n_dims > PRX_DIMS_MAX);
    for (int i = 0; i < n_dims; i++)
        view.dims[i] = dims[i];
    PRX_BUG_IF(prx_tensor_count(&view) != prx_tensor_count(tensor));
    return view;
}

int64_t prx_tensor_rows(const struct prx_tensor *tensor)
{
    int64_t n_rows = tensor->n_dims > 0;
    for (int i = 0; i + 1 < tensor->n_dims; i++)
        n_rows *= tensor->dims[i];
    return n_rows;
}

void prx_tensor_format_shape(const struct prx_tensor *tensor, char *out,
                             size_t n_out_bytes)
{
    size_t n_used = 0;

    if (n_out_bytes == 0)
        return;
    for (int i = 0; i < tensor->n_dims && n_used < n_out_bytes; i++)
        n_used += (size_t)snprintf(out + n_used, n_out_bytes - n_used, "%s%" PRId64,
                                   i == 0 ? "[" : ", ", tensor->dims[i]);
    if (n_used < n_out_bytes)
        snprintf(out + n_used, n_out_bytes - n_used, "%s] %s",
                 tensor->n_dims == 0 ? "[" : "", prx_dtype_name(tensor->dtype));
}
