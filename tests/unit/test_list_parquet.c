/* SPDX-License-Identifier: Apache-2.0 */
/* Lists in Parquet: tests/data/types.parquet, whole, cut and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/outfile.h"
#include "libdata/rng.h"
#include "libdata/source.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define N_ROWS      9
#define FIXTURE     "tests/data/types.parquet"

#ifndef PRX_HAVE_PARQUET

static void test_left_out(void **state)
{
    const char *word = FIXTURE;
    struct prx_source *source;

    (void)state;
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), FIXTURE ": this build reads no Parquet"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

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

static int n_notices;
static char last_notice[256];

static void on_notice(const char *text)
{
    n_notices++;
    snprintf(last_notice, sizeof(last_notice), "%s", text);
}

static void expect_field(const struct prx_sample *sample, const char *name,
                         const char *want)
{
    const struct prx_field *field = prx_sample_find(sample, name);

    assert_int_equal(field != NULL, want != NULL);
    if (!want)
        return;
    assert_int_equal(field->n_bytes, strlen(want));
    assert_memory_equal(field->bytes->bytes, want, field->n_bytes);
}

/* Every type that there is; nulls are absent, bytes and maps told and left out. */
static void test_types(void **state)
{
    static const char *const texts[] = {
        "{\"bool\":true,\"date\":\"2024-05-01\",\"decimal\":\"0.00\","
        "\"dictionary\":\"a\",\"double\":0.0,\"float\":0.0,\"half\":0.0,"
        "\"int64\":1099511627776,\"int8\":0,\"large\":\"large 0\",\"list\":[],"
        "\"naive\":\"2024-05-01T10:30:00.000000\","
        "\"nested\":{\"a\":0,\"b\":[{\"c\":\"0\"}]},\"time\":\"10:30:00.000\","
        "\"uint64\":\"18446744073709551615\",\"when\":\"2024-05-01T10:30:00.000Z\"}\n",
        "{\"bool\":false,\"date\":\"2024-05-01\",\"decimal\":\"0.25\","
        "\"dictionary\":\"b\",\"double\":0.125,\"half\":0.25,"
        "\"int64\":1099511627777,\"int8\":-1,\"large\":\"large 1\",\"list\":[0],"
        "\"naive\":\"2024-05-01T10:30:00.000000\","
        "\"nested\":{\"a\":1,\"b\":[{\"c\":\"1\"}]},\"time\":\"10:30:00.000\","
        "\"uint64\":\"18446744073709551614\",\"when\":\"2024-05-01T10:30:00.000Z\"}\n",
        NULL,
    };
    const struct prx_source_opts opts = {.on_notice = on_notice};
    const char *word = FIXTURE;
    struct prx_source *source;
    struct prx_sample sample = {0};
    char want[64];

    (void)state;
    n_notices = 0;
    assert_int_equal(prx_source_open(&word, 1, &opts, &source), 0);
    for (int i = 0; i < N_ROWS; i++) {
        assert_int_equal(prx_source_next(source, &sample), 1);
        assert_null(sample.reject_reason);
        snprintf(want, sizeof(want), "types/%09d", i);
        assert_string_equal(sample.key, want);
        snprintf(want, sizeof(want), FIXTURE ": row %d", i);
        assert_string_equal(sample.origin, want);
        snprintf(want, sizeof(want), "picture %d", i);
        expect_field(&sample, "txt", want);
        assert_non_null(prx_sample_find(&sample, "png"));
        if (i < (int)N_OF(texts))
            expect_field(&sample, "json", texts[i]);
    }
    assert_int_equal(prx_source_next(source, &sample), 0);
    assert_int_equal(prx_source_next(source, &sample), 0);
    assert_int_equal(n_notices, 1);
    assert_non_null(strstr(last_notice, "not read: blob, map"));
    prx_sample_release(&sample);
    prx_source_close(source);
}

/* Columns by name: another picture's bytes, a key of numbers, none at all. */
static void test_columns(void **state)
{
    static const char *const large[] = {"large"};
    struct prx_source_opts opts = {.lists = {.image_column = "blob",
                                             .key_column = "large",
                                             .caption_columns = large,
                                             .n_caption_columns = 1}};
    const char *word = FIXTURE;
    struct prx_source *source;
    struct prx_sample sample = {0};

    (void)state;
    assert_int_equal(prx_source_open(&word, 1, &opts, &source), 0);
    assert_int_equal(prx_source_next(source, &sample), 1);
    assert_string_equal(sample.key, "large 0");
    assert_string_equal(sample.reject_reason,
                        "column blob: not a JPEG, PNG or WebP picture");
    prx_source_close(source);

    opts.lists = (struct prx_list_opts){.image_column = "", .key_column = "int64"};
    assert_int_equal(prx_source_open(&word, 1, &opts, &source), 0);
    assert_int_equal(prx_source_next(source, &sample), 1);
    assert_null(sample.reject_reason);
    assert_string_equal(sample.key, "1099511627776");
    assert_null(prx_sample_find_image(&sample));
    expect_field(&sample, "txt", "picture 0");
    prx_source_close(source);

    opts.lists = (struct prx_list_opts){.image_column = "picture"};
    assert_int_equal(prx_source_open(&word, 1, &opts, &source), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "no column picture, but image, prompt"));
    opts = (struct prx_source_opts){.n_member_bytes_max = 10};
    assert_int_equal(prx_source_open(&word, 1, &opts, &source), 0);
    assert_int_equal(prx_source_next(source, &sample), 1);
    assert_string_equal(sample.reject_reason, "column image: larger than the limit");
    prx_source_close(source);
    prx_sample_release(&sample);
}

struct counts {
    int n_good, n_rejected;
    char reason[512]; /* the last */
};

static struct counts count(const char *word)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct counts counts = {0};
    int got;

    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        counts.n_good += !sample.reject_reason;
        counts.n_rejected += sample.reject_reason != NULL;
        if (sample.reject_reason)
            snprintf(counts.reason, sizeof(counts.reason), "%s", sample.reject_reason);
    }
    assert_int_equal(got, 0);
    prx_sample_release(&sample);
    prx_source_close(source);
    return counts;
}

static void read_fixture(struct prx_str *bytes)
{
    FILE *file = fopen(FIXTURE, "rb");
    char block[4096];
    size_t n_read;

    assert_non_null(file);
    while ((n_read = fread(block, 1, sizeof(block), file)) > 0)
        assert_int_equal(prx_str_add(bytes, block, n_read), 0);
    fclose(file);
}

/* What has no footer is one reject, whatever its length. */
static void test_truncated(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str bytes = {0};

    read_fixture(&bytes);
    for (size_t n_bytes = 0; n_bytes < bytes.n_bytes; n_bytes += n_bytes / 8 + 1) {
        const char *path =
            prx_scratch_put(scratch, "cut.parquet", bytes.bytes, n_bytes);
        struct counts counts = count(path);
        assert_int_equal(counts.n_good, 0);
        assert_int_equal(counts.n_rejected, 1);
        assert_memory_equal(counts.reason, path, strlen(path));
    }
    prx_str_release(&bytes);
}

/* A page whose checksum is wrong: rows before it stay, the rest is one reject. */
static void test_damaged_page(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_str bytes = {0};

    read_fixture(&bytes);
    /* The second third of the file lies in the pages of the second row group. */
    for (size_t i = bytes.n_bytes / 4; i < bytes.n_bytes / 4 + 64; i++)
        bytes.bytes[i] ^= 0x55;
    struct counts counts =
        count(prx_scratch_put(scratch, "page.parquet", bytes.bytes, bytes.n_bytes));
    assert_int_equal(counts.n_good, 4);
    assert_int_equal(counts.n_rejected, 1);
    assert_non_null(strstr(counts.reason,
                           "row group 1: the last 5 rows of the file are lost: "));
    prx_str_release(&bytes);
}

/* Bytes changed anywhere: no crash, no endless file, every row told of at most once. */
static void test_mutations(void **state)
{
    enum { N_MUTATIONS = 500 };
    struct prx_scratch *scratch = *state;
    struct prx_str bytes = {0}, changed = {0};

    read_fixture(&bytes);
    for (uint64_t i = 0; i < N_MUTATIONS; i++) {
        struct prx_rng rng;
        prx_rng_init(&rng, 1, PRX_RNG_SHUFFLE, 0, i);
        prx_str_reset(&changed);
        assert_int_equal(prx_str_add(&changed, bytes.bytes, bytes.n_bytes), 0);
        int n_changes = 1 + (int)(prx_rng_u32(&rng) % 8);
        /* Every other time in the footer, which says what everything else is. */
        size_t n_range = i % 2 ? bytes.n_bytes : bytes.n_bytes / 3;
        for (int k = 0; k < n_changes; k++)
            changed.bytes[bytes.n_bytes - 1 - prx_rng_u32(&rng) % n_range] =
                (char)prx_rng_u32(&rng);
        struct counts counts = count(
            prx_scratch_put(scratch, "m.parquet", changed.bytes, changed.n_bytes));
        assert_true(counts.n_good + counts.n_rejected >= 1);
        assert_true(counts.n_good <= N_ROWS);
    }
    prx_str_release(&bytes);
    prx_str_release(&changed);
}

int main(void)
{
# define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_types),
        TEST(test_columns),
        TEST(test_truncated),
        TEST(test_damaged_page),
        TEST(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
