/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NumPy's array file, read and written.
 *
 *     \x93NUMPY major minor | header length (u16; u32 from version 2 on) | header
 *
 * The header is a Python dict literal, padded by spaces and a newline:
 *
 *     {'descr': '<f2', 'fortran_order': False, 'shape': (16, 32, 32), }
 *
 * It is read by a scanner that knows just this: three keys, each once, in any
 * order.  What it does not know it refuses by name.
 */
#include "libdata/npy.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "libdata/sample/convert_internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
# error "arrays are stored little-endian and used in place"
#endif

#define MAGIC              "\x93NUMPY"
#define N_MAGIC_BYTES      6
#define HEADER_ALIGN_BYTES 64

static const struct {
    const char *descr;
    enum prx_npy_type type;
} descrs[] = {
    {"<f4", PRX_NPY_F32}, /* the first of a type is the one written */
    {"<f2", PRX_NPY_F16},
    {"<i4", PRX_NPY_I32},
    {"<i8", PRX_NPY_I64},
    {"|u1", PRX_NPY_U8},
    {"|b1", PRX_NPY_U8},
};

#define N_DESCRS (sizeof(descrs) / sizeof(descrs[0]))

size_t prx_npy_type_bytes(enum prx_npy_type type)
{
    switch (type) {
    case PRX_NPY_F32:
    case PRX_NPY_I32:
        return 4;
    case PRX_NPY_F16:
        return 2;
    case PRX_NPY_I64:
        return 8;
    case PRX_NPY_U8:
        return 1;
    }
    prx_bug(__FILE__, __LINE__, "no such array type");
}

/* Elements and bytes of an array; < 0 where they do not fit. */
static int array_size(enum prx_npy_type type, int n_dims, const int64_t *dims,
                      size_t *n_elements, size_t *n_bytes)
{
    size_t n = 1;
    for (int i = 0; i < n_dims; i++) {
        if (dims[i] < 0 || __builtin_mul_overflow(n, (uint64_t)dims[i], &n))
            return -1;
    }
    *n_elements = n;
    return __builtin_mul_overflow(n, prx_npy_type_bytes(type), n_bytes) ? -1 : 0;
}

/* --- the header's literal -------------------------------------------------- */

struct scanner {
    const char *at;
    const char *end;
};

/* Take @c, and the blanks before it, if it comes next. */
static bool take(struct scanner *scan, char c)
{
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\t'))
        scan->at++;
    if (scan->at == scan->end || *scan->at != c)
        return false;
    scan->at++;
    return true;
}

static bool take_word(struct scanner *scan, const char *word)
{
    size_t n_chars = strlen(word);
    if (!take(scan, word[0]))
        return false;
    if ((size_t)(scan->end - scan->at) < n_chars - 1 ||
        memcmp(scan->at, word + 1, n_chars - 1) != 0)
        return false;
    scan->at += n_chars - 1;
    return true;
}

/* A quoted string without escapes, cut to what @out holds. */
static bool take_string(struct scanner *scan, char *out, size_t n_out_bytes)
{
    char quote = take(scan, '\'') ? '\'' : take(scan, '"') ? '"'
                                                           : '\0';
    if (!quote)
        return false;
    const char *end = memchr(scan->at, quote, (size_t)(scan->end - scan->at));
    if (!end || memchr(scan->at, '\\', (size_t)(end - scan->at)))
        return false;
    size_t n_chars = (size_t)(end - scan->at);
    size_t n_kept = n_chars < n_out_bytes ? n_chars : n_out_bytes - 1;
    memcpy(out, scan->at, n_kept);
    out[n_kept] = '\0';
    scan->at = end + 1;
    return true;
}

static bool take_dim(struct scanner *scan, int64_t *out)
{
    int64_t value = 0;
    const char *start = scan->at;
    for (; scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9'; scan->at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *scan->at - '0', &value))
            return false;
    }
    *out = value;
    return scan->at > start;
}

/* "()", "(3,)", "(3, 4)"; a comma is wanted behind a lone number, as in Python. */
static int take_shape(struct scanner *scan, struct prx_npy *npy)
{
    npy->n_dims = 0;
    if (!take(scan, '('))
        return prx_err(PRX_ECORRUPT, "npy header: the shape is not a tuple");
    while (!take(scan, ')')) {
        int64_t dim;
        while (scan->at < scan->end && *scan->at == ' ')
            scan->at++;
        if (!take_dim(scan, &dim))
            return prx_err(PRX_ECORRUPT, "npy header: the shape holds no number");
        if (npy->n_dims == PRX_NPY_DIMS_MAX)
            return prx_err(PRX_EFORMAT, "npy array of more than %d dimensions",
                           PRX_NPY_DIMS_MAX);
        npy->dims[npy->n_dims++] = dim;
        if (take(scan, ','))
            continue;
        if (npy->n_dims > 1 && take(scan, ')'))
            break;
        return prx_err(PRX_ECORRUPT, "npy header: the shape is not a tuple of numbers");
    }
    return 0;
}

static int take_descr(struct scanner *scan, struct prx_npy *npy)
{
    char descr[16];
    if (take(scan, '['))
        return prx_err(PRX_EFORMAT, "npy array of structures");
    if (!take_string(scan, descr, sizeof(descr)))
        return prx_err(PRX_ECORRUPT, "npy header: the type is not a string");
    for (size_t i = 0; i < N_DESCRS; i++) {
        if (strcmp(descr, descrs[i].descr) == 0) {
            npy->type = descrs[i].type;
            return 0;
        }
    }
    if (descr[0] == '>')
        return prx_err(PRX_EFORMAT, "npy array is big-endian ('%s')", descr);
    if (strcmp(descr, "|O") == 0)
        return prx_err(PRX_EFORMAT, "npy array of Python objects, which is never read");
    return prx_err(PRX_EFORMAT,
                   "npy array of type '%s', not one of <f4 <f2 <i4 <i8 |u1 |b1", descr);
}

static int scan_header(struct scanner *scan, struct prx_npy *npy)
{
    enum { DESCR = 1,
           ORDER = 2,
           SHAPE = 4,
           ALL = 7 };
    unsigned seen = 0;
    bool fortran_order = false;
    char key[16];

    if (!take(scan, '{'))
        return prx_err(PRX_ECORRUPT, "npy header is not a dict");
    while (!take(scan, '}')) {
        unsigned this_key = 0;
        if (!take_string(scan, key, sizeof(key)) || !take(scan, ':'))
            return prx_err(PRX_ECORRUPT, "npy header is not a dict");
        if (strcmp(key, "descr") == 0) {
            this_key = DESCR;
            PRX_TRY(take_descr(scan, npy));
        } else if (strcmp(key, "fortran_order") == 0) {
            this_key = ORDER;
            fortran_order = take_word(scan, "True");
            if (!fortran_order && !take_word(scan, "False"))
                return prx_err(PRX_ECORRUPT, "npy header: fortran_order is not a bool");
        } else if (strcmp(key, "shape") == 0) {
            this_key = SHAPE;
            PRX_TRY(take_shape(scan, npy));
        }
        if (this_key == 0 || (seen & this_key))
            return prx_err(PRX_ECORRUPT, "npy header: key '%s' %s", key,
                           this_key ? "comes twice" : "is unknown");
        seen |= this_key;
        if (!take(scan, ',') && (scan->at == scan->end || *scan->at != '}'))
            return prx_err(PRX_ECORRUPT, "npy header is not a dict");
    }
    for (; scan->at < scan->end; scan->at++) {
        if (*scan->at != ' ' && *scan->at != '\n')
            return prx_err(PRX_ECORRUPT, "npy header: text behind the dict");
    }
    if (seen != ALL)
        return prx_err(PRX_ECORRUPT, "npy header lacks %s",
                       !(seen & DESCR)   ? "'descr'"
                       : !(seen & ORDER) ? "'fortran_order'"
                                         : "'shape'");
    /* With one dimension both orders are the same. */
    if (fortran_order && npy->n_dims > 1)
        return prx_err(PRX_EFORMAT, "npy array is in Fortran order");
    return 0;
}

int prx_npy_parse_head(const uint8_t *bytes, size_t n_head_bytes, size_t n_bytes,
                       struct prx_npy *out)
{
    struct prx_npy npy = {0};

    if (n_head_bytes > n_bytes)
        n_head_bytes = n_bytes;
    if (n_head_bytes < N_MAGIC_BYTES + 2 || memcmp(bytes, MAGIC, N_MAGIC_BYTES) != 0)
        return prx_err(PRX_EFORMAT, "not an npy file");
    int version = bytes[N_MAGIC_BYTES];
    if (version < 1 || version > 3 || bytes[N_MAGIC_BYTES + 1] != 0)
        return prx_err(PRX_EFORMAT, "npy format %d.%d is not one of 1.0, 2.0, 3.0",
                       version, bytes[N_MAGIC_BYTES + 1]);

    size_t n_prefix_bytes = N_MAGIC_BYTES + 2 + (version == 1 ? 2 : 4);
    if (n_head_bytes < n_prefix_bytes)
        return prx_err(PRX_ECORRUPT, "npy file ends in its header");
    size_t n_header_bytes = 0;
    for (size_t i = n_prefix_bytes; i-- > N_MAGIC_BYTES + 2;)
        n_header_bytes = n_header_bytes << 8 | bytes[i];
    if (n_header_bytes > n_bytes - n_prefix_bytes)
        return prx_err(PRX_ECORRUPT, "npy header of %zu bytes in a file of %zu",
                       n_header_bytes, n_bytes);
    if (n_header_bytes > n_head_bytes - n_prefix_bytes)
        return prx_err(PRX_EFORMAT, "npy header of %zu bytes, more than are looked at",
                       n_header_bytes);

    const char *header = (const char *)bytes + n_prefix_bytes;
    struct scanner scan = {header, header + n_header_bytes};
    PRX_TRY(scan_header(&scan, &npy));

    size_t n_array_bytes;
    size_t n_have_bytes = n_bytes - n_prefix_bytes - n_header_bytes;
    if (array_size(npy.type, npy.n_dims, npy.dims, &npy.n_elements, &n_array_bytes) < 0)
        return prx_err(PRX_ECORRUPT, "npy header: the shape is larger than any memory");
    if (n_array_bytes != n_have_bytes)
        return prx_err(PRX_ECORRUPT, "npy header announces %zu bytes, %zu are there",
                       n_array_bytes, n_have_bytes);
    npy.bytes = bytes + n_prefix_bytes + n_header_bytes;
    *out = npy;
    return 0;
}

int prx_npy_parse(const uint8_t *bytes, size_t n_bytes, struct prx_npy *out)
{
    return prx_npy_parse_head(bytes, n_bytes, n_bytes, out);
}

/* --- writing --------------------------------------------------------------- */

/* A file whose elements, at *@at, are still to be written. */
static int begin_file(enum prx_npy_type type, int n_dims, const int64_t *dims,
                      struct prx_buf **out, uint8_t **at, size_t *n_elements)
{
    struct prx_str header = {0};
    size_t n_array_bytes, n_bytes;
    int rc = 0;

    if (n_dims < 0 || n_dims > PRX_NPY_DIMS_MAX)
        return prx_err(PRX_EINVAL, "an npy array of %d dimensions", n_dims);
    if (array_size(type, n_dims, dims, n_elements, &n_array_bytes) < 0)
        return prx_err(PRX_EINVAL, "an npy array larger than any memory");

    const char *descr = NULL;
    for (size_t i = 0; !descr; i++)
        descr = descrs[i].type == type ? descrs[i].descr : NULL;
    PRX_GO(prx_str_printf(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                          descr));
    for (int i = 0; i < n_dims; i++)
        PRX_GO(prx_str_printf(&header, i > 0 ? ", %lld" : "%lld", (long long)dims[i]));
    PRX_GO(prx_str_puts(&header, n_dims == 1 ? ",), }" : "), }"));

    /* The elements begin at a multiple of 64 bytes, as NumPy writes them. */
    const size_t n_prefix_bytes = N_MAGIC_BYTES + 4;
    while ((n_prefix_bytes + header.n_bytes + 1) % HEADER_ALIGN_BYTES != 0)
        PRX_GO(prx_str_puts(&header, " "));
    PRX_GO(prx_str_puts(&header, "\n"));

    size_t n_ahead_bytes = n_prefix_bytes + header.n_bytes;
    if (__builtin_add_overflow(n_ahead_bytes, n_array_bytes, &n_bytes)) {
        rc = prx_err(PRX_EINVAL, "an npy array larger than any memory");
        goto out;
    }
    PRX_GO(prx_buf_new(n_bytes, out));
    uint8_t *bytes = (*out)->bytes;
    memcpy(bytes, MAGIC "\x01\x00", N_MAGIC_BYTES + 2);
    bytes[N_MAGIC_BYTES + 2] = (uint8_t)header.n_bytes;
    bytes[N_MAGIC_BYTES + 3] = (uint8_t)(header.n_bytes >> 8);
    memcpy(bytes + n_prefix_bytes, header.bytes, header.n_bytes);
    *at = bytes + n_ahead_bytes;
out:
    prx_str_release(&header);
    return rc;
}

int prx_npy_format(enum prx_npy_type type, int n_dims, const int64_t *dims,
                   const void *values, struct prx_buf **out)
{
    uint8_t *at;
    size_t n_elements;
    PRX_TRY(begin_file(type, n_dims, dims, out, &at, &n_elements));
    if (n_elements > 0)
        memcpy(at, values, n_elements * prx_npy_type_bytes(type));
    return 0;
}

int prx_npy_put_f32(enum prx_npy_type type, int n_dims, const int64_t *dims,
                    const float *values, struct prx_buf **out)
{
    uint8_t *at;
    size_t n_elements;

    PRX_BUG_IF(type != PRX_NPY_F32 && type != PRX_NPY_F16);
    PRX_TRY(begin_file(type, n_dims, dims, out, &at, &n_elements));
    for (size_t i = 0; i < n_elements; i++) {
        uint16_t half = prx_f16_from_f32(values[i]);
        bool overflows = type == PRX_NPY_F16 && (half & 0x7C00) == 0x7C00;
        if (!isfinite(values[i]) || overflows) {
            prx_buf_unref(*out);
            *out = NULL;
            return prx_err(PRX_ENONFINITE, "value %zu is %g%s", i, (double)values[i],
                           isfinite(values[i]) ? ", beyond half precision" : "");
        }
        if (type == PRX_NPY_F16)
            memcpy(at + 2 * i, &half, 2);
    }
    if (type == PRX_NPY_F32 && n_elements > 0)
        memcpy(at, values, n_elements * sizeof(float));
    return 0;
}

/* --- values ---------------------------------------------------------------- */

int prx_npy_get_f32(const struct prx_npy *npy, float *out)
{
    if (npy->type == PRX_NPY_F32) {
        if (npy->n_elements > 0)
            memcpy(out, npy->bytes, npy->n_elements * sizeof(float));
        return 0;
    }
    if (npy->type != PRX_NPY_F16)
        return prx_err(PRX_EFORMAT, "npy array of integers where floats are wanted");
    PRX_SIMD_PICK(prx_convert_kernels)->f32_from_f16(npy->bytes, npy->n_elements, out);
    return 0;
}

bool prx_npy_is_finite(const struct prx_npy *npy)
{
    const struct prx_convert_kernels *kernels = PRX_SIMD_PICK(prx_convert_kernels);

    if (npy->type == PRX_NPY_F16)
        return kernels->lack_u16(npy->bytes, npy->n_elements, 0x7c00);
    if (npy->type == PRX_NPY_F32)
        return kernels->lack_u32(npy->bytes, npy->n_elements, 0x7f800000);
    return true;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

uint16_t prx_f16_from_f32(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t size = bits & 0x7FFFFFFF;

    if (size > 0x7F800000) /* NaN: quiet, with the payload's high bits */
        return (uint16_t)(sign | 0x7E00 | (size >> 13 & 0x1FF));
    if (size >= 0x477FF000) /* 65520, half way to what would be 65536 */
        return (uint16_t)(sign | 0x7C00);
    if (size < 0x38800000) /* below 2^-14: an ulp of 0.5 is the subnormals' step */
        return (uint16_t)(sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f)));
    size += 0x0FFF + (size >> 13 & 1); /* to nearest, ties to even */
    return (uint16_t)(sign | ((size - 0x38000000) >> 13));
}

float prx_f32_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t size = half & 0x7FFF;

    if (size < 0x0400) /* zero and subnormals, in steps of 2^-24 */
        return float_of(sign | bits_of((float)size * 0x1p-24f));
    if (size >= 0x7C00)
        return float_of(sign | 0x7F800000 | (size & 0x3FF) << 13);
    return float_of(sign | ((size << 13) + 0x38000000));
}
