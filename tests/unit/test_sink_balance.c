/* SPDX-License-Identifier: Apache-2.0 */
/* Tar shards of about one size: where they are cut, and what is in them. */
#include "libdata/sink.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/index.h"
#include "libdata/outfile.h"
#include "libdata/rng.h"
#include "libdata/source.h"
#include "tests/lib/made.h"
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

/* Sample @i: "s0007.bin" of @n_bytes, rejected where that is 0. */
static void make(struct prx_sample *sample, uint64_t i, size_t n_bytes)
{
    char key[32];

    prx_sample_reset(sample);
    snprintf(key, sizeof(key), "s%04d", (int)i);
    assert_int_equal(prx_sample_set_key(sample, key), 0);
    sample->serial = i;
    prx_made_field(sample, "bin", n_bytes);
    if (n_bytes > 0)
        memset(sample->fields[0].bytes->bytes, 'A' + (int)(i % 26), n_bytes);
    else
        prx_sample_reject(sample, "test", "empty");
}

/* Write samples @first to @end - 1 of the given sizes. */
static void put_sizes(const char *word, const struct prx_sink_opts *opts,
                      const size_t *sizes, size_t first, size_t end,
                      struct prx_sink_totals *totals)
{
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_sink_open(word, opts, &n_done, &sink), 0);
    assert_int_equal(n_done, 0);
    for (size_t i = first; i < end; i++) {
        make(&sample, i, sizes[i]);
        sample.serial = i - first;
        assert_int_equal(prx_sink_put(sink, &sample), 0);
    }
    prx_sample_release(&sample);
    assert_int_equal(prx_sink_finish(sink, NULL, totals), 0);
}

/* Numbers of samples of the shards, as "4 3 3 "; @index is then read. */
static const char *cuts(struct prx_scratch *scratch, struct prx_index *index)
{
    static char text[256];
    size_t n_text = 0;

    *index = (struct prx_index){0};
    assert_int_equal(
        prx_index_read(prx_scratch_path(scratch, "out/index.json"), index), 0);
    text[0] = '\0';
    for (size_t i = 0; i < index->n_shards; i++)
        n_text += (size_t)snprintf(text + n_text, sizeof(text) - n_text, "%d ",
                                   (int)index->shards[i].n_samples);
    return text;
}

/* In the tar a sample has a block more, its header, and the tar two at its end. */
static void test_cuts(void **state)
{
    struct prx_scratch *scratch = *state;
    static const struct {
        uint64_t n_bytes_max, n_samples_max;
        const char *sizes; /* a digit a sample: blocks of 512 bytes; 0: a reject */
        const char *want;
    } rows[] = {
        {0, 4, "", ""},
        {0, 4, "1", "1 "},
        {0, 4, "1111", "4 "},
        {0, 4, "11111", "3 2 "}, /* of 3 2 and 2 3 the one that moves less */
        {0, 4, "111111", "4 2 "},
        {0, 4, "1111111", "4 3 "},
        {0, 4, "111111111", "4 3 2 "}, /* the first is out of it */
        {0, 5, "11111111111", "5 3 3 "},
        {0, 5, "111111111111", "5 4 3 "},
        {0, 5, "1111111111111", "5 5 3 "},
        {0, 1, "111", "1 1 1 "}, /* one sample cannot be less */
        {0, 2, "111", "2 1 "},
        {0, 3, "1111", "2 2 "},
        /* 9 blocks a shard: 2 for the end, 7 for samples of 2 each. */
        {9 * 512, 0, "1111", "2 2 "},
        {9 * 512, 0, "11111", "3 2 "}, /* 4 + 2 of 9 are more than half */
        /* 12 blocks: 5 samples of 2; then 2 + 2 of 12 are less than half. */
        {12 * 512, 0, "111111", "3 3 "},
        {12 * 512, 0, "1111111", "5 2 "}, /* 4 + 2 of 12 are half */
        /* By bytes: 8 and 1 are 9 + 2 blocks, then 1 is 2 + 2 of 13. */
        {13 * 512, 0, "811", "1 2 "},
        /* Giving away 8 would leave 1 alone, in the first. */
        {13 * 512, 0, "181", "2 1 "},
        /* A sample larger than the limit has a shard of its own. */
        {6 * 512, 0, "911", "1 2 "},
        {9 * 512, 0, "91", "1 1 "},
        /* Both limits; the nearer one counts. */
        {100 * 512, 4, "11111", "3 2 "},
        {12 * 512, 100, "111111", "3 3 "},
        /* Rejects take no room. */
        {0, 4, "0101010101", "3 2 "},
        {0, 4, "1111000001", "3 2 "},
        {0, 4, "0000", ""},
    };

    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_sink_opts opts = {.n_shard_bytes_max = rows[i].n_bytes_max,
                                     .n_shard_samples_max = rows[i].n_samples_max,
                                     .no_sync = true};
        size_t sizes[16] = {0}, n = strlen(rows[i].sizes);
        struct prx_index index;

        for (size_t k = 0; k < n; k++)
            sizes[k] = 512 * (size_t)(rows[i].sizes[k] - '0');
        put_sizes(prx_scratch_path(scratch, "out/%d.tar"), &opts, sizes, 0, n, NULL);
        const char *got = cuts(scratch, &index);
        if (strcmp(got, rows[i].want) != 0)
            fail_msg("row %zu: %s is cut as %s", i, rows[i].sizes, got);
        assert_int_equal(index.n_samples + index.n_rejected, n);
        prx_index_release(&index);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
}

static void expect_same_file(const char *got_path, const char *want_path)
{
    struct prx_buf *got, *want;

    assert_int_equal(prx_file_get(got_path, 1 << 20, &got), 0);
    assert_int_equal(prx_file_get(want_path, 1 << 20, &want), 0);
    assert_int_equal(got->n_bytes, want->n_bytes);
    assert_memory_equal(got->bytes, want->bytes, want->n_bytes);
    prx_buf_unref(got);
    prx_buf_unref(want);
}

/*
 * Each shard, its .idx and its digest are those of one tar of just its samples,
 * which is never balanced.  Samples of a shard follow those of the one before.
 */
static void expect_shards(struct prx_scratch *scratch, const struct prx_index *index,
                          const size_t *sizes)
{
    const struct prx_sink_opts opts = {.no_sync = true};
    size_t first = 0;

    for (size_t i = 0; i < index->n_shards; i++) {
        char hash[PRX_HASH_HEX_BYTES], name[32];
        size_t end = first, n_samples = 0;

        while (n_samples < index->shards[i].n_samples)
            n_samples += sizes[end++] > 0;
        put_sizes(prx_scratch_path(scratch, "one/x.tar"), &opts, sizes, first, end,
                  NULL);
        snprintf(name, sizeof(name), "out/%zu.tar", i);
        expect_same_file(prx_scratch_path(scratch, name),
                         prx_scratch_path(scratch, "one/x.tar"));
        assert_int_equal(prx_hash_file(prx_scratch_path(scratch, name), hash), 0);
        assert_string_equal(index->shards[i].xxh128, hash);
        snprintf(name, sizeof(name), "out/%zu.idx", i);
        expect_same_file(prx_scratch_path(scratch, name),
                         prx_scratch_path(scratch, "one/x.idx"));
        prx_scratch_remove(prx_scratch_path(scratch, "one"));
        first = end;
    }
}

/* Drawn limits and sizes: within the limits, and half of them but for a sample. */
static void test_drawn(void **state)
{
    struct prx_scratch *scratch = *state;
    enum { N_TRIALS = 200,
           N_SAMPLES_MAX = 60 };
    size_t n_several = 0;

    for (uint64_t trial = 0; trial < N_TRIALS; trial++) {
        size_t sizes[N_SAMPLES_MAX] = {0}, n_largest = 0;
        struct prx_sink_opts opts = {.no_sync = true};
        struct prx_index index;
        struct prx_rng rng;

        prx_rng_init(&rng, 1, PRX_RNG_SHUFFLE, 0, trial);
        size_t n = prx_rng_below(&rng, N_SAMPLES_MAX);
        opts.n_shard_bytes_max = 12000 + prx_rng_below(&rng, 20000);
        if (prx_rng_below(&rng, 2))
            opts.n_shard_samples_max = 2 + prx_rng_below(&rng, 15);
        for (size_t i = 0; i < n; i++) {
            sizes[i] = prx_rng_below(&rng, 8) ? 1 + prx_rng_below(&rng, 3000) : 0;
            if (sizes[i] > n_largest)
                n_largest = sizes[i];
        }
        put_sizes(prx_scratch_path(scratch, "out/%d.tar"), &opts, sizes, 0, n, NULL);
        (void)cuts(scratch, &index);
        expect_shards(scratch, &index, sizes);
        double n_bytes_max = (double)opts.n_shard_bytes_max;
        double sample = (double)(n_largest + 1024) / n_bytes_max;
        if (opts.n_shard_samples_max && 1.0 / (double)opts.n_shard_samples_max > sample)
            sample = 1.0 / (double)opts.n_shard_samples_max;
        for (size_t i = 0; i < index.n_shards; i++) {
            const struct prx_shard *shard = &index.shards[i];
            double full = (double)shard->n_bytes / n_bytes_max;
            assert_true(shard->n_bytes <= opts.n_shard_bytes_max);
            if (opts.n_shard_samples_max) {
                assert_true(shard->n_samples <= opts.n_shard_samples_max);
                double by_samples =
                    (double)shard->n_samples / (double)opts.n_shard_samples_max;
                full = by_samples > full ? by_samples : full;
            }
            if (index.n_shards > 1)
                assert_true(full >= 0.5 - sample / 2);
        }
        n_several += index.n_shards > 1;
        prx_index_release(&index);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
    assert_true(n_several > N_TRIALS / 2);
}

/* Shards of more bytes than are copied at once. */
static void test_large(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_bytes_max = 8 << 20, .no_sync = true};
    size_t sizes[40];
    struct prx_index index;

    for (size_t i = 0; i < N_OF(sizes); i++)
        sizes[i] = 300000 + i;
    /* 300,032 and 512 bytes: 27 in 8 MiB, then 13, which are less than half. */
    put_sizes(prx_scratch_path(scratch, "out/%d.tar"), &opts, sizes, 0, 40, NULL);
    assert_string_equal(cuts(scratch, &index), "20 20 ");
    for (size_t i = 0; i < 2; i++) {
        char hash[PRX_HASH_HEX_BYTES];
        const char *path = prx_scratch_path(scratch, i ? "out/1.tar" : "out/0.tar");
        assert_int_equal(prx_hash_file(path, hash), 0);
        assert_string_equal(index.shards[i].xxh128, hash);
    }
    prx_index_release(&index);

    const char *word = prx_scratch_path(scratch, "out/index.json");
    struct prx_sample sample = {0}, want = {0};
    struct prx_source *source;
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    for (size_t i = 0; i < N_OF(sizes); i++) {
        assert_int_equal(prx_source_next(source, &sample), 1);
        assert_int_equal(prx_sample_load(&sample), 0);
        make(&want, i, sizes[i]);
        assert_string_equal(sample.key, want.key);
        assert_int_equal(sample.fields[0].n_bytes, sizes[i]);
        assert_memory_equal(sample.fields[0].bytes->bytes, want.fields[0].bytes->bytes,
                            sizes[i]);
    }
    assert_int_equal(prx_source_next(source, &sample), 0);
    prx_source_close(source);
    prx_sample_release(&sample);
    prx_sample_release(&want);
}

/* A name with a space spoils the .idx of the shard that it ends up in, no other. */
static void test_space_moves(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_samples_max = 4, .no_sync = true};
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    for (uint64_t i_space = 0; i_space < 5; i_space++) {
        const char *word = prx_scratch_path(scratch, "out/%d.tar");
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        for (uint64_t i = 0; i < 5; i++) {
            make(&sample, i, 100);
            if (i == i_space)
                assert_int_equal(prx_sample_set_key(&sample, "a b"), 0);
            assert_int_equal(prx_sink_put(sink, &sample), 0);
        }
        assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
        char *names = prx_scratch_names(prx_scratch_path(scratch, "out"));
        assert_string_equal(names, i_space < 3 ? "0.tar 1.idx 1.tar index.json "
                                               : "0.idx 0.tar 1.tar index.json ");
        free(names);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
    prx_sample_release(&sample);
}

/* One key at the end of a shard and at the head of the next: they stay apart. */
static void test_one_key_twice(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_samples_max = 4, .no_sync = true};
    struct prx_sample sample = {0};
    struct prx_index index;
    struct prx_sink *sink;
    uint64_t n_done;

    const char *word = prx_scratch_path(scratch, "out/%d.tar");
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    for (uint64_t i = 0; i < 5; i++) {
        make(&sample, i, 100);
        if (i == 4)
            assert_int_equal(prx_sample_set_key(&sample, "s0003"), 0);
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        assert_null(sample.reject_reason);
    }
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    assert_string_equal(cuts(scratch, &index), "4 1 ");
    prx_index_release(&index);
    prx_sample_release(&sample);
}

/* What the disk has lost since it was written is not passed on. */
static void test_read_back(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_samples_max = 4, .no_sync = true};
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    for (int row = 0; row < 4; row++) {
        char name[64];
        const char *word = prx_scratch_path(scratch, "out/%d.tar");
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        for (uint64_t i = 0; i < 5; i++) {
            make(&sample, i, 100);
            assert_int_equal(prx_sink_put(sink, &sample), 0);
        }
        snprintf(name, sizeof(name), "out/.%d.tar.tmp.%ld", row / 2, (long)getpid());
        const char *path = prx_scratch_path(scratch, name);
        int fd = open(path, O_WRONLY);
        assert_true(fd >= 0);
        if (row % 2)
            assert_int_equal(ftruncate(fd, 600), 0);
        else
            assert_int_equal(pwrite(fd, "?", 1, 520), 1);
        close(fd);
        assert_int_equal(prx_sink_finish(sink, NULL, NULL), PRX_EIO);
        assert_non_null(strstr(prx_err_message(), "does not read back"));
        assert_non_null(strstr(prx_err_message(), row / 2 ? "out/1.tar" : "out/0.tar"));
        assert_int_equal(access(prx_scratch_path(scratch, "out/0.tar"), F_OK), -1);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
    prx_sample_release(&sample);
}

/* A shard that has its name keeps its bytes; the two that are written have none. */
static void test_held_back(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_samples_max = 2, .no_sync = true};
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    const char *word = prx_scratch_path(scratch, "out/%d.tar");
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    for (uint64_t i = 0; i < 9; i++) {
        char name[32];
        make(&sample, i, 100);
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        for (uint64_t k = 0; k < 5; k++) {
            snprintf(name, sizeof(name), "out/%d.tar", (int)k);
            assert_int_equal(access(prx_scratch_path(scratch, name), F_OK) == 0,
                             2 * k + 4 <= i);
        }
    }
    prx_sink_abort(sink);
    char *names = prx_scratch_names(prx_scratch_path(scratch, "out"));
    assert_string_equal(names,
                        ".prx-journal 0.idx 0.tar 1.idx 1.tar 2.idx 2.tar ");
    free(names);
    prx_sample_release(&sample);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_cuts),
        TEST(test_drawn),
        TEST(test_large),
        TEST(test_space_moves),
        TEST(test_one_key_twice),
        TEST(test_read_back),
        TEST(test_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
