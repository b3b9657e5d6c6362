/* SPDX-License-Identifier: Apache-2.0 */
/* MDS that lies: columns, sizes, offsets, heads, indexes; torn and flipped shards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/source.h"
#include "tests/lib/mds_set.h"
#include "tests/lib/tell.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

#define JPEG "\xff\xd8\xff\xe0J"

static int open_scratch(void **state)
{
    static struct prx_scratch scratch;
    prx_scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

/* Three captions, "a", "bb" and "ccc", each beside a key or without one. */
static struct prx_mds_set make_captions(void)
{
    static const struct prx_mds_value samples[][1] = {
        {{"a", 0}}, {{"bb", 0}}, {{"ccc", 0}}};
    struct prx_mds_set set = {.columns = "caption=str"};

    for (size_t i = 0; i < N_OF(samples); i++)
        prx_mds_set_add(&set, samples[i]);
    prx_mds_set_build(&set);
    return set;
}

static void test_bad_columns(void **state)
{
    static const struct {
        const char *columns;
        struct prx_mds_value values[2];
        const char *want;
    } rows[] = {
        {"a=pkl",
         {{"x", 0}},
         "column a is pickled, which is never read; its 1 samples "
         "are lost"},
        {"a=list[jpeg]",
         {{"x", 0}},
         "column a is of encoding list[jpeg], which is not "
         "read; its 1 samples are lost"},
        {"n=int@8", {{"12345678", 0}}, NULL},
        {"n=int@7", {{"1234567", 0}}, "sample 0: column n: int of 7 bytes"},
        {"caption=str url=str",
         {{"a", 0}, {"\xff", 0}},
         "sample 0: column url: not UTF-8"},
        {"image=jpeg jpg=bytes",
         {{JPEG, 0}, {JPEG, 0}},
         "two files for field jpg of one sample; the second is 00000-000000.jpg"},
        {"a=ndarray",
         {{"\x12", 1}},
         "sample 0: column a: an array that ends in its head"},
        {"a=ndarray",
         {{"\x42\x04\x01"
           "8bytes..",
           0}},
         "sample 0: column a: arrays of float64 are not read"},
        {"a=ndarray",
         {{"\x05\x04\x01"
           "x",
           0}},
         "sample 0: column a: an array of type number 5"},
        {"a=ndarray:uint8",
         {{"\x04\x03"
           "xx",
           0}},
         "sample 0: column a: an array of 3 bytes, but 2 are there"},
        {"a=ndarray:complex64",
         {{"x", 0}},
         "sample 0: column a: an array of type complex64"},
        {"a=ndarray:uint8:2,x",
         {{"xx", 0}},
         "sample 0: column a: an array of dims 2,x"},
        {"a=ndarray:uint8",
         {{"\x09\1\1", 0}},
         "sample 0: column a: an array that ends in its head"},
        {"a=ndarray:uint8",
         {{"\x07\xff\xff\xff\xff\xff\xff\xff\xff", 0}},
         "sample 0: column a: an array with a dimension of 18446744073709551615"},
        {"a=ndarray:uint8",
         {{"\x0e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 0}},
         "sample 0: column a: an array larger than any memory"},
        {"a=ndarray:uint8",
         {{"\x24\1\1\1\1\1\1\1\1\1x", 0}},
         "sample 0: column a: an array of more than 8 dimensions"},
        {"a=bf16",
         {{"\1\0\0\0\2\0\0\0abc", 11}},
         "sample 0: column a: an array of 4 bytes, but 3 are there"},
        {"a=bf16",
         {{"\xff\xff\xff\xff", 0}},
         "sample 0: column a: an array that ends in its head"},
        {"image=pil",
         {{"\1\0\0\0", 4}},
         "sample 0: column image: pixels that end in their "
         "head"},
        {"image=pil",
         {{"\1\0\0\0\1\0\0\0\4\0\0\0RGBA1234", 20}},
         "sample 0: column image: pixels of a mode that is neither L nor RGB"},
        {"image=pil",
         {{"\1\0\0\0\1\0\0\0\xff\xff\xff\xffRGB", 15}},
         "sample 0: column image: pixels that end in their mode"},
        {"image=pil",
         {{"\xff\xff\xff\x7f\xff\xff\xff\x7f\1\0\0\0L", 13}},
         "sample 0: column image: a picture of 2147483647 x 2147483647 pixels"},
        {"image=pil",
         {{"\2\0\0\0\1\0\0\0\3\0\0\0RGB12345", 20}},
         "sample 0: column image: 5 bytes for a picture of 2 x 1 pixels"},
        {"key=str", {{"../x", 0}}, "key \"../x\" has a component .."},
        {"key=str", {{"a\0b", 3}}, "sample 0: column key: a key with a NUL in it"},
        {"__fields__=str __key__=str",
         {{"txt", 0}, {"k", 0}},
         "sample 0: field txt has no column"},
        {"__fields__=str a=bytes",
         {{"a\na", 0}, {"k", 0}},
         "two files for field a of one sample; the second is 00000-000000.a"},
        {"__fields__=str a=int@8",
         {{"a", 0}, {"12345678", 0}},
         "column a is of encoding int, which is not read; its 1 samples are lost"},
    };

    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_mds_set set = {.columns = rows[i].columns};
        prx_mds_set_add(&set, rows[i].values);
        prx_mds_set_build(&set);
        char *got = prx_tell_source(*state, prx_mds_set_write(&set, *state, "d"), NULL);
        char *reject = strstr(got, "! ");
        if (!rows[i].want) {
            assert_null(reject);
        } else {
            assert_non_null(reject);
            if (!strstr(reject, rows[i].want))
                fail_msg("%s: got %s", rows[i].want, got);
            assert_string_equal(strchr(got, '\n'), "\n");
        }
        free(got);
        prx_mds_set_release(&set);
    }
}

/* Every value above the limit is refused before it is read. */
static void test_limit(void **state)
{
    static const struct prx_source_opts opts = {.n_member_bytes_max = 2};
    struct prx_mds_set set = make_captions();
    char *got = prx_tell_source(*state, prx_mds_set_write(&set, *state, "d"), &opts);

    assert_string_equal(got,
                        "00000-000000: txt=a\n00000-000001: txt=bb\n"
                        "00000-000002! d/shard.00000.mds: sample 2: column caption: "
                        "larger than the limit\n");
    free(got);
    prx_mds_set_release(&set);
}

/* --- shards that lie ------------------------------------------------------- */

static void poke(struct prx_mds_set *set, size_t at_bytes, uint32_t value)
{
    memcpy(set->shard.bytes + at_bytes, &value, 4);
}

static void test_lying_shards(void **state)
{
    enum { NUMBER,
           FIRST,
           SECOND,
           LAST,
           SIZE };
    static const struct {
        int place;
        uint32_t value; /* offsets: added to where the samples begin */
        const char *want;
    } rows[] = {
        {NUMBER, UINT32_MAX, "4294967295 samples in a shard of"},
        {NUMBER, 2, "d/shard.00000.mds"},
        {NUMBER, 0, "d/shard.00000.mds"},
        {FIRST, 1u << 31, "the first sample begins at"},
        {SECOND, UINT32_MAX - 1000000, "sample 0: said to be bytes"},
        {SECOND, 2, "sample 0: too short for the sizes of its columns"},
        {SECOND, 4, "sample 0: column caption: of 1 bytes, 0 are left"},
        {SECOND, 6, "sample 0: 1 bytes behind its last column"},
        {LAST, 1, "sample 2: said to be bytes"},
        {LAST, 1000, "sample 2: said to be bytes"},
        {SIZE, UINT32_MAX, "sample 0: column caption: of 4294967295 bytes, 1 are left"},
        {SIZE, 0, "sample 0: 1 bytes behind its last column"},
    };

    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_mds_set set = make_captions();
        uint32_t begin = (uint32_t)set.at_samples, value = rows[i].value;
        switch (rows[i].place) {
        case NUMBER:
            poke(&set, 0, value);
            break;
        case FIRST:
            poke(&set, 4, value);
            break;
        case SECOND:
            poke(&set, 8, begin + value);
            break;
        case LAST:
            poke(&set, 16, begin + value);
            break;
        default:
            poke(&set, begin, value);
        }
        char *got = prx_tell_source(*state, prx_mds_set_write(&set, *state, "d"), NULL);
        if (!strstr(got, rows[i].want))
            fail_msg("row %zu: %s", i, got);
        if (rows[i].place <= FIRST)
            assert_non_null(strstr(got, "; its 3 samples are lost\n"));
        free(got);
        prx_mds_set_release(&set);
    }
}

/* Read @set, written as d; @want must be in what is told. */
static void expect_part(struct prx_scratch *scratch, struct prx_mds_set *set,
                        const char *want)
{
    char *got = prx_tell_source(scratch, prx_mds_set_write(set, scratch, "d"), NULL);

    if (!strstr(got, want))
        fail_msg("%s: got %s", want, got);
    free(got);
}

static void test_lying_index(void **state)
{
    struct prx_mds_set set = make_captions();
    char want[128];

    set.index_samples = 4;
    expect_part(*state, &set,
                ": 3 samples, but the index says 4; its 4 samples are lost\n");
    set.index_samples = 0;
    set.index_bytes = set.shard.n_bytes - 1;
    snprintf(want, sizeof(want), ": of %zu bytes, not of %zu; its 3 samples are lost\n",
             set.shard.n_bytes, set.shard.n_bytes - 1);
    expect_part(*state, &set, want);
    set.index_bytes = 0;
    memcpy(strstr(set.shard.bytes + 20, "caption"), "Caption", 7);
    expect_part(*state, &set, ": of other columns than the index says; its 3 samples");
    memcpy(strstr(set.shard.bytes + 20, "\"mds\""), "\"csv\"", 5);
    expect_part(*state, &set,
                "a shard of format csv, not mds; its 3 samples are lost\n");
    set.shard.bytes[20] = 'x';
    expect_part(*state, &set,
                "head: '[' or '{' expected near 'x'; its 3 samples are lost\n");
    prx_mds_set_release(&set);
}

/* Cut anywhere: the samples before it are whole, and none goes without a word. */
static void test_torn(void **state)
{
    static const char *const lines[] = {
        "00000-000000: txt=a\n", "00000-000001: txt=bb\n", "00000-000002: txt=ccc\n"};
    struct prx_mds_set set = make_captions();
    size_t n_whole = set.shard.n_bytes;

    set.index_bytes = n_whole;
    for (size_t n = 0; n < n_whole; n++) {
        set.shard.n_bytes = n;
        char *got = prx_tell_source(*state, prx_mds_set_write(&set, *state, "d"), NULL);
        size_t n_lines = 0, n_rejects = 0, end = set.at_samples;
        for (const char *p = got; *p; p = strchr(p, '\n') + 1) {
            n_lines++;
            n_rejects += strcspn(p, "!") < strcspn(p, "\n");
        }
        if (n < set.at_samples) {
            assert_int_equal(n_lines, 1);
            assert_non_null(strstr(got, "; its 3 samples are lost\n"));
        } else {
            assert_int_equal(n_lines, 3);
            for (size_t i = 0; i < 3; i++) {
                end += set.samples[i].n_bytes;
                assert_int_equal(strstr(got, lines[i]) != NULL, n >= end);
                n_rejects -= n < end;
            }
            assert_int_equal(n_rejects, 0);
        }
        free(got);
    }
    prx_mds_set_release(&set);
}

/* Whatever a byte becomes, reading ends, and what is wrong is said. */
static void test_flipped(void **state)
{
    struct prx_mds_set set = {.columns =
                                  "a=ndarray b=bf16 image=bytes json=json key=str "
                                  "n=int@8 pic=pil"};
    const struct prx_mds_value values[] = {
        {"\x12\x08\1\2abcd", 0},
        {"\1\0\0\0\1\0\0\0ab", 10},
        {JPEG, 0},
        {"{\"a\":[1]}", 0},
        {"key", 0},
        {"12345678", 8},
        {"\1\0\0\0\1\0\0\0\3\0\0\0RGB123", 18},
    };

    prx_mds_set_add(&set, values);
    prx_mds_set_add(&set, values);
    prx_mds_set_build(&set);
    for (uint64_t i = 0; i < set.shard.n_bytes * 8; i++) {
        char was = set.shard.bytes[i / 8];
        set.shard.bytes[i / 8] = (char)(was ^ 1 << i % 8);
        char *got = prx_tell_source(*state, prx_mds_set_write(&set, *state, "d"), NULL);
        assert_true(strlen(got) > 0);
        free(got);
        set.shard.bytes[i / 8] = was;
    }
    prx_mds_set_release(&set);
}

/* Text with ' for ", which the compiler would have a backslash before. */
static void put_index(struct prx_scratch *scratch, const char *text)
{
    char json[512];

    snprintf(json, sizeof(json), "%s", text);
    for (char *p = json; *p; p++)
        if (*p == '\'')
            *p = '"';
    prx_scratch_puts(scratch, "d/index.json", json);
}

#define SHARD(more) "{'version': 2, 'shards': [{'samples': 1" more "}]}"
#define FILE_X      ", 'raw_data': {'basename': 'x'}"
#define COLUMNS(encodings, sizes)                           \
 ", 'format': 'mds', 'version': 2, 'column_names': ['a'], " \
 "'column_encodings': [" encodings "], 'column_sizes': [" sizes "]"

static void test_bad_index(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *message;
    } rows[] = {
        {"{'shards': [", PRX_ECORRUPT, "index.json:1: "},
        {"{'shards': {}, 'version': 2}", PRX_EFORMAT, "not an index of MDS shards"},
        {"{'version': 1, 'shards': []}", PRX_EFORMAT, "not version 2 of MDS"},
        {SHARD(""), PRX_ECORRUPT, "index.json: shard 0: a shard without basename"},
        {SHARD(", 'raw_data': {'basename': '../x'}"), PRX_EINVAL,
         "index.json: shard 0: basename: key \"../x\" has a component .."},
        {SHARD(", 'raw_data': {'basename': 'x', 'bytes': 4294967296}"), PRX_ECORRUPT,
         "shard 0: x: more bytes than offsets can tell"},
        {SHARD(", 'raw_data': {'basename': 'x', 'bytes': -1}"), PRX_ECORRUPT,
         "shard 0: bytes is not a count"},
        {SHARD(FILE_X ", 'format': 'csv'"), PRX_EFORMAT,
         "shard 0: a shard of format csv, not mds"},
        {SHARD(FILE_X COLUMNS("", "null")), PRX_ECORRUPT,
         "names, encodings and sizes of columns differ in number"},
        {SHARD(FILE_X COLUMNS("'str'", "4294967296")), PRX_ECORRUPT,
         "a column without name, encoding or size"},
        {SHARD(FILE_X COLUMNS("'str'", "null")), PRX_ENOENT,
         "d/x: No such file or directory"},
    };
    struct prx_source *source;

    for (size_t i = 0; i < N_OF(rows); i++) {
        put_index(*state, rows[i].text);
        const char *word = prx_scratch_path(*state, "d");
        assert_int_equal(prx_source_open(&word, 1, NULL, &source), rows[i].code);
        if (!strstr(prx_err_message(), rows[i].message))
            fail_msg("%s: got %s", rows[i].message, prx_err_message());
    }
    const char *word = "mds:/nowhere/at/all";
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), PRX_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bad_columns, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_limit, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_lying_shards, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_lying_index, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_torn, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_flipped, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_bad_index, open_scratch, close_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
