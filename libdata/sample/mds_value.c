/* SPDX-License-Identifier: Apache-2.0 */
/* Values of MDS columns that are not stored as a field has them: arrays, numbers,
 * pixels. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/image.h"
#include "libdata/mds.h"

#define N_PIL_BYTES  12
#define N_DIGITS_MAX 64 /* longer ones are text */

/* Types of arrays: their number, and the type npy.h has for it, or -1. */
static const struct array_type {
    const char *name;
    const char *encoding;
    uint8_t number;
    int npy_type;
} array_types[] = {
    {"uint8", "ndarray:uint8", 8, PRX_NPY_U8},
    {"int8", NULL, 9, -1},
    {"uint16", NULL, 16, -1},
    {"int16", NULL, 17, -1},
    {"float16", "ndarray:float16", 18, PRX_NPY_F16},
    {"uint32", NULL, 32, -1},
    {"int32", "ndarray:int32", 33, PRX_NPY_I32},
    {"float32", "ndarray:float32", 34, PRX_NPY_F32},
    {"uint64", NULL, 64, -1},
    {"int64", "ndarray:int64", 65, PRX_NPY_I64},
    {"float64", NULL, 66, -1},
};

#define N_ARRAY_TYPES (sizeof(array_types) / sizeof(array_types[0]))

bool prx_mds_encoding_is(const char *encoding, const char *name)
{
    size_t n_name = strlen(name);
    return strncmp(encoding, name, n_name) == 0 &&
           (encoding[n_name] == '\0' || encoding[n_name] == ':');
}

/* --- arrays ---------------------------------------------------------------- */

/* What is left of a value. */
struct bytes {
    const uint8_t *at;
    size_t n_bytes;
};

/* The next @n_bytes as an unsigned number. */
static int take(struct bytes *in, size_t n_bytes, uint64_t *out)
{
    if (in->n_bytes < n_bytes)
        return prx_err(PRX_ECORRUPT, "an array that ends in its head");
    *out = 0;
    memcpy(out, in->at, n_bytes);
    in->at += n_bytes;
    in->n_bytes -= n_bytes;
    return 0;
}

static int add_dim(struct prx_npy *npy, uint64_t dim)
{
    if (npy->n_dims == PRX_NPY_DIMS_MAX)
        return prx_err(PRX_EFORMAT, "an array of more than %d dimensions",
                       PRX_NPY_DIMS_MAX);
    if (dim > UINT32_MAX)
        return prx_err(PRX_ECORRUPT, "an array with a dimension of %llu",
                       (unsigned long long)dim);
    npy->dims[npy->n_dims++] = (int64_t)dim;
    return 0;
}

/* "4,8,8", to the end of the encoding. */
static int parse_dims(const char *text, struct prx_npy *npy)
{
    for (const char *at = text;; at++) {
        char *end;
        if (*at < '0' || *at > '9')
            return prx_err(PRX_EFORMAT, "an array of dims %s", text);
        PRX_TRY(add_dim(npy, strtoull(at, &end, 10)));
        at = end;
        if (*at == '\0')
            return 0;
        if (*at != ',')
            return prx_err(PRX_EFORMAT, "an array of dims %s", text);
    }
}

static int take_dims(struct bytes *in, struct prx_npy *npy)
{
    uint64_t head, dim;

    PRX_TRY(take(in, 1, &head));
    for (uint64_t i = head >> 2; i > 0; i--) {
        PRX_TRY(take(in, (size_t)1 << (head & 3), &dim));
        PRX_TRY(add_dim(npy, dim));
    }
    return 0;
}

/* Bytes of @npy's elements, which must be those that are left. */
static int check_values(const struct prx_npy *npy, size_t n_element_bytes,
                        size_t n_have_bytes)
{
    size_t n_bytes = n_element_bytes;

    for (int i = 0; i < npy->n_dims; i++)
        if (__builtin_mul_overflow(n_bytes, (size_t)npy->dims[i], &n_bytes))
            return prx_err(PRX_ECORRUPT, "an array larger than any memory");
    if (n_bytes != n_have_bytes)
        return prx_err(PRX_ECORRUPT, "an array of %zu bytes, but %zu are there",
                       n_bytes, n_have_bytes);
    return 0;
}

static int find_type(const char *name, size_t n_name, uint64_t number,
                     const struct array_type **out)
{
    for (size_t i = 0; i < N_ARRAY_TYPES; i++) {
        const struct array_type *type = &array_types[i];
        bool is_it =
            name ? strlen(type->name) == n_name && memcmp(type->name, name, n_name) == 0
                 : type->number == number;
        if (is_it && type->npy_type < 0)
            return prx_err(PRX_EFORMAT, "arrays of %s are not read", type->name);
        if (is_it) {
            *out = type;
            return 0;
        }
    }
    if (name)
        return prx_err(PRX_EFORMAT, "an array of type %.*s", (int)n_name, name);
    return prx_err(PRX_ECORRUPT, "an array of type number %llu",
                   (unsigned long long)number);
}

static int get_ndarray(const char *encoding, struct bytes in, struct prx_buf **out)
{
    const char *name = strchr(encoding, ':');
    const char *dims = name ? strchr(name + 1, ':') : NULL;
    const struct array_type *type = NULL;
    struct prx_npy npy = {0};
    uint64_t number = 0;

    if (name) {
        size_t n_name = dims ? (size_t)(dims - name) - 1 : strlen(name + 1);
        PRX_TRY(find_type(name + 1, n_name, 0, &type));
    } else {
        PRX_TRY(take(&in, 1, &number));
        PRX_TRY(find_type(NULL, 0, number, &type));
    }
    PRX_TRY(dims ? parse_dims(dims + 1, &npy) : take_dims(&in, &npy));
    npy.type = (enum prx_npy_type)type->npy_type;
    PRX_TRY(check_values(&npy, prx_npy_type_bytes(npy.type), in.n_bytes));
    return prx_npy_format(npy.type, npy.n_dims, npy.dims, in.at, out);
}

/* bfloat16 is the upper half of a float32. */
static int get_bf16(struct bytes in, struct prx_buf **out)
{
    struct prx_npy npy = {.type = PRX_NPY_F32};
    uint64_t n_dims, dim;

    PRX_TRY(take(&in, 4, &n_dims));
    for (; n_dims > 0; n_dims--) {
        PRX_TRY(take(&in, 4, &dim));
        PRX_TRY(add_dim(&npy, dim));
    }
    PRX_TRY(check_values(&npy, 2, in.n_bytes));
    uint32_t *values = malloc(in.n_bytes * 2 + 1);
    if (!values)
        return prx_err_nomem("an array");
    for (size_t i = 0; i < in.n_bytes / 2; i++)
        values[i] = (uint32_t)in.at[2 * i] << 16 | (uint32_t)in.at[2 * i + 1] << 24;
    int rc = prx_npy_format(npy.type, npy.n_dims, npy.dims, values, out);
    free(values);
    return rc;
}

int prx_mds_array_get(const char *encoding, const uint8_t *bytes, size_t n_bytes,
                      struct prx_buf **out)
{
    struct bytes in = {bytes, n_bytes};
    return prx_mds_encoding_is(encoding, "bf16") ? get_bf16(in, out)
                                                 : get_ndarray(encoding, in, out);
}

const char *prx_mds_array_encoding(enum prx_npy_type type)
{
    for (size_t i = 0; i < N_ARRAY_TYPES; i++)
        if (array_types[i].npy_type == (int)type)
            return array_types[i].encoding;
    prx_bug(__FILE__, __LINE__, "no such array type");
}

int prx_mds_array_put(const struct prx_npy *npy, struct prx_str *out)
{
    int64_t largest = 0;
    unsigned width = 0;

    PRX_BUG_IF(npy->n_dims < 1);
    for (int i = 0; i < npy->n_dims; i++)
        largest = npy->dims[i] > largest ? npy->dims[i] : largest;
    while (width < 3 && (uint64_t)largest >> (8u << width) != 0)
        width++;
    char head = (char)(npy->n_dims << 2 | (int)width);
    PRX_TRY(prx_str_add(out, &head, 1));
    for (int i = 0; i < npy->n_dims; i++)
        PRX_TRY(prx_str_add(out, &npy->dims[i], (size_t)1 << width));
    return prx_str_add(out, npy->bytes,
                       npy->n_elements * prx_npy_type_bytes(npy->type));
}

/* --- numbers --------------------------------------------------------------- */

enum scalar_kind { SIGNED,
                   UNSIGNED,
                   FLOATING,
                   DIGITS,
                   TEXT };

static const struct {
    const char *encoding;
    enum scalar_kind kind;
    size_t n_bytes; /* 0: of any length */
} scalars[] = {
    {"int", SIGNED, 8},
    {"int8", SIGNED, 1},
    {"int16", SIGNED, 2},
    {"int32", SIGNED, 4},
    {"int64", SIGNED, 8},
    {"uint8", UNSIGNED, 1},
    {"uint16", UNSIGNED, 2},
    {"uint32", UNSIGNED, 4},
    {"uint64", UNSIGNED, 8},
    {"float16", FLOATING, 2},
    {"float32", FLOATING, 4},
    {"float64", FLOATING, 8},
    {"str_int", DIGITS, 0},
    {"str_float", DIGITS, 0},
    {"str_decimal", TEXT, 0},
};

#define N_SCALARS (sizeof(scalars) / sizeof(scalars[0]))

static double float_of(const uint8_t *bytes, size_t n_bytes)
{
    uint16_t half;
    float single;
    double value;

    if (n_bytes == 2) {
        memcpy(&half, bytes, 2);
        return (double)prx_f32_from_f16(half);
    }
    if (n_bytes == 4) {
        memcpy(&single, bytes, 4);
        return (double)single;
    }
    memcpy(&value, bytes, 8);
    return value;
}

static json_t *json_of_float(double value)
{
    if (isfinite(value))
        return json_real(value);
    return json_string(isnan(value) ? "nan" : value > 0 ? "inf"
                                                        : "-inf");
}

static json_t *json_of_unsigned(uint64_t value)
{
    struct prx_str text = {0};
    json_t *out = NULL;

    if (value <= INT64_MAX)
        return json_integer((json_int_t)value);
    if (prx_str_printf(&text, "%llu", (unsigned long long)value) == 0)
        out = json_string(text.bytes);
    prx_str_release(&text);
    return out;
}

/* Digits that are a number of JSON, or a string. */
static json_t *json_of_digits(const uint8_t *bytes, size_t n_bytes)
{
    json_t *number = n_bytes > N_DIGITS_MAX ? NULL
                                            : json_loadb((const char *)bytes, n_bytes,
                                                         JSON_DECODE_ANY, NULL);
    if (json_is_number(number))
        return number;
    json_decref(number);
    return json_stringn((const char *)bytes, n_bytes);
}

int prx_mds_scalar_get(const char *encoding, const uint8_t *bytes, size_t n_bytes,
                       json_t **out)
{
    size_t i = 0;
    uint64_t value = 0;

    *out = NULL;
    while (i < N_SCALARS && strcmp(scalars[i].encoding, encoding) != 0)
        i++;
    if (i == N_SCALARS)
        return 0;
    if (scalars[i].n_bytes > 0 && scalars[i].n_bytes != n_bytes)
        return prx_err(PRX_ECORRUPT, "%s of %zu bytes", encoding, n_bytes);
    if (scalars[i].n_bytes > 0)
        memcpy(&value, bytes, n_bytes);
    switch (scalars[i].kind) {
    case SIGNED:
        /* The sign bit to the top and back spreads it. */
        value <<= 64 - 8 * n_bytes;
        *out = json_integer((json_int_t)((int64_t)value >> (64 - 8 * n_bytes)));
        break;
    case UNSIGNED:
        *out = json_of_unsigned(value);
        break;
    case FLOATING:
        *out = json_of_float(float_of(bytes, n_bytes));
        break;
    case DIGITS:
        *out = json_of_digits(bytes, n_bytes);
        break;
    case TEXT:
        *out = json_stringn((const char *)bytes, n_bytes);
        break;
    }
    return *out ? 0 : prx_err(PRX_ECORRUPT, "%s that is not UTF-8", encoding);
}

/* --- pixels ---------------------------------------------------------------- */

int prx_mds_picture_get(const uint8_t *bytes, size_t n_bytes, struct prx_buf **out)
{
    uint32_t head[3]; /* width, height, bytes of the mode's name */
    struct prx_image *image = NULL;
    int rc = 0;

    if (n_bytes < N_PIL_BYTES)
        return prx_err(PRX_ECORRUPT, "pixels that end in their head");
    memcpy(head, bytes, N_PIL_BYTES);
    bytes += N_PIL_BYTES;
    n_bytes -= N_PIL_BYTES;
    size_t n_channels = 0;
    if (head[2] == 1 && n_bytes >= 1 && bytes[0] == 'L')
        n_channels = 1;
    else if (head[2] == 3 && n_bytes >= 3 && memcmp(bytes, "RGB", 3) == 0)
        n_channels = 3;
    else if (head[2] > n_bytes)
        return prx_err(PRX_ECORRUPT, "pixels that end in their mode");
    else
        return prx_err(PRX_EFORMAT, "pixels of a mode that is neither L nor RGB");
    bytes += head[2];
    n_bytes -= head[2];
    uint64_t n_px = (uint64_t)head[0] * head[1];
    if (n_px == 0 || n_px > PRX_IMAGE_N_PX_MAX)
        return prx_err(PRX_EINVAL, "a picture of %u x %u pixels", head[0], head[1]);
    if (n_px * n_channels != n_bytes)
        return prx_err(PRX_ECORRUPT, "%zu bytes for a picture of %u x %u pixels",
                       n_bytes, head[0], head[1]);
    PRX_GO(prx_image_new((int)head[0], (int)head[1], &image));
    for (size_t i = 0; i < n_px * 3; i++)
        image->pixels[i] = bytes[i / 3 * n_channels + i % 3 % n_channels];
    PRX_GO(prx_image_encode(image, PRX_IMAGE_PNG, 0, out));
out:
    prx_image_free(image);
    return rc;
}
