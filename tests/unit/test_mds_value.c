/* SPDX-License-Identifier: Apache-2.0 */
/* Values of MDS columns: arrays there and back, bfloat16, numbers, pixels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/image.h"
#include "libdata/mds.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static void test_arrays(void **state)
{
    static const struct {
        enum prx_npy_type type;
        int n_dims;
        int64_t dims[8];
        const char *encoding;
        const char *head; /* of the value, ahead of the elements */
        size_t n_head;
    } rows[] = {
        {PRX_NPY_U8, 1, {5}, "ndarray:uint8", "\x04\x05", 2},
        {PRX_NPY_F16, 3, {2, 3, 4}, "ndarray:float16", "\x0c\x02\x03\x04", 4},
        {PRX_NPY_F32, 2, {256, 1}, "ndarray:float32", "\x09\x00\x01\x01\x00", 5},
        {PRX_NPY_I32, 1, {65536}, "ndarray:int32", "\x06\x00\x00\x01\x00", 5},
        {PRX_NPY_I64,
         8,
         {1, 1, 1, 1, 1, 1, 1, 2},
         "ndarray:int64",
         "\x20\1\1\1\1\1\1\1\2",
         9},
    };
    static uint8_t values[65536 * 4];

    (void)state;
    for (size_t i = 0; i < sizeof(values); i++)
        values[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_buf *file, *again;
        struct prx_npy npy;
        struct prx_str value = {0};
        assert_int_equal(
            prx_npy_format(rows[i].type, rows[i].n_dims, rows[i].dims, values, &file),
            0);
        assert_int_equal(prx_npy_parse(file->bytes, file->n_bytes, &npy), 0);
        assert_string_equal(prx_mds_array_encoding(npy.type), rows[i].encoding);
        assert_int_equal(prx_mds_array_put(&npy, &value), 0);
        assert_memory_equal(value.bytes, rows[i].head, rows[i].n_head);
        assert_int_equal(value.n_bytes,
                         rows[i].n_head +
                             npy.n_elements * prx_npy_type_bytes(npy.type));
        assert_int_equal(prx_mds_array_get(rows[i].encoding, (uint8_t *)value.bytes,
                                           value.n_bytes, &again),
                         0);
        assert_int_equal(again->n_bytes, file->n_bytes);
        assert_memory_equal(again->bytes, file->bytes, file->n_bytes);
        prx_buf_unref(file);
        prx_buf_unref(again);
        prx_str_release(&value);
    }
}

/* The other forms of the encoding say less in the value. */
static void test_array_forms(void **state)
{
    static const struct {
        const char *encoding, *value;
        size_t n_value;
    } rows[] = {
        {"ndarray", "\x22\x08\1\2abcdefgh", 12},
        {"ndarray:float32", "\x08\1\2abcdefgh", 11},
        {"ndarray:float32:1,2", "abcdefgh", 8},
        {"bf16", "\2\0\0\0\1\0\0\0\2\0\0\0\x80\x3f\x20\xc1", 16},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_buf *file;
        struct prx_npy npy;
        assert_int_equal(prx_mds_array_get(rows[i].encoding,
                                           (const uint8_t *)rows[i].value,
                                           rows[i].n_value, &file),
                         0);
        assert_int_equal(prx_npy_parse(file->bytes, file->n_bytes, &npy), 0);
        assert_int_equal(npy.type, PRX_NPY_F32);
        assert_int_equal(npy.n_dims, 2);
        assert_int_equal(npy.dims[0], 1);
        assert_int_equal(npy.dims[1], 2);
        if (strcmp(rows[i].encoding, "bf16") == 0) {
            static const float want[] = {1.0f, -10.0f};
            assert_memory_equal(npy.bytes, want, sizeof(want));
        } else {
            assert_memory_equal(npy.bytes, "abcdefgh", 8);
        }
        prx_buf_unref(file);
    }
}

static void test_numbers(void **state)
{
    static const struct {
        const char *encoding, *bytes;
        size_t n_bytes;
        const char *want; /* NULL: no number's encoding */
    } rows[] = {
        {"int", "\xfe\xff\xff\xff\xff\xff\xff\xff", 8, "-2"},
        {"int8", "\x80", 1, "-128"},
        {"int16", "\x00\x80", 2, "-32768"},
        {"int32", "\xff\xff\xff\x7f", 4, "2147483647"},
        {"int64", "\0\0\0\0\0\0\0\x80", 8, "-9223372036854775808"},
        {"uint8", "\xff", 1, "255"},
        {"uint16", "\xff\xff", 2, "65535"},
        {"uint32", "\xff\xff\xff\xff", 4, "4294967295"},
        {"uint64", "\xff\xff\xff\xff\xff\xff\xff\x7f", 8, "9223372036854775807"},
        {"uint64", "\0\0\0\0\0\0\0\x80", 8, "\"9223372036854775808\""},
        {"float16", "\x00\xc0", 2, "-2.0"},
        {"float32", "\0\0\x80\x7f", 4, "\"inf\""},
        {"float32", "\0\0\x80\xff", 4, "\"-inf\""},
        {"float64", "\0\0\0\0\0\0\xf8\x7f", 8, "\"nan\""},
        {"float64", "\0\0\0\0\0\0\xe0\x3f", 8, "0.5"},
        {"str_int", "-17", 3, "-17"},
        {"str_int", "1e400", 5, "\"1e400\""},
        {"str_float", "2.5e-1", 6, "0.25"},
        {"str_float", "[1]", 3, "\"[1]\""},
        {"str_float", "", 0, "\"\""},
        {"str_decimal", "1.10", 4, "\"1.10\""},
        {"str", "x", 1, NULL},
        {"integer", "x", 1, NULL},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        json_t *value;
        assert_int_equal(prx_mds_scalar_get(rows[i].encoding,
                                            (const uint8_t *)rows[i].bytes,
                                            rows[i].n_bytes, &value),
                         0);
        char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
        if (rows[i].want)
            assert_string_equal(text, rows[i].want);
        else
            assert_null(text);
        free(text);
        json_decref(value);
    }
}

static void test_pixels(void **state)
{
    static const struct {
        const char *value;
        size_t n_bytes;
        uint8_t want[6];
    } rows[] = {
        {"\2\0\0\0\1\0\0\0\1\0\0\0L\x10\xf0", 15, {16, 16, 16, 240, 240, 240}},
        {"\1\0\0\0\2\0\0\0\3\0\0\0RGB\1\2\3\4\5\6", 21, {1, 2, 3, 4, 5, 6}},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_image image = {0};
        struct prx_buf *file;
        assert_int_equal(
            prx_mds_picture_get((const uint8_t *)rows[i].value, rows[i].n_bytes, &file),
            0);
        assert_int_equal(prx_image_sniff(file->bytes, file->n_bytes), PRX_IMAGE_PNG);
        assert_int_equal(
            prx_image_decode(&image, NULL, file->bytes, file->n_bytes, NULL), 0);
        assert_int_equal(image.width_px, i == 0 ? 2 : 1);
        assert_memory_equal(image.pixels, rows[i].want, 6);
        prx_image_release(&image);
        prx_buf_unref(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_array_forms),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
