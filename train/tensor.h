/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.h - a shape over memory of a backend.
 *
 * A tensor is a small value: dtype, dims, pointer.  It is contiguous, row-major,
 * and owns nothing; memory belongs to an arena (one training step), to a
 * parameter store, or to a batch.  The pointer is a device's: nothing but ops and
 * prx_backend copies may follow it.
 */
#ifndef PRX_TRAIN_TENSOR_H
#define PRX_TRAIN_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_DIMS_MAX 5

enum prx_dtype { PRX_F32,
                 PRX_BF16,
                 PRX_I32 };

struct prx_tensor {
    enum prx_dtype dtype;
    int n_dims;
    int64_t dims[PRX_DIMS_MAX];
    void *data; /* device memory; NULL for an absent tensor or one without elements */
};

size_t prx_dtype_bytes(enum prx_dtype dtype);

/** prx_dtype_name - "f32", "bf16", "i32". */
const char *prx_dtype_name(enum prx_dtype dtype);

/**
 * prx_tensor_shape - @out becomes a tensor of this shape without memory.
 *
 * Errors: PRX_ESHAPE for no or too many dimensions, a negative one, or more bytes
 * than an address space holds; counts below cannot overflow afterwards.
 */
PRX_MUST_USE int prx_tensor_shape(enum prx_dtype dtype, int n_dims, const int64_t *dims,
                                  struct prx_tensor *out);

/** prx_tensor_is_absent - NULL or without memory: how an optional operand is left out.
 */
bool prx_tensor_is_absent(const struct prx_tensor *tensor);

int64_t prx_tensor_count(const struct prx_tensor *tensor);
size_t prx_tensor_bytes(const struct prx_tensor *tensor);
bool prx_tensor_same_shape(const struct prx_tensor *a, const struct prx_tensor *b);

/** prx_tensor_view - @tensor's memory under other dims of the same count. */
struct prx_tensor prx_tensor_view(const struct prx_tensor *tensor, int n_dims,
                                  const int64_t *dims);

/** prx_tensor_rows - product of all dims but the last; the count of rows R. */
int64_t prx_tensor_rows(const struct prx_tensor *tensor);

/** prx_tensor_format_shape - "[2, 64, 192] f32" into @out, for messages. */
void prx_tensor_format_shape(const struct prx_tensor *tensor, char *out,
                             size_t n_out_bytes);

#ifdef __cplusplus
}
#endif
#endif
