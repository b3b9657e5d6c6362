/* SPDX-License-Identifier: Apache-2.0 */
/* verify.h: keys that come twice, whatever the memory; hostile indexes, metadata. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/npy.h"
#include "libdata/outfile.h"
#include "libdata/rng.h"
#include "libdata/sink.h"
#include "libdata/verify/verify_internal.h"
#include "tests/lib/gen.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

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

/* --- keys ------------------------------------------------------------------- */

static int note_twin(void *ctx, const char *shard, const char *key,
                     const char *first_shard)
{
    return prx_str_printf(ctx, "%s:%s:%s ", shard, key, first_shard);
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct key_row {
    const char *shard, *key, *is_good; /* "g" or "b" */
};

/*
 * The twins of @rows, sorted where passes may give them in another order; the caller
 * frees it.
 */
static char *find_twins(struct prx_scratch *scratch, uint64_t n_keys_a_pass,
                        const struct key_row *rows, size_t n_rows)
{
    struct verify_keys *keys;
    struct prx_str found = {0}, sorted = {0};
    struct prx_paths words = {0};
    char *rest = NULL;

    assert_int_equal(prx_verify_keys_new(scratch->root, n_keys_a_pass, &keys), 0);
    for (size_t i = 0; i < n_rows; i++)
        assert_int_equal(prx_verify_keys_add(keys, rows[i].shard, rows[i].key,
                                             *rows[i].is_good == 'g'),
                         0);
    assert_int_equal(prx_str_puts(&found, ""), 0);
    assert_int_equal(prx_verify_keys_each(keys, note_twin, &found), 0);
    prx_verify_keys_free(keys);
    for (char *word = strtok_r(found.bytes, " ", &rest); word;
         word = strtok_r(NULL, " ", &rest))
        assert_int_equal(prx_paths_add(&words, word), 0);
    if (n_keys_a_pass < n_rows && words.n_paths > 0)
        qsort(words.paths, words.n_paths, sizeof(char *), compare_words);
    assert_int_equal(prx_str_puts(&sorted, ""), 0);
    for (size_t i = 0; i < words.n_paths; i++)
        assert_int_equal(prx_str_printf(&sorted, "%s ", words.paths[i]), 0);
    prx_paths_release(&words);
    prx_str_release(&found);
    return sorted.bytes;
}

static void test_twins(void **state)
{
    static const struct {
        struct key_row rows[6];
        size_t n_rows;
        const char *want;
    } cases[] = {
        {{{"1", "a", "g"}, {"1", "b", "g"}, {"2", "c", "g"}}, 3, ""},
        {{{"1", "a", "g"}, {"2", "a", "g"}}, 2, "2:a:1 "},
        {{{"1", "a", "g"}, {"1", "b", "g"}, {"1", "a", "g"}}, 3, "1:a:1 "},
        /* The second of a good one is told, however many come between. */
        {{{"1", "a", "g"}, {"2", "a", "g"}, {"3", "a", "g"}}, 3, "2:a:1 3:a:1 "},
        /* A bad one is nobody's twin in another shard: readers do not see it. */
        {{{"1", "a", "b"}, {"2", "a", "g"}}, 2, ""},
        {{{"1", "a", "g"}, {"2", "a", "b"}, {"3", "a", "g"}}, 3, "3:a:1 "},
        /* In its own shard it is, for a list hides both. */
        {{{"1", "a", "b"}, {"1", "a", "g"}}, 2, "1:a:1 "},
        {{{"1", "a", "g"}, {"1", "a", "b"}}, 2, "1:a:1 "},
    };

    for (size_t i = 0; i < N_OF(cases); i++) {
        char *got = find_twins(*state, 1 << 20, cases[i].rows, cases[i].n_rows);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("case %zu: %s", i, got);
        free(got);
    }
}

/* However often the file is read, the same keys are found. */
static void test_twins_in_many_passes(void **state)
{
    enum { N = 3000 };
    static char names[N][16];
    static struct key_row rows[N];
    struct prx_str want = {0};
    struct prx_paths words = {0};

    for (int i = 0; i < N; i++) {
        /* Every third of the second half came in the first. */
        bool is_twin = i >= N / 2 && i % 3 == 0;
        snprintf(names[i], sizeof(names[i]), "k%d", is_twin ? i - N / 2 : i);
        rows[i] = (struct key_row){i < N / 2 ? "one" : "two", names[i], "g"};
        char word[40];
        snprintf(word, sizeof(word), "two:%s:one", names[i]);
        if (is_twin)
            assert_int_equal(prx_paths_add(&words, word), 0);
    }
    qsort(words.paths, words.n_paths, sizeof(char *), compare_words);
    for (size_t i = 0; i < words.n_paths; i++)
        assert_int_equal(prx_str_printf(&want, "%s ", words.paths[i]), 0);
    static const uint64_t n_keys[] = {1, 7, 100, N / 2, N - 1};
    for (size_t i = 0; i < N_OF(n_keys); i++) {
        char *got = find_twins(*state, n_keys[i], rows, N);
        assert_string_equal(got, want.bytes);
        free(got);
    }
    prx_paths_release(&words);
    prx_str_release(&want);
}

/* --- data sets -------------------------------------------------------------- */

static int put_finding(void *ctx, const struct prx_finding *finding)
{
    assert_non_null(finding->check);
    assert_non_null(finding->file);
    assert_non_null(finding->what);
    return ctx ? prx_str_printf(ctx, "%s %s %s\n", finding->check,
                                finding->key ? finding->key : "-", finding->what)
               : 0;
}

/* Findings, a line each: check, key, what; the caller frees it. */
static char *verify(struct prx_scratch *scratch, const char *name, bool deep,
                    unsigned repairs)
{
    struct prx_verify_totals totals;
    struct prx_str found = {0};
    const char *word = prx_scratch_path(scratch, name);
    const struct prx_verify_opts opts = {
        .deep = deep,
        .n_threads = 2,
        .repairs = repairs,
        .temp_folder = scratch->root,
        .on_finding = put_finding,
        .ctx = &found,
    };

    assert_int_equal(prx_str_puts(&found, ""), 0);
    int rc = prx_verify(&word, 1, &opts, &totals);
    if (rc != 0)
        fail_msg("%s: %s", name, prx_err_message());
    json_decref(totals.fingerprints);
    return found.bytes;
}

static void put_picture(struct prx_scratch *scratch, const char *name)
{
    struct prx_image image = prx_gen_photo(24, 16, 1);
    struct prx_buf *jpeg = prx_gen_jpeg(&image, &(struct prx_gen_jpeg){0});

    prx_scratch_put(scratch, name, jpeg->bytes, jpeg->n_bytes);
    prx_buf_unref(jpeg);
    prx_image_release(&image);
}

static void put_array(struct prx_scratch *scratch, const char *name)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t dims[] = {1, 2, 3};
    struct prx_buf *npy;

    assert_int_equal(prx_npy_put_f32(PRX_NPY_F16, 3, dims, values, &npy), 0);
    prx_scratch_put(scratch, name, npy->bytes, npy->n_bytes);
    prx_buf_unref(npy);
}

/* What metadata may say, and what is said of it; "" where nothing is wrong. */
static void test_metadata(void **state)
{
    static const struct {
        const char *json, *want;
    } rows[] = {
        {"{}", "no record of what made it"},
        {"{\"encode\":[]}", "no record"},
        {"{\"encode\":{\"latent.npy\":\"x\"}}", "no record"},
        {"{\"encode\":{\"latent.npy\":{\"fingerprint\":1}}}", "no record"},
#define MADE(more) "{\"encode\":{\"latent.npy\":{\"fingerprint\":\"f\"" more "}}}"
        {MADE(""), ""},
        {MADE(",\"dtype\":\"f16\",\"shape\":[1,2,3]"), ""},
        {MADE(",\"shape\":[1,2]"), "has not the shape"},
        {MADE(",\"shape\":[1,2,\"3\"]"), "has not the shape"},
        {MADE(",\"shape\":{}"), "has not the shape"},
        {MADE(",\"shape\":[1,2,-9223372036854775808]"), "has not the shape"},
        {MADE(",\"dtype\":\"f32\""), "holds f16, and its record says f32"},
        {MADE(",\"input\":\"abc\""), "stale: the picture is another since"},
        {MADE(",\"input\":7"), ""},
#define SIZE(w, h)                                                                \
 "{\"width\":" w ",\"height\":" h ",\"encode\":{\"latent.npy\":{\"fingerprint\":" \
 "\"f\"}}}"
        {SIZE("24", "16"), ""},
        {SIZE("16", "24"), "json: says 16 x 24 pixels of a picture of 24 x 16"},
        {SIZE("24.0", "16"), "not numbers of pixels"},
        {SIZE("9223372036854775807", "16"), "json: says 9223372036854775807 x 16"},
        {SIZE("[]", "{}"), "not numbers of pixels"},
        {"", "field json: empty"},
        {"{\"width\":1e999}", "field json, line 1"},
        {"[[[[", "field json, line 1"},
        {"7", "field json, line 1"},
        {"\"text\"", "field json, line 1"},
    };
    struct prx_scratch *scratch = *state;

    put_picture(scratch, "d/a.jpg");
    put_array(scratch, "d/a.latent.npy");
    for (size_t i = 0; i < N_OF(rows); i++) {
        prx_scratch_puts(scratch, "d/a.json", rows[i].json);
        char *got = verify(scratch, "d", true, 0);
        bool is_right = *rows[i].want ? strncmp(got, "verify a ", 9) == 0 &&
                                            strstr(got, rows[i].want)
                                      : *got == '\0';
        if (!is_right)
            fail_msg("%s: %s", rows[i].json, got);
        free(got);
    }
}

static void test_indexes(void **state)
{
    static const struct {
        const char *json, *want;
    } rows[] = {
        {"", "index - "},
        {"[]", "not a shard index"},
        {"{\"shardlist\":[]}", "is not in the index"},
        {"{\"shardlist\":[7]}", "a shard without url"},
        {"{\"shardlist\":[{\"url\":\"../1.tar\"}]}", "url"},
        {"{\"shardlist\":[{\"url\":\"/etc/passwd\"}]}", "url"},
        {"{\"shardlist\":[{\"url\":\"http://h/1.tar\"}]}", "not a file beside"},
        {"{\"shardlist\":[{\"url\":\"1.tar\",\"nsamples\":-1}]}", "not a count"},
        {"{\"shardlist\":[{\"url\":\"1.tar\",\"nsamples\":9223372036854775807}]}",
         "1 samples, and the index says 9223372036854775807"},
        {"{\"shardlist\":[{\"url\":\"1.tar\",\"nsamples\":1,\"filesize\":1}]}",
         "bytes, and the index says 1"},
        {"{\"shardlist\":[{\"url\":\".\"}]}", "url"},
        {"{\"shardlist\":[{\"url\":\"pipe\"}]}", "is missing"},
    };
    struct prx_scratch *scratch = *state;
    struct prx_image image = prx_gen_photo(24, 16, 1);
    struct prx_buf *jpeg = prx_gen_jpeg(&image, &(struct prx_gen_jpeg){0});
    struct prx_str tar = {0};

    prx_tar_add(&tar, "a.jpg", jpeg->bytes, jpeg->n_bytes, NULL);
    prx_tar_end(&tar);
    prx_scratch_put(scratch, "s/1.tar", tar.bytes, tar.n_bytes);
    for (size_t i = 0; i < N_OF(rows); i++) {
        prx_scratch_puts(scratch, "s/index.json", rows[i].json);
        char *got = verify(scratch, "s", false, 0);
        if (!strstr(got, rows[i].want))
            fail_msg("%s: %s", rows[i].json, got);
        free(got);
        free(verify(scratch, "s", false, PRX_REPAIR_INDEX));
        got = verify(scratch, "s/index.json", false, 0);
        if (*got)
            fail_msg("%s: after a repair: %s", rows[i].json, got);
        free(got);
    }
    prx_str_release(&tar);
    prx_buf_unref(jpeg);
    prx_image_release(&image);
}

/* Whatever is turned in whichever file, the run goes to its end, as do repairs, and
 * what a second repair changes is nothing. */
static void test_mutations(void **state)
{
    static const char *const names[] = {"s/index.json", "s/000000.idx", "s/000000.tar",
                                        "s/000001.tar.skip"};
    struct prx_scratch *scratch = *state;
    struct prx_buf *whole[N_OF(names)];
    const struct prx_sink_opts sink_opts = {
        .n_shard_samples_max = 2,
        .no_sync = true,
        .plan = "test",
    };
    struct prx_sink *sink;
    struct prx_rng rng;
    uint64_t n_done;

    prx_rng_init(&rng, 5, PRX_RNG_TEST, 0, 0);
    assert_int_equal(prx_sink_open(prx_scratch_path(scratch, "s/%06d.tar"), &sink_opts,
                                   &n_done, &sink),
                     0);
    struct prx_image image = prx_gen_photo(24, 16, 1);
    struct prx_buf *jpeg = prx_gen_jpeg(&image, &(struct prx_gen_jpeg){0});
    for (int i = 0; i < 4; i++) {
        struct prx_sample sample = {.serial = (uint64_t)i};
        char key[8];
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(prx_sample_set_key(&sample, key), 0);
        assert_int_equal(prx_sample_put(&sample, "jpg", prx_buf_ref(jpeg)), 0);
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        prx_sample_release(&sample);
    }
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    prx_scratch_puts(scratch, "s/000001.tar.skip", "k2\twhy\n");
    for (size_t i = 0; i < N_OF(names); i++)
        assert_int_equal(
            prx_file_get(prx_scratch_path(scratch, names[i]), 1 << 20, &whole[i]), 0);

    for (unsigned round = 0; round < 200; round++) {
        size_t i_turned = round % N_OF(names);
        for (size_t i = 0; i < N_OF(names); i++) {
            struct prx_buf *turned;
            assert_int_equal(
                prx_buf_dup(whole[i]->bytes, whole[i]->n_bytes, &turned), 0);
            size_t n = turned->n_bytes;
            if (i == i_turned) {
                for (int k = 0; k < 3; k++)
                    turned->bytes[prx_rng_below(&rng, n)] ^=
                        (uint8_t)(1 << prx_rng_below(&rng, 8));
                if (round % 3 == 0)
                    n = prx_rng_below(&rng, n);
            }
            prx_scratch_put(scratch, names[i], turned->bytes, n);
            prx_buf_unref(turned);
        }
        free(verify(scratch, "s", round % 2, 0));
        free(verify(scratch, "s", round % 2, PRX_REPAIR_INDEX | PRX_REPAIR_SKIP));
        char *once = prx_scratch_list(prx_scratch_path(scratch, "s"));
        free(verify(scratch, "s", round % 2, PRX_REPAIR_INDEX | PRX_REPAIR_SKIP));
        char *twice = prx_scratch_list(prx_scratch_path(scratch, "s"));
        assert_string_equal(once, twice);
        free(once);
        free(twice);
    }
    for (size_t i = 0; i < N_OF(names); i++)
        prx_buf_unref(whole[i]);
    prx_buf_unref(jpeg);
    prx_image_release(&image);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_twins),
        TEST(test_twins_in_many_passes),
        TEST(test_metadata),
        TEST(test_indexes),
        TEST(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
