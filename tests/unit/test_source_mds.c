/* SPDX-License-Identifier: Apache-2.0 */
/* MDS sources: what columns become, files, trees, ranks, skip lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "libdata/index.h"
#include "libdata/mds.h"
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

static void expect(struct prx_scratch *scratch, const char *word, const char *want)
{
    char *got = prx_tell_source(scratch, word, NULL);
    assert_string_equal(got, want);
    free(got);
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

/* --- columns --------------------------------------------------------------- */

static void test_columns(void **state)
{
    struct prx_mds_set set = {.columns = "caption=str caption_long=str f=float32@4 "
                                         "i8=int8@1 image=jpeg js=json key=str "
                                         "mask=png n=int@8 raw=bytes sd=str_decimal "
                                         "sf=str_float si=str_int text=str "
                                         "u=uint64@8 url=str"};
    const struct prx_mds_value values[] = {
        {"hello", 0},
        {"a long one", 0},
        {"\0\0\xc0\x3f", 4},
        {"\xfe", 1},
        {JPEG, 0},
        {"[1,null]", 0},
        {"d/k.1.jpg", 0},
        {"\x89PNG\r\n\x1a\nP", 0},
        {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
        {"zzz", 0},
        {"1.10", 0},
        {"nan", 0},
        {"123456789012345678901234567890", 0},
        {"other", 0},
        {"\xff\xff\xff\xff\xff\xff\xff\xff", 8},
        {"http://x", 0},
    };

    prx_mds_set_add(&set, values);
    prx_mds_set_build(&set);
    expect(*state, prx_mds_set_write(&set, *state, "d"),
           "d/k_1: jpg=" JPEG " json={\"captions\":{\"long\":\"a long one\"},\"f\":1.5,"
           "\"i8\":-2,\"js\":[1,null],\"n\":-1,\"sd\":\"1.10\",\"sf\":\"nan\","
           "\"si\":\"123456789012345678901234567890\",\"text\":\"other\","
           "\"u\":\"18446744073709551615\",\"url\":\"http://x\"}\n"
           " mask.png=\x89PNG\r\n\x1a\nP raw=zzz txt=hello\n");
    prx_mds_set_release(&set);
}

/* Pictures by their bytes; metadata as a base for the rest; the word in many forms. */
static void test_pictures_and_words(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_mds_set set = {.columns = "image=bytes json=json x=int16@2"};
    const struct prx_mds_value values[][3] = {
        {{"\x89PNG\r\n\x1a\nP", 0}, {"{\"a\": 1, \"x\": 2}", 0}, {"\1\0", 2}},
        {{"who knows", 0}, {"{}", 0}, {"\2\1", 2}},
        {{JPEG, 0}, {"[]", 0}, {"\2\1", 2}},
        {{JPEG, 0}, {"{", 0}, {"\2\1", 2}},
    };
    static const char want[] =
        "00000-000000: json={\"a\":1,\"x\":1}\n png=\x89PNG\r\n\x1a\nP\n"
        "00000-000001: image=who knows json={\"x\":258}\n\n"
        "00000-000002! d/shard.00000.mds: sample 2: column x: "
        "field json: not an object\n"
        "00000-000003! d/shard.00000.mds: sample 3: column x: "
        "field json, line 1: string or '}' expected near end of file\n";
    char word[512];

    for (size_t i = 0; i < N_OF(values); i++)
        prx_mds_set_add(&set, values[i]);
    prx_mds_set_build(&set);
    expect(scratch, prx_mds_set_write(&set, scratch, "d"), want);
    expect(scratch, prx_scratch_path(scratch, "d/index.json"), want);
    expect(scratch, prx_scratch_path(scratch, "d/"), want);
    snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "d//"));
    expect(scratch, word, want);
    prx_mds_set_release(&set);
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

/* --- files ----------------------------------------------------------------- */

static void write_gzip(const char *path, const char *bytes, size_t n_bytes)
{
    struct archive *archive = archive_write_new();
    struct archive_entry *member = archive_entry_new();

    assert_int_equal(archive_write_add_filter_gzip(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(archive), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    archive_entry_set_pathname(member, "shard");
    archive_entry_set_filetype(member, AE_IFREG);
    assert_int_equal(archive_write_header(archive, member), ARCHIVE_OK);
    assert_int_equal(archive_write_data(archive, bytes, n_bytes), n_bytes);
    archive_entry_free(member);
    assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
}

static void test_compressed(void **state)
{
    static const char want[] = "00000-000000: txt=a\n00000-000001: txt=bb\n"
                               "00000-000002: txt=ccc\n";
    struct prx_scratch *scratch = *state;
    struct prx_mds_set set = make_captions();
    struct stat st;

    set.compression = "gz";
    prx_mds_set_build(&set);
    prx_mds_set_write(&set, scratch, "d");
    char *zip = strdup(prx_scratch_path(scratch, "d/shard.00000.mds.gz"));
    assert_non_null(zip);
    write_gzip(zip, set.shard.bytes, set.shard.n_bytes);
    expect(scratch, prx_scratch_path(scratch, "d"), want);
    prx_scratch_puts(scratch, "d/shard.00000.mds.skip", "00000-000001\tdull\n");
    expect(scratch, prx_scratch_path(scratch, "d"),
           "00000-000000: txt=a\n00000-000002: txt=ccc\n");
    assert_int_equal(unlink(prx_scratch_path(scratch, "d/shard.00000.mds.skip")), 0);

    /* More comes out than the index says; then too little. */
    set.index_bytes = set.shard.n_bytes - 1;
    expect_part(scratch, &set, "gz: holds more than");
    set.index_bytes = 0;
    assert_int_equal(stat(zip, &st), 0);
    assert_int_equal(truncate(zip, st.st_size / 2), 0);
    expect_part(scratch, &set, "; its 3 samples are lost\n");
    assert_int_equal(truncate(zip, 0), 0);
    expect_part(scratch, &set, "; its 3 samples are lost\n");

    free(zip);

    set.compression = "br:7";
    prx_scratch_puts(scratch, "d/shard.00000.mds.br:7", "anything");
    expect_part(
        scratch, &set,
        "compression br:7 is not read, but zstd, gz, bz2; its 3 samples are lost");

    /* The raw file is read where it is there too. */
    prx_scratch_put(scratch, "d/shard.00000.mds", set.shard.bytes, set.shard.n_bytes);
    set.compression = "gz";
    prx_mds_set_build(&set);
    prx_scratch_put(scratch, "d/shard.00000.mds", set.shard.bytes, set.shard.n_bytes);
    expect(scratch, prx_mds_set_write(&set, scratch, "d"), want);
    prx_mds_set_release(&set);
}

/* --- trees, ranks, skip lists ---------------------------------------------- */

static void test_trees(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_mds_set set = {.columns = "text=str"};
    const struct prx_mds_value values[] = {{"t", 0}};
    static const char tree[] = "big/0.500/00000-000000: txt=t\n"
                               "big/1.000/00000-000000: txt=t\n"
                               "small/1.000/00000-000000: txt=t\n";
    struct prx_source *source;
    char word[512];

    prx_mds_set_add(&set, values);
    prx_mds_set_build(&set);
    prx_mds_set_write(&set, scratch, "t/small/1.000");
    prx_mds_set_write(&set, scratch, "t/big/1.000");
    prx_mds_set_write(&set, scratch, "t/big/0.500");
    prx_scratch_puts(scratch, "t/README", "which?");
    prx_scratch_puts(scratch, "t/.hidden/x", "");
    expect(scratch, prx_scratch_path(scratch, "t"), tree);
    expect(scratch, prx_scratch_path(scratch, "t//"), tree);
    expect(scratch, prx_scratch_path(scratch, "t/big"),
           "0.500/00000-000000: txt=t\n"
           "1.000/00000-000000: txt=t\n");
    expect(scratch, prx_scratch_path(scratch, "t/b*/*/index.json"),
           "00000-000000: txt=t\n00000-000000: txt=t\n");

    /* Not where a folder in it is something else, or a picture lies there. */
    prx_scratch_puts(scratch, "t/photos/a.jpg", "J");
    expect(scratch, prx_scratch_path(scratch, "t"), "photos/a: jpg=J\n");
    snprintf(word, sizeof(word), "mds:%s", prx_scratch_path(scratch, "t"));
    const char *words[] = {word};
    assert_int_equal(prx_source_open(words, 1, NULL, &source), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "no index.json of MDS shards"));
    prx_scratch_remove(prx_scratch_path(scratch, "t/photos"));
    prx_scratch_puts(scratch, "t/big/b.png", "P");
    expect(scratch, prx_scratch_path(scratch, "t"), "big/b: png=P\n");

    /* Merged: one index, and shards in the folders below it. */
    set.basename = "0.500/shard.00007.mds";
    prx_mds_set_write(&set, scratch, "m");
    expect(scratch, prx_scratch_path(scratch, "m"), "0.500/00007-000000: txt=t\n");
    set.basename = "train-3.x.mds";
    prx_mds_set_write(&set, scratch, "o");
    expect(scratch, prx_scratch_path(scratch, "o"), "train-3_x-000000: txt=t\n");
    prx_mds_set_release(&set);
}

static void test_ranks(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_mds_set set = make_captions();

    prx_mds_set_write(&set, scratch, "t/a");
    prx_mds_set_write(&set, scratch, "t/b");
    for (int world = 2; world <= 3; world++) {
        for (int rank = 0; rank < world; rank++) {
            const struct prx_source_opts opts = {.rank = rank, .world = world};
            char want[16];
            char *got = prx_tell_source(scratch, prx_scratch_path(scratch, "t"), &opts);
            /* Two shards: whole ones for two ranks, each third sample for three. */
            snprintf(want, sizeof(want), "%c/00000-%06d", 'a' + (world == 2 ? rank : 0),
                     world == 2 ? 0 : rank);
            assert_memory_equal(got, want, strlen(want));
            int n_lines = 0;
            for (const char *p = got; *p; p++)
                n_lines += *p == '\n';
            assert_int_equal(n_lines, 6 / world);
            free(got);
        }
    }
    prx_mds_set_release(&set);
}

static void test_skip_plan_and_has(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_mds_set set = make_captions();
    struct prx_sample sample = {0};
    struct prx_str plan = {0};
    struct prx_source *source;

    const char *word = prx_mds_set_write(&set, scratch, "d");
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    assert_int_equal(prx_source_total(source), 3);
    assert_int_equal(prx_source_plan(source, &plan), 0);
    size_t n_plan = plan.n_bytes;
    assert_non_null(strstr(plan.bytes, "mds "));
    assert_true(prx_source_has(source, prx_scratch_path(scratch, "d")));
    assert_true(prx_source_has(source, prx_scratch_path(scratch, "d/shard.00000.mds")));
    assert_false(prx_source_has(source, prx_scratch_puts(scratch, "x/y", "")));
    prx_source_close(source);

    prx_scratch_puts(scratch, "d/shard.00000.mds.skip", "00000-000001\tdull\n");
    word = prx_scratch_path(scratch, "d");
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    prx_str_reset(&plan);
    assert_int_equal(prx_source_plan(source, &plan), 0);
    assert_true(plan.n_bytes > n_plan);
    for (int i = 0; i < 2; i++)
        assert_int_equal(prx_source_next(source, &sample), 1);
    assert_string_equal(sample.key, "00000-000002");
    assert_int_equal(sample.serial, 1);
    assert_int_equal(prx_source_next(source, &sample), 0);
    assert_int_equal(prx_source_hidden(source), 1);
    prx_source_close(source);
    prx_scratch_puts(scratch, "d/shard.00000.mds.skip", "damaged");
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    assert_int_equal(prx_source_next(source, &sample), PRX_ECORRUPT);
    prx_source_close(source);
    prx_sample_release(&sample);
    prx_str_release(&plan);
    prx_mds_set_release(&set);
}

/* The index is one like any other, to those who only want files and hashes. */
static void test_index(void **state)
{
    struct prx_mds_set set = make_captions();
    struct prx_index index = {0};

    prx_mds_set_write(&set, *state, "d");
    const char *path = prx_scratch_path(*state, "d/index.json");
    assert_true(prx_mds_index_is(path));
    assert_int_equal(prx_index_read(path, &index), 0);
    assert_int_equal(index.n_shards, 1);
    assert_string_equal(index.shards[0].name, "shard.00000.mds");
    assert_int_equal(index.shards[0].n_bytes, set.shard.n_bytes);
    assert_int_equal(index.n_samples, 3);
    assert_false(index.is_ours);
    prx_index_release(&index);
    assert_false(prx_mds_index_is(
        prx_scratch_puts(*state, "x.json", "{\"__kind__\": 1, \"shardlist\": []}")));
    assert_false(
        prx_mds_index_is(prx_scratch_puts(*state, "x.json", "{\"version\": 2}")));
    assert_false(prx_mds_index_is(prx_scratch_puts(*state, "x.json", "")));
    assert_false(prx_mds_index_is(prx_scratch_path(*state, "nowhere")));
    prx_mds_set_release(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_columns, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_pictures_and_words, open_scratch,
                                        close_scratch),
        cmocka_unit_test_setup_teardown(test_compressed, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_trees, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_ranks, open_scratch, close_scratch),
        cmocka_unit_test_setup_teardown(test_skip_plan_and_has, open_scratch,
                                        close_scratch),
        cmocka_unit_test_setup_teardown(test_index, open_scratch, close_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
