/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: what is written reads back; what lies is refused. */
#include "libdata/safetensors.h"

#include "libdata/outfile.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

/* A file in memory: the length, @header, @n_data zero bytes.  Caller frees. */
static uint8_t *file_of(const char *header, size_t n_data, size_t *n_bytes)
{
    size_t n_header = strlen(header);
    uint8_t *bytes = calloc(1, 8 + n_header + n_data);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)n_header >> 8 * i);
    memcpy(bytes + 8, header, n_header);
    *n_bytes = 8 + n_header + n_data;
    return bytes;
}

static int parse(const char *header, size_t n_data, struct prx_st_file *file)
{
    size_t n_bytes = 0;
    uint8_t *bytes = file_of(header, n_data, &n_bytes);
    int rc = prx_st_parse(bytes, n_bytes, file);
    free(bytes);
    return rc;
}

#define T(name, type, shape, begin, end)                                             \
 "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" begin \
 "," end "]}"

static void lies_are_refused(void **state)
{
    static const struct {
        const char *what;
        const char *header;
        size_t n_data;
    } rows[] = {
        {"product that wraps to 4",
         "{" T("a", "F32", "[4194305,4194305,211106198978564]", "0", "16") "}", 16},
        {"product that wraps to 0",
         "{" T("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0},
        {"wrap before a zero",
         "{" T("a", "F32", "[4294967296,4294967296,0]", "0", "0") "}", 0},
        {"size times type that wraps",
         "{" T("a", "F64", "[2305843009213693953]", "0", "8") "}", 8},
        {"negative size", "{" T("a", "F32", "[-1]", "0", "4") "}", 4},
        {"two negative sizes", "{" T("a", "F32", "[-1,-1]", "0", "4") "}", 4},
        {"fractional size", "{" T("a", "F32", "[1.0]", "0", "4") "}", 4},
        {"size beyond 64 bits",
         "{" T("a", "F32", "[18446744073709551617]", "0", "4") "}", 4},
        {"nine sizes", "{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4},
        {"end before begin", "{" T("a", "F32", "[1]", "4", "0") "}", 4},
        {"negative begin", "{" T("a", "F32", "[1]", "-4", "0") "}", 4},
        {"end behind the data", "{" T("a", "F32", "[2]", "0", "8") "}", 4},
        {"begin behind the data", "{" T("a", "F32", "[1]", "8", "12") "}", 4},
        {"fewer bytes than the shape", "{" T("a", "F32", "[2]", "0", "4") "}", 4},
        {"more bytes than the shape", "{" T("a", "F32", "[1]", "0", "8") "}", 8},
        {"hole before", "{" T("a", "F32", "[1]", "4", "8") "}", 8},
        {"hole between",
         "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}",
         12},
        {"hole behind", "{" T("a", "F32", "[1]", "0", "4") "}", 8},
        {"overlap",
         "{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "4", "8") "}", 8},
        {"two over the same bytes",
         "{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "0", "4") "}", 4},
        {"empty inside another",
         "{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[0]", "4", "4") "}", 8},
        {"duplicate name over the same bytes",
         "{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "0", "4") "}", 4},
        {"duplicate name",
         "{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8},
        {"data without tensors", "{}", 1},
        {"one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}",
         4},
        {"three offsets",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4},
        {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4},
        {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
        {"tensor that is a list", "{\"a\":[]}", 0},
        {"metadata with a number", "{\"__metadata__\":{\"k\":1}}", 0},
        {"metadata that is a list", "{\"__metadata__\":[]}", 0},
        {"header that is a list", "[]", 0},
        {"header with a space first", " {}", 0},
        {"header cut short", "{\"a\":", 0},
        {"two headers", "{}{}", 0},
        {"name with a NUL", "{\"a\\u0000b\":{}}", 0},
        {"empty header", "", 0},
    };
    struct prx_st_file file;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int rc = parse(rows[i].header, rows[i].n_data, &file);
        if (rc != PRX_ECORRUPT)
            fail_msg("%s: %d", rows[i].what, rc);
        assert_null(file.tensors);
        assert_null(file.header);
    }
    assert_int_equal(parse("{" T("a", "F8_E4M3", "[1]", "0", "1") "}", 1, &file),
                     PRX_EFORMAT);
}

static void header_length_is_not_believed(void **state)
{
    static const uint64_t lengths[] = {
        0,
        1,
        3,
        17,
        (uint64_t)100 << 20,
        UINT64_C(1) << 40,
        INT64_MAX,
        UINT64_MAX - 7,
        UINT64_MAX,
    };
    struct prx_st_file file;
    uint8_t bytes[24] = "........{}";

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (int k = 0; k < 8; k++)
            bytes[k] = (uint8_t)(lengths[i] >> 8 * k);
        assert_int_equal(prx_st_parse(bytes, 10, &file), PRX_ECORRUPT);
    }
    for (size_t n_bytes = 0; n_bytes < 8; n_bytes++)
        assert_int_equal(prx_st_parse(bytes, n_bytes, &file), PRX_ECORRUPT);
}

/* Cut anywhere, a file is refused; any one byte of the header changed is no crash. */
static void damaged_files(void **state)
{
    static const char header[] = "{" T("a", "F32", "[2,1]", "0", "8") "," T(
        "b", "I32", "[0]", "8", "8") ",\"__metadata__\":{\"k\":\"v\"}}";
    struct prx_st_file file;
    size_t n_bytes = 0;
    uint8_t *bytes = file_of(header, 8, &n_bytes);

    (void)state;
    for (size_t n = 0; n < n_bytes; n++)
        assert_true(prx_st_parse(bytes, n, &file) < 0);
    for (size_t i = 0; i < n_bytes; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            if (prx_st_parse(bytes, n_bytes, &file) == 0)
                prx_st_close(&file);
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    OK(prx_st_parse(bytes, n_bytes, &file));
    prx_st_close(&file);
    prx_st_close(&file);
    free(bytes);
}

static void honest_headers(void **state)
{
    struct prx_st_file file;

    (void)state;
    OK(parse("{}", 0, &file));
    assert_int_equal(file.n_tensors, 0);
    assert_null(prx_st_find(&file, "a"));
    prx_st_close(&file);

    /* Any order of names, scalars, empty tensors, padding, metadata. */
    OK(parse("{" T("z", "U8", "[3]", "0", "3") "," T("s", "F64", "[]", "5", "13") "," T(
                 "e", "F32", "[0,7]", "3",
                 "3") "," T("a", "F16", "[1]", "3",
                            "5") ","
                                 "\"__metadata__\":{\"format\":\"pt\"}}   ",
             13, &file));
    assert_int_equal(file.n_tensors, 4);
    assert_string_equal(file.tensors[0].name, "a");
    assert_string_equal(file.tensors[3].name, "z");
    const struct prx_st_tensor *s = prx_st_find(&file, "s");
    assert_int_equal(s->n_dims, 0);
    assert_int_equal(s->n_bytes, 8);
    assert_int_equal(prx_st_find(&file, "e")->n_bytes, 0);
    assert_int_equal(prx_st_find(&file, "e")->dims[1], 7);
    assert_string_equal(json_string_value(json_object_get(file.metadata, "format")),
                        "pt");
    assert_null(prx_st_find(&file, "__metadata__"));
    prx_st_close(&file);
}

static void numbers_of_every_width(void **state)
{
    static const double f64[] = {1.5, -2.0};
    static const float f32[] = {1.5f, -2.0f};
    static const uint16_t bf16[] = {0x3fc0, 0xc000};
    static const uint16_t f16[] = {0x3e00, 0xc000};
    static const uint16_t odd[] = {0x0001, 0x8000, 0x03ff, 0x0400,
                                   0x7bff, 0xfc00, 0x7e00};
    static const float odd_want[] = {0x1p-24f, -0.0f, 0x1.ff8p-15f, 0x1p-14f,
                                     65504.0f, -INFINITY, NAN};
    const struct prx_st_tensor rows[] = {
        {"f64", PRX_ST_F64, 1, {2}, sizeof(f64), f64},
        {"f32", PRX_ST_F32, 1, {2}, sizeof(f32), f32},
        {"bf16", PRX_ST_BF16, 1, {2}, sizeof(bf16), bf16},
        {"f16", PRX_ST_F16, 1, {2}, sizeof(f16), f16},
    };
    const struct prx_st_tensor halves = {"odd", PRX_ST_F16, 1, {7}, sizeof(odd), odd};
    const struct prx_st_tensor ints = {"i", PRX_ST_I32, 1, {2}, 8, f64};
    float out[7];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        OK(prx_st_get_f32(&rows[i], out));
        assert_memory_equal(out, f32, sizeof(f32));
    }
    OK(prx_st_get_f32(&halves, out));
    assert_memory_equal(out, odd_want, 6 * sizeof(float));
    assert_true(isnan(out[6]));
    assert_int_equal(prx_st_get_f32(&ints, out), PRX_EFORMAT);
}

static void what_is_written_reads_back(void **state)
{
    const char *path = prx_scratch_path(*state, "t.safetensors");
    static const float values[] = {1.0f, 2.0f, 3.0f};
    static const uint8_t bytes[] = {7, 8, 9, 10, 11};
    const struct prx_st_tensor tensors[] = {
        {"second \"quoted\" \xc3\xa9", PRX_ST_U8, 2, {5, 1}, 5, bytes},
        {"first", PRX_ST_F32, 1, {3}, 12, values},
        {"empty", PRX_ST_I64, 3, {4, 0, 2}, 0, NULL},
        {"scalar", PRX_ST_F32, 0, {0}, 4, values},
    };
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    struct prx_st_file file;

    OK(prx_st_write(path, tensors, 4, metadata));
    OK(prx_st_open(path, &file));
    assert_int_equal(file.n_tensors, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct prx_st_tensor *got = prx_st_find(&file, tensors[i].name);
        assert_non_null(got);
        assert_int_equal(got->type, tensors[i].type);
        assert_int_equal(got->n_dims, tensors[i].n_dims);
        assert_memory_equal(got->dims, tensors[i].dims,
                            (size_t)got->n_dims * sizeof(int64_t));
        assert_int_equal(got->n_bytes, tensors[i].n_bytes);
        if (got->n_bytes > 0)
            assert_memory_equal(got->bytes, tensors[i].bytes, got->n_bytes);
    }
    assert_string_equal(json_string_value(json_object_get(file.metadata, "format")),
                        "pt");
    prx_st_close(&file);
    json_decref(metadata);
}

static int read_count_up(void *ctx, size_t i, void *out)
{
    uint8_t *bytes = out;
    if (i == 1 && ctx)
        return prx_err(PRX_EDEVICE, "the device failed");
    for (int k = 0; k < 4; k++)
        bytes[k] = (uint8_t)(10 * i) + (uint8_t)k;
    return 0;
}

static void bytes_may_come_from_elsewhere(void **state)
{
    const char *path = prx_scratch_path(*state, "t.safetensors");
    const struct prx_st_tensor tensors[] = {
        {.name = "a", .type = PRX_ST_U8, .n_dims = 1, .dims = {4}, .n_bytes = 4},
        {.name = "b", .type = PRX_ST_I32, .n_dims = 1, .dims = {1}, .n_bytes = 4},
        {.name = "c", .type = PRX_ST_I32, .n_dims = 1, .dims = {0}, .n_bytes = 0},
    };
    struct prx_st_file file;
    bool fails = true;

    assert_int_equal(prx_st_write_from(path, tensors, 3, NULL, read_count_up, &fails),
                     PRX_EDEVICE);
    assert_int_not_equal(access(path, F_OK), 0);
    OK(prx_st_write_from(path, tensors, 3, NULL, read_count_up, NULL));
    OK(prx_st_open(path, &file));
    assert_memory_equal(prx_st_find(&file, "a")->bytes, "\0\1\2\3", 4);
    assert_memory_equal(prx_st_find(&file, "b")->bytes, "\12\13\14\15", 4);
    assert_int_equal(prx_st_find(&file, "c")->n_bytes, 0);
    prx_st_close(&file);
}

static void impossible_files_are_not_written(void **state)
{
    const char *path = prx_scratch_path(*state, "t.safetensors");
    static const float values[4] = {0};
    const struct prx_st_tensor good = {"a", PRX_ST_F32, 1, {4}, 16, values};
    const struct prx_st_tensor rows[][2] = {
        {good, good},
        {good, {"b", PRX_ST_F32, 1, {4}, 12, values}},
        {good, {"b", PRX_ST_F32, 1, {-4}, 16, values}},
        {good, {"b", PRX_ST_F32, 9, {1}, 4, values}},
        {good, {"__metadata__", PRX_ST_F32, 1, {4}, 16, values}},
        {good, {"\xff\xfe", PRX_ST_F32, 1, {4}, 16, values}},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(prx_st_write(path, rows[i], 2, NULL), PRX_EINVAL);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    json_t *metadata = json_pack("{s:i}", "step", 1);
    assert_int_equal(prx_st_write(path, &good, 1, metadata), PRX_EINVAL);
    json_decref(metadata);
    OK(prx_st_write(path, NULL, 0, NULL));
}

static void files_that_cannot_be_opened(void **state)
{
    const char *path = prx_scratch_path(*state, "t.safetensors");
    struct prx_st_file file;

    assert_int_equal(prx_st_open(path, &file), PRX_ENOENT);
    assert_non_null(strstr(prx_err_message(), path));
    OK(prx_file_put(path, "", 0));
    assert_int_equal(prx_st_open(path, &file), PRX_ECORRUPT);
    OK(prx_file_put(path, "0123456789abcdef", 16));
    assert_int_equal(prx_st_open(path, &file), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), path));
    assert_int_equal(prx_st_open("/", &file), PRX_EINVAL);
    prx_st_close(&file);
    prx_st_close(NULL);
}

static int open_scratch(void **state)
{
    struct prx_scratch *scratch = calloc(1, sizeof(*scratch));
    if (!scratch)
        return -1;
    prx_scratch_open(scratch);
    *state = scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    free(*state);
    return 0;
}

#define WITH_SCRATCH(test) \
 cmocka_unit_test_setup_teardown(test, open_scratch, close_scratch)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(header_length_is_not_believed),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(honest_headers),
        cmocka_unit_test(numbers_of_every_width),
        WITH_SCRATCH(what_is_written_reads_back),
        WITH_SCRATCH(bytes_may_come_from_elsewhere),
        WITH_SCRATCH(impossible_files_are_not_written),
        WITH_SCRATCH(files_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
