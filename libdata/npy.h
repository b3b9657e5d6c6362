/* SPDX-License-Identifier: Apache-2.0 */
/*
 * npy.h - NumPy's array file, format 1.0 to 3.0, as a field of a sample.
 *
 * Source: numpy.lib.format.  Written: version 1.0, little-endian, C order.
 * Read: '<f4' '<f2' '<i4' '<i8' '|u1' '|b1' (as u8) in C order; anything else
 * (object arrays, Fortran order, big-endian, structures) is PRX_EFORMAT; a file
 * whose length is not what its header says is PRX_ECORRUPT.
 *
 * Reading allocates nothing.  All functions are reentrant.
 */
#ifndef PRX_LIBDATA_NPY_H
#define PRX_LIBDATA_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_NPY_DIMS_MAX 8

enum prx_npy_type { PRX_NPY_F32,
                    PRX_NPY_F16,
                    PRX_NPY_I32,
                    PRX_NPY_I64,
                    PRX_NPY_U8 };

struct prx_npy {
    enum prx_npy_type type;
    int n_dims; /* 0 for a scalar, which has one element */
    int64_t dims[PRX_NPY_DIMS_MAX];
    size_t n_elements;
    const uint8_t *bytes; /* first element, borrowed, maybe unaligned */
};

size_t prx_npy_type_bytes(enum prx_npy_type type);

/**
 * prx_npy_parse - view @bytes as an array; valid as long as they are.
 * Errors: PRX_ECORRUPT, PRX_EFORMAT.
 */
PRX_MUST_USE int prx_npy_parse(const uint8_t *bytes, size_t n_bytes,
                               struct prx_npy *out);

/**
 * prx_npy_parse_head - the same of a file of @n_bytes whose first @n_head_bytes
 * alone are at @bytes.
 *
 * out->bytes then points behind the header and may not be followed.
 * Errors: as prx_npy_parse(); PRX_EFORMAT where the header is longer.
 */
PRX_MUST_USE int prx_npy_parse_head(const uint8_t *bytes, size_t n_head_bytes,
                                    size_t n_bytes, struct prx_npy *out);

/**
 * prx_npy_format - a new .npy file of @values ([dims] of @type, C order).
 * Errors: PRX_EINVAL (dims are negative, too many or too large), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_npy_format(enum prx_npy_type type, int n_dims,
                                const int64_t *dims, const void *values,
                                struct prx_buf **out);

/**
 * prx_npy_put_f32 - a new .npy file of @values, kept (PRX_NPY_F32) or rounded
 * (PRX_NPY_F16).
 *
 * Errors: PRX_ENONFINITE (NaN, infinity, or beyond half precision; the message
 * has the value and its index), else as prx_npy_format().
 */
PRX_MUST_USE int prx_npy_put_f32(enum prx_npy_type type, int n_dims,
                                 const int64_t *dims, const float *values,
                                 struct prx_buf **out);

/** prx_npy_get_f32 - all elements as float; PRX_EFORMAT for integer types. */
PRX_MUST_USE int prx_npy_get_f32(const struct prx_npy *npy, float *out);

/** prx_npy_is_finite - is every element of @npy finite?  Integers are. */
bool prx_npy_is_finite(const struct prx_npy *npy);

/* IEEE half precision, round to nearest even; overflow becomes infinity. */
uint16_t prx_f16_from_f32(float value);
float prx_f32_from_f16(uint16_t half);

#ifdef __cplusplus
}
#endif
#endif
