/* SPDX-License-Identifier: Apache-2.0 */
/* npy.h: what is written reads back, and what lies is refused. */
#include "libdata/npy.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define HEADER(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"

/* A file of @version with @header and @n_array_bytes zeros; the caller frees it. */
static uint8_t *make_file(int version, const char *header, size_t n_array_bytes,
                          size_t *n_bytes)
{
    size_t n_header = strlen(header), n_prefix = version == 1 ? 10 : 12;
    uint8_t *bytes = calloc(1, n_prefix + n_header + n_array_bytes);
    assert_non_null(bytes);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (uint8_t)version;
    bytes[8] = (uint8_t)n_header;
    bytes[9] = (uint8_t)(n_header >> 8);
    memcpy(bytes + n_prefix, header, n_header);
    *n_bytes = n_prefix + n_header + n_array_bytes;
    return bytes;
}

static void test_parse(void **state)
{
    static const struct {
        int version;
        const char *header;
        size_t n_array_bytes;
        int want; /* n_dims, or a failure */
        const char *says;
    } rows[] = {
        {1, HEADER("(2, 3)") "   \n", 24, 2, ""},
        {2, HEADER("(2, 3)"), 24, 2, ""},
        {3, HEADER("(2,3,)"), 24, 2, ""},
        {1, HEADER("()"), 4, 0, ""},
        {1, HEADER("(6,)"), 24, 1, ""},
        {1, HEADER("(0, 1000000000000)"), 0, 2, ""},
        {1, HEADER("(1,1,1,1,1,1,1,1)"), 4, 8, ""},
        {1, "{\"shape\":(1,),\"fortran_order\":False,\"descr\":\"|b1\"}", 1, 1, ""},
        {1, "{'descr':'<i8','fortran_order':True,'shape':(2,)}", 16, 1, ""},

        {4, HEADER("(1,)"), 4, PRX_EFORMAT, "npy format 4.0"},
        {0, HEADER("(1,)"), 4, PRX_EFORMAT, "npy format 0.0"},
        {1, HEADER("(2, 3)"), 23, PRX_ECORRUPT, "announces 24 bytes, 23 are there"},
        {1, HEADER("(2, 3)"), 25, PRX_ECORRUPT, "announces 24 bytes, 25 are there"},
        {1, HEADER("(4294967296, 4294967296)"), 0, PRX_ECORRUPT, "larger than any"},
        {1, HEADER("(4611686018427387904,)"), 0, PRX_ECORRUPT, "larger than any"},
        {1, HEADER("(99999999999999999999,)"), 0, PRX_ECORRUPT, "no number"},
        {1, HEADER("(-1,)"), 4, PRX_ECORRUPT, "no number"},
        {1, HEADER("(1)"), 4, PRX_ECORRUPT, "not a tuple of numbers"},
        {1, HEADER("(1,"), 4, PRX_ECORRUPT, "no number"},
        {1, HEADER("[1]"), 4, PRX_ECORRUPT, "not a tuple"},
        {1, HEADER("(1,1,1,1,1,1,1,1,1)"), 4, PRX_EFORMAT, "more than 8 dimensions"},
        {1, "{'descr':'<f4','fortran_order':True,'shape':(1,1)}", 4, PRX_EFORMAT,
         "Fortran order"},
        {1, "{'descr':'|O','fortran_order':False,'shape':(1,)}", 8, PRX_EFORMAT,
         "Python objects"},
        {1, "{'descr':'>f4','fortran_order':False,'shape':(1,)}", 4, PRX_EFORMAT,
         "big-endian"},
        {1, "{'descr':'<f8','fortran_order':False,'shape':(1,)}", 8, PRX_EFORMAT,
         "type '<f8'"},
        {1, "{'descr':[('a','<f4')],'fortran_order':False,'shape':(1,)}", 4,
         PRX_EFORMAT, "structures"},
        {1, "{'descr':4,'fortran_order':False,'shape':(1,)}", 4, PRX_ECORRUPT,
         "not a string"},
        {1, "{'descr':'<f4','fortran_order':0,'shape':(1,)}", 4, PRX_ECORRUPT,
         "not a bool"},
        {1, "{'descr':'<f4','shape':(1,)}", 4, PRX_ECORRUPT, "lacks 'fortran_order'"},
        {1, "{'descr':'<f4','fortran_order':False}", 4, PRX_ECORRUPT, "lacks 'shape'"},
        {1, "{'shape':(1,),'fortran_order':False,'shape':(1,)}", 4, PRX_ECORRUPT,
         "comes twice"},
        {1, "{'x':(1,)}", 4, PRX_ECORRUPT, "is unknown"},
        {1, "{'descr':'<f4' 'shape':(1,)}", 4, PRX_ECORRUPT, "not a dict"},
        {1, "{'descr':'<f\\x34','fortran_order':False,'shape':(1,)}", 4, PRX_ECORRUPT,
         "not a string"},
        {1, HEADER("(1,)") "x", 4, PRX_ECORRUPT, "text behind"},
        {1, "", 4, PRX_ECORRUPT, "not a dict"},
        {1, "{'descr", 4, PRX_ECORRUPT, "not a dict"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prx_npy npy;
        size_t n_bytes;
        uint8_t *bytes =
            make_file(rows[i].version, rows[i].header, rows[i].n_array_bytes, &n_bytes);
        int rc = prx_npy_parse(bytes, n_bytes, &npy);
        if (rc == 0 ? npy.n_dims != rows[i].want
                    : rc != rows[i].want || !strstr(prx_err_message(), rows[i].says))
            fail_msg("row %zu: %s: %d, %s", i, rows[i].header, rc, prx_err_message());
        free(bytes);
    }
}

/* Every shorter file is refused; the sanitizer sees every read beyond it. */
static void test_truncated(void **state)
{
    struct prx_npy npy;
    size_t n_bytes;
    uint8_t *whole = make_file(2, HEADER("(2, 3)"), 24, &n_bytes);

    (void)state;
    for (size_t n = 0; n < n_bytes; n++) {
        uint8_t *part = malloc(n > 0 ? n : 1);
        assert_non_null(part);
        memcpy(part, whole, n);
        assert_true(prx_npy_parse(part, n, &npy) < 0);
        free(part);
    }
    whole[8] = whole[9] = whole[10] = whole[11] = 0xFF;
    assert_int_equal(prx_npy_parse(whole, n_bytes, &npy), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "header of 4294967295 bytes"));
    free(whole);
}

static void test_round_trip(void **state)
{
    static const int64_t dims[3] = {2, 1, 3};
    static const int32_t numbers[6] = {1, -2, 3, INT32_MIN, INT32_MAX, 0};
    static const float values[6] = {0.5F, -1, 65504, 6e-8F, 1.0009765625F, 0};
    struct prx_buf *buf;
    struct prx_npy npy;
    float back[6];

    (void)state;
    assert_int_equal(prx_npy_format(PRX_NPY_I32, 3, dims, numbers, &buf), 0);
    assert_int_equal(prx_npy_parse(buf->bytes, buf->n_bytes, &npy), 0);
    assert_int_equal(npy.type, PRX_NPY_I32);
    assert_int_equal(npy.n_dims, 3);
    assert_memory_equal(npy.dims, dims, sizeof(dims));
    assert_int_equal(npy.n_elements, 6);
    assert_memory_equal(npy.bytes, numbers, sizeof(numbers));
    assert_int_equal((npy.bytes - buf->bytes) % 64, 0);
    assert_int_equal(prx_npy_get_f32(&npy, back), PRX_EFORMAT);
    prx_buf_unref(buf);

    for (int type = PRX_NPY_F32; type <= PRX_NPY_F16; type++) {
        float tolerance = type == PRX_NPY_F16 ? 3e-8F : 0;
        int rc = prx_npy_put_f32((enum prx_npy_type)type, 3, dims, values, &buf);
        assert_int_equal(rc, 0);
        assert_int_equal(prx_npy_parse(buf->bytes, buf->n_bytes, &npy), 0);
        assert_int_equal((int)npy.type, type);
        assert_int_equal(prx_npy_get_f32(&npy, back), 0);
        for (int i = 0; i < 6; i++)
            assert_true(fabsf(back[i] - values[i]) <= tolerance);
        prx_buf_unref(buf);
    }
}

/* The very bytes numpy.save() writes for np.arange(3, dtype='<i4'). */
static void test_header_bytes(void **state)
{
    static const char want[] =
        "\x93NUMPY\x01\x00\x76\x00"
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }"
        "                                                            \n"
        "\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00";
    static const int32_t numbers[3] = {0, 1, 2};
    static const int64_t dim = 3;
    struct prx_buf *buf;

    (void)state;
    assert_int_equal(prx_npy_format(PRX_NPY_I32, 1, &dim, numbers, &buf), 0);
    assert_int_equal(buf->n_bytes, 140);
    assert_int_equal(sizeof(want), 140);
    assert_memory_equal(buf->bytes, want, sizeof(want));
    prx_buf_unref(buf);
}

static void test_refused_values(void **state)
{
    static const int64_t one = 1, negative = -1, dims[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const int64_t huge[2] = {INT64_MAX, INT64_MAX};
    static const struct {
        float value;
        enum prx_npy_type type;
        const char *says;
    } rows[] = {
        {NAN, PRX_NPY_F32, "nan"},
        {-INFINITY, PRX_NPY_F16, "value 0 is -inf"},
        {65520, PRX_NPY_F16, "value 0 is 65520, beyond half precision"},
    };
    struct prx_buf *buf = NULL;
    float value = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int rc = prx_npy_put_f32(rows[i].type, 1, &one, &rows[i].value, &buf);
        assert_int_equal(rc, PRX_ENONFINITE);
        assert_non_null(strstr(prx_err_message(), rows[i].says));
        assert_null(buf);
    }
    int rc = prx_npy_format(PRX_NPY_U8, 1, &negative, &value, &buf);
    assert_int_equal(rc, PRX_EINVAL);
    rc = prx_npy_format(PRX_NPY_F32, 2, huge, &value, &buf);
    assert_int_equal(rc, PRX_EINVAL);
    rc = prx_npy_format(PRX_NPY_F32, 9, dims, &value, &buf);
    assert_int_equal(rc, PRX_EINVAL);
}

/* A half's value by its definition. */
static double half_value(uint16_t half)
{
    int exponent = half >> 10 & 31;
    double fraction = half & 0x3FF;
    double size = exponent == 0 ? ldexp(fraction, -24)
                                : ldexp(fraction + 1024, exponent - 25);
    return half & 0x8000 ? -size : size;
}

/* All halves there and back; then each gap's middle and its two neighbours. */
static void test_half(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        float value = prx_f32_from_f16((uint16_t)half);
        if ((half & 0x7FFF) > 0x7C00) {
            assert_true(isnan(value));
            assert_true(isnan(prx_f32_from_f16(prx_f16_from_f32(value))));
            continue;
        }
        if ((half & 0x7FFF) < 0x7C00)
            assert_true((double)value == half_value((uint16_t)half));
        else
            assert_true(isinf(value));
        assert_int_equal(prx_f16_from_f32(value), half);
    }
    for (uint16_t half = 0; half < 0x7C00; half++) {
        double low = half_value(half);
        double high = half == 0x7BFF ? 65536 : half_value((uint16_t)(half + 1));
        float middle = (float)((low + high) / 2);
        assert_int_equal(prx_f16_from_f32(middle), half + (half & 1));
        assert_int_equal(prx_f16_from_f32(nextafterf(middle, 0)), half);
        assert_int_equal(prx_f16_from_f32(nextafterf(middle, INFINITY)), half + 1);
        assert_int_equal(prx_f16_from_f32(-middle), (half + (half & 1)) | 0x8000);
    }
    assert_int_equal(prx_f16_from_f32(1e30F), 0x7C00);
    assert_int_equal(prx_f16_from_f32(1e-30F), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_header_bytes),
        cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
