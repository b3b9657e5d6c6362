/* SPDX-License-Identifier: Apache-2.0 */
/* MDS sinks: every field comes back to the byte, whatever the others have; where shards
 * are cut; resuming. */
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
#include "libdata/mds.h"
#include "libdata/npy.h"
#include "libdata/sink.h"
#include "tests/lib/made.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

#define JPEG "\xff\xd8\xff\xe0J"
#define PNG  "\x89PNG\r\n\x1a\nP"
#define WEBP "RIFF\4\0\0\0WEBPVP8 "

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

static void put(struct prx_sample *sample, const char *name, const void *bytes,
                size_t n_bytes)
{
    struct prx_buf *buf;

    assert_int_equal(prx_buf_dup(bytes, n_bytes, &buf), 0);
    assert_int_equal(prx_sample_put(sample, name, buf), 0);
}

static void puts_field(struct prx_sample *sample, const char *name, const char *text)
{
    put(sample, name, text, strlen(text));
}

static void put_array(struct prx_sample *sample, const char *name,
                      enum prx_npy_type type, int n_dims, int64_t dim)
{
    static const uint8_t values[4096] = {1, 2, 3, 250};
    const int64_t dims[] = {dim, 2, 1};
    struct prx_buf *buf;

    assert_int_equal(prx_npy_format(type, n_dims, dims, values, &buf), 0);
    assert_int_equal(prx_sample_put(sample, name, buf), 0);
}

/* Samples of every kind of field, absence and oddity; 0 behind the last. */
static int make_odd(struct prx_sample *sample, uint64_t serial)
{
    char key[64];

    prx_sample_reset(sample);
    snprintf(key, sizeof(key), "d.e/k%d", (int)serial);
    assert_int_equal(prx_sample_set_key(sample, key), 0);
    sample->serial = serial;
    switch (serial) {
    case 0:
        puts_field(sample, "jpg", JPEG);
        puts_field(sample, "txt", "caf\xc3\xa9");
        puts_field(sample, "json", "{\"a\":1}\n");
        put_array(sample, "latent.npy", PRX_NPY_F16, 3, 4);
        return 1;
    case 1:
        puts_field(sample, "png", PNG);
        puts_field(sample, "jpg", JPEG);
        puts_field(sample, "txt", "");
        put_array(sample, "latent.npy", PRX_NPY_F16, 1, 300);
        return 1;
    case 2:
        put(sample, "webp", WEBP, sizeof(WEBP) - 1);
        puts_field(sample, "long.txt", "more");
        puts_field(sample, "", "no name");
        return 1;
    case 3: /* from here on: no picture, and what breaks the encodings */
        puts_field(sample, "txt", "\xff not UTF-8");
        put_array(sample, "latent.npy", PRX_NPY_F32, 2, 3);
        return 1;
    case 4:
        puts_field(sample, "json", "{ broken");
        put_array(sample, "a.npy", PRX_NPY_I64, 2, 3);
        put_array(sample, "b.npy", PRX_NPY_U8, 0, 0);
        put_array(sample, "c.npy", PRX_NPY_I32, 2, 0);
        puts_field(sample, "d.npy", "no array");
        return 1;
    case 5:
        put(sample, "bin", "\0\1\0\2", 4);
        puts_field(sample, "mask.png", PNG);
        puts_field(sample, "extra.json", "[1]");
        return 1;
    default:
        return 0;
    }
}

static int write_odd(const char *word, const struct prx_sink_opts *opts)
{
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    PRX_TRY(prx_sink_open(word, opts, &n_done, &sink));
    for (uint64_t i = n_done; make_odd(&sample, i); i++) {
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        assert_null(sample.reject_reason);
    }
    prx_sample_release(&sample);
    return prx_sink_finish(sink, NULL, NULL);
}

static void expect_odd(const char *word)
{
    struct prx_sample got = {0}, want = {0};
    struct prx_source *source;

    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    for (uint64_t i = 0; make_odd(&want, i); i++) {
        assert_int_equal(prx_source_next(source, &got), 1);
        if (got.reject_reason)
            fail_msg("%s", got.reject_reason);
        assert_string_equal(got.key, want.key);
        assert_int_equal(got.n_fields, want.n_fields);
        assert_int_equal(prx_sample_load(&got), 0);
        for (size_t j = 0; j < want.n_fields; j++) {
            assert_string_equal(got.fields[j].name, want.fields[j].name);
            assert_int_equal(got.fields[j].n_bytes, want.fields[j].n_bytes);
            if (want.fields[j].n_bytes > 0)
                assert_memory_equal(got.fields[j].bytes->bytes,
                                    want.fields[j].bytes->bytes,
                                    want.fields[j].n_bytes);
        }
    }
    assert_int_equal(prx_source_next(source, &got), 0);
    prx_sample_release(&got);
    prx_sample_release(&want);
    prx_source_close(source);
}

/* "name=encoding ..." of shard @i in the index below @folder; the caller frees it. */
static char *tell_columns(struct prx_scratch *scratch, const char *folder, size_t i)
{
    struct prx_mds_columns columns = {0};
    struct prx_str out = {0};
    char path[64];
    json_t *root, *shards;

    snprintf(path, sizeof(path), "%s/index.json", folder);
    assert_int_equal(
        prx_mds_index_read(prx_scratch_path(scratch, path), &root, &shards), 0);
    assert_int_equal(prx_mds_columns_parse(json_array_get(shards, i), &columns), 0);
    for (size_t j = 0; j < columns.n_columns; j++)
        assert_int_equal(prx_str_printf(&out, "%s=%s ", columns.columns[j].name,
                                        columns.columns[j].encoding),
                         0);
    prx_mds_columns_release(&columns);
    json_decref(root);
    return out.bytes;
}

static void expect_columns(struct prx_scratch *scratch, const char *folder, size_t i,
                           const char *want)
{
    char *got = tell_columns(scratch, folder, i);
    assert_string_equal(got, want);
    free(got);
}

static void test_round_trip(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true, .tool = "test 1"};
    char word[512];

    for (int n = 0; n <= 6; n++) {
        snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "m"));
        opts.n_shard_samples_max = (uint64_t)n;
        assert_int_equal(write_odd(word, &opts), 0);
        expect_odd(word);
        if (n == 0)
            expect_columns(
                scratch, "m", 0,
                "=bytes __fields__=str __key__=str a.npy=ndarray:int64 "
                "b.npy=bytes bin=bytes c.npy=bytes caption=bytes d.npy=bytes "
                "extra.json=json image=bytes json=bytes latent.npy=bytes "
                "long.txt=str mask.png=bytes png=bytes ");
        if (n == 1)
            expect_columns(scratch, "m", 1,
                           "__fields__=str __key__=str caption=str image=jpeg "
                           "latent.npy=ndarray:float16 png=png ");
        if (n == 2) {
            expect_columns(
                scratch, "m", 0,
                "__fields__=str __key__=str caption=str image=jpeg json=json "
                "latent.npy=ndarray:float16 png=bytes ");
            expect_columns(scratch, "m", 2,
                           "__fields__=str __key__=str a.npy=ndarray:int64 b.npy=bytes "
                           "bin=bytes c.npy=bytes d.npy=bytes extra.json=json "
                           "json=bytes mask.png=bytes ");
        }
        prx_scratch_remove(prx_scratch_path(scratch, "m"));
    }
}

static void test_shards(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_bytes_max = 4096, .no_sync = true};
    struct prx_sink_totals totals;
    struct prx_index index = {0};
    struct stat st;
    char word[512], name[64], hash[PRX_HASH_HEX_BYTES];

    snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "m/"));
    assert_int_equal(prx_made_write(word, &opts, 20, &totals), 0);
    assert_int_equal(totals.n_samples, 18);
    assert_int_equal(totals.n_rejected, 2);
    const char *path = prx_scratch_path(scratch, "m/index.json");
    assert_true(prx_mds_index_is(path));
    assert_int_equal(prx_index_read(path, &index), 0);
    assert_true(index.is_ours);
    assert_int_equal(index.n_shards, totals.n_shards);
    assert_int_equal(index.n_samples, 18);
    assert_int_equal(index.n_rejected, 2);
    assert_true(index.n_shards > 3 && index.n_shards < 18);
    for (size_t i = 0; i < index.n_shards; i++) {
        snprintf(name, sizeof(name), "m/shard.%05zu.mds", i);
        path = prx_scratch_path(scratch, name);
        assert_string_equal(index.shards[i].name, name + 2);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(index.shards[i].n_bytes, st.st_size);
        assert_true(st.st_size <= 4096);
        assert_int_equal(prx_hash_file(path, hash), 0);
        assert_string_equal(index.shards[i].xxh128, hash);
    }
    prx_index_release(&index);

    /* A sample above the limit has a shard of its own; nothing gives an empty index. */
    opts.n_shard_bytes_max = 1;
    opts.exists = PRX_SINK_OVERWRITE;
    assert_int_equal(prx_made_write(word, &opts, 3, &totals), 0);
    assert_int_equal(totals.n_shards, 3);
    assert_int_equal(prx_made_write(word, &opts, 0, &totals), 0);
    char *names = prx_scratch_names(prx_scratch_path(scratch, "m"));
    assert_string_equal(names, "index.json ");
    free(names);
}

static void test_refused(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;
    char word[512];

    assert_int_equal(prx_sink_open("mds:", &opts, &n_done, &sink), PRX_EINVAL);
    snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "m"));
    opts.n_shard_bytes_max = (uint64_t)1 << 32;
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EINVAL);
    opts.n_shard_bytes_max = 0;
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    static const char *const taken[] = {"image", "caption", "__key__", "__fields__"};
    for (size_t i = 0; i < N_OF(taken); i++) {
        make_odd(&sample, 0);
        sample.serial = i;
        puts_field(&sample, taken[i], "x");
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        assert_non_null(strstr(sample.reject_reason, taken[i]));
    }
    for (int i = 0; i < 2; i++) {
        make_odd(&sample, 0);
        sample.serial = (uint64_t)i + N_OF(taken);
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        assert_int_equal(sample.reject_reason != NULL, i == 1);
    }
    struct prx_sink *second;
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &second), PRX_EEXIST);
    prx_sample_release(&sample);
    struct prx_sink_totals totals;
    assert_int_equal(prx_sink_finish(sink, NULL, &totals), 0);
    assert_int_equal(totals.n_samples, 1);
    assert_int_equal(totals.n_rejected, 5);
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EEXIST);

    /* Another's index, and shards that none names, are not overwritten. */
    opts.exists = PRX_SINK_OVERWRITE;
    prx_scratch_puts(scratch, "m/shard.00007.mds", "mine");
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "shard.00007.mds"));
    prx_scratch_puts(scratch, "m/index.json", "{\"shards\": [], \"version\": 2}");
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "not written by this suite"));
}

/* Stopped behind any sample and resumed, the tree is the same. */
static void test_resumed(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {
        .n_shard_samples_max = 4, .no_sync = true, .plan = "p"};
    struct prx_sink *sink;
    uint64_t n_done;
    char word[512];

    snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "straight"));
    assert_int_equal(prx_made_write(word, &opts, 20, NULL), 0);
    char *want = prx_scratch_list(prx_scratch_path(scratch, "straight"));
    snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "m"));
    for (uint64_t n_first = 0; n_first <= 20; n_first++) {
        opts.exists = PRX_SINK_RESUME;
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        assert_int_equal(n_done, 0);
        assert_int_equal(prx_made_put(sink, 0, n_first), 0);
        prx_sink_abort(sink);
        assert_int_equal(prx_made_write(word, &opts, 20, NULL), 0);
        char *got = prx_scratch_list(prx_scratch_path(scratch, "m"));
        assert_string_equal(got, want);
        free(got);
        /* Once more is nothing more; another plan is refused. */
        assert_int_equal(prx_made_write(word, &opts, 20, NULL), 0);
        opts.n_shard_samples_max = 5;
        assert_int_equal(prx_made_write(word, &opts, 20, NULL), PRX_EEXIST);
        opts.n_shard_samples_max = 4;
        prx_scratch_remove(prx_scratch_path(scratch, "m"));
    }
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_shards, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_refused, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_resumed, open_scratch, close_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
