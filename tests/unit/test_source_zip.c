/* SPDX-License-Identifier: Apache-2.0 */
/* Zips as shards: samples, what is wrong with a member, what is wrong with a zip. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "libdata/rng.h"
#include "libdata/source.h"
#include "tests/lib/scratch.h"
#include "tests/lib/source_text.h"

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

struct file {
    const char *name;
    const char *bytes; /* NULL: a folder */
};

/* A zip of @files, @options as libarchive's writer has them, in memory. */
static struct prx_buf *make_zip(const struct file *files, size_t n_files,
                                const char *options)
{
    static char bytes[1 << 16];
    size_t n_bytes;
    struct archive *archive = archive_write_new();
    struct prx_buf *zip;

    archive_write_set_format_zip(archive);
    archive_write_set_passphrase(archive, "secret");
    assert_int_equal(archive_write_set_options(archive, options), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(archive, bytes, sizeof(bytes), &n_bytes),
                     ARCHIVE_OK);
    for (size_t i = 0; i < n_files; i++) {
        struct archive_entry *member = archive_entry_new();
        size_t n = files[i].bytes ? strlen(files[i].bytes) : 0;
        archive_entry_set_pathname(member, files[i].name);
        archive_entry_set_filetype(member, files[i].bytes ? AE_IFREG : AE_IFDIR);
        archive_entry_set_perm(member, 0644);
        archive_entry_set_size(member, (la_int64_t)n);
        assert_int_equal(archive_write_header(archive, member), ARCHIVE_OK);
        if (n > 0)
            assert_int_equal(archive_write_data(archive, files[i].bytes, n), n);
        archive_entry_free(member);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
    assert_int_equal(prx_buf_dup(bytes, n_bytes, &zip), 0);
    return zip;
}

static char *read_zip(struct prx_scratch *scratch, const struct prx_buf *zip,
                      const struct prx_source_opts *opts)
{
    const char *path = prx_scratch_put(scratch, "t.zip", zip->bytes, zip->n_bytes);
    struct prx_str cut = {0};

    assert_int_equal(prx_str_printf(&cut, "%s/", scratch->root), 0);
    char *text = source_text(path, opts, cut.bytes);
    prx_str_release(&cut);
    return text;
}

static void expect(struct prx_scratch *scratch, const struct prx_buf *zip,
                   const char *want)
{
    char *got = read_zip(scratch, zip, NULL);

    assert_string_equal(got, want);
    free(got);
}

/* The @n_th place, from 0, where @n_bytes at @bytes stand. */
static uint8_t *find(struct prx_buf *zip, const char *bytes, size_t n_bytes, int n_th)
{
    for (size_t i = 0; i + n_bytes <= zip->n_bytes; i++)
        if (memcmp(zip->bytes + i, bytes, n_bytes) == 0 && n_th-- == 0)
            return zip->bytes + i;
    fail_msg("%s is not there", bytes);
    return NULL;
}

static const struct file abc[] = {
    {"a.jpg", "aaaa"}, {"b.jpg", "bbbb"}, {"c.jpg", "cccc"}};

static void test_samples(void **state)
{
    static const struct file files[] = {
        {"d", NULL},
        {"d/a.jpg", "J"},
        {"d/a.TXT", "T"},
        {"d/._a.jpg", "mac"},
        {"__MACOSX/x.jpg", "X"},
        {"noext", "n"},
        {"\xc3\xa9/\xe6\x97\xa5.jpg", "U"},
        {"b.jpg", ""},
        {"d/a.json", "{}"},
        {"../up.jpg", "x"},
    };
    static const char *const options[] = {"zip:compression=store",
                                          "zip:compression=deflate"};

    for (size_t i = 0; i < N_OF(options); i++) {
        struct prx_buf *zip = make_zip(files, N_OF(files), options[i]);
        /* A key that comes again later is another sample, as in a tar. */
        expect(*state, zip,
               "d/a: jpg=J txt=T\n"
               "__MACOSX/x: jpg=X\n"
               "\xc3\xa9/\xe6\x97\xa5: jpg=U\n"
               "b: jpg=\n"
               "d/a: json={}\n"
               "../up! key \"../up\" has a component ..\n");
        prx_buf_unref(zip);
    }
}

static void test_empty(void **state)
{
    struct prx_buf *zip = make_zip(NULL, 0, "zip:compression=store");

    expect(*state, zip, "");
    prx_buf_unref(zip);
}

/* The others are none the worse for it. */
static void test_bad_members(void **state)
{
    struct prx_source_opts opts = {.n_member_bytes_max = 3};
    struct prx_buf *zip = make_zip(abc, 3, "zip:compression=store");

    char *got = read_zip(*state, zip, &opts);
    assert_string_equal(got, "a! t.zip: member a.jpg: larger than the limit\n"
                             "b! t.zip: member b.jpg: larger than the limit\n"
                             "c! t.zip: member c.jpg: larger than the limit\n");
    free(got);
    find(zip, "bbbb", 4, 0)[2]++;
    got = read_zip(*state, zip, NULL);
    assert_int_equal(
        strncmp(got, "a: jpg=aaaa\nb! t.zip: member b.jpg: ZIP bad CRC", 46), 0);
    assert_non_null(strstr(got, "\nc: jpg=cccc\n"));
    free(got);
    prx_buf_unref(zip);

    zip = make_zip(abc, 3, "zip:encryption=zipcrypt");
    expect(*state, zip,
           "a! t.zip: member a.jpg: encrypted\n"
           "b! t.zip: member b.jpg: encrypted\n"
           "c! t.zip: member c.jpg: encrypted\n");
    prx_buf_unref(zip);

    /* The method stands in the member's head and in the directory. */
    zip = make_zip(abc, 3, "zip:compression=store");
    find(zip, "b.jpg", 5, 0)[8 - 30] = 97;
    find(zip, "b.jpg", 5, 1)[10 - 46] = 97;
    got = read_zip(*state, zip, NULL);
    assert_non_null(strstr(got, "b! t.zip: member b.jpg: Unsupported ZIP compression"));
    assert_non_null(strstr(got, "\nc: jpg=cccc\n"));
    free(got);
    prx_buf_unref(zip);
}

/* A name that says it is UTF-8, and one that is not: never lost without a word. */
static void test_names(void **state)
{
    static const struct file files[] = {{"\xc3\xa9\xc3\xa9.jpg", "J"}, {"z.jpg", "Z"}};
    struct prx_buf *zip = make_zip(files, 2, "zip:compression=store");

    find(zip, files[0].name, 8, 0)[7 - 30] |= 8; /* bit 11 of the flags */
    find(zip, files[0].name, 8, 1)[9 - 46] |= 8;
    expect(*state, zip, "\xc3\xa9\xc3\xa9: jpg=J\nz: jpg=Z\n");
    for (int i = 0; i < 2; i++)
        memcpy(find(zip, files[0].name, 8, 0), "\xff\xfe\xff\xfe.jpg", 8);
    expect(*state, zip,
           "member-1! t.zip: member member-1: a name that cannot be read\nz: jpg=Z\n");
    prx_buf_unref(zip);
}

/* Without its end a zip has no directory: one reject, and no sample. */
static void test_torn(void **state)
{
    struct prx_buf *zip = make_zip(abc, 3, "zip:compression=deflate");

    for (size_t n = 4; n < zip->n_bytes; n += 3) {
        struct prx_buf *cut;
        assert_int_equal(prx_buf_dup(zip->bytes, n, &cut), 0);
        char *got = read_zip(*state, cut, NULL);
        if (strncmp(got, "t.zip! t.zip: ", 14) != 0 || strchr(got, '\n')[1])
            fail_msg("cut at %zu: %s", n, got);
        free(got);
        prx_buf_unref(cut);
    }
    prx_buf_unref(zip);
}

/* Its directory stands at the end, so it is not read from a pipe. */
static void test_pipe(void **state)
{
    struct prx_source_opts opts = {.may_run = true};
    struct prx_buf *zip = make_zip(abc, 3, "zip:compression=store");
    const char *path = prx_scratch_put(*state, "t.zip", zip->bytes, zip->n_bytes);
    struct prx_str word = {0};

    assert_int_equal(prx_str_printf(&word, "pipe:cat %s", path), 0);
    char *got = source_text(word.bytes, &opts, NULL);
    assert_non_null(strstr(got, "a zip, which is only read from a file"));
    free(got);
    prx_str_release(&word);
    prx_buf_unref(zip);
}

static void test_skip_list(void **state)
{
    struct prx_buf *zip = make_zip(abc, 3, "zip:compression=store");

    prx_scratch_puts(*state, "t.zip.skip", "b\tbecause\n");
    expect(*state, zip, "a: jpg=aaaa\nc: jpg=cccc\n");
    prx_buf_unref(zip);
}

/* Bytes turned at random: it ends, without a crash. */
static void test_mutations(void **state)
{
    struct prx_buf *zip = make_zip(abc, 3, "zip:compression=deflate");
    struct prx_rng rng;
    int n_rejects = 0;

    prx_rng_init(&rng, 5, PRX_RNG_TEST, 0, 0);
    for (int round = 0; round < 600; round++) {
        struct prx_buf *turned;
        assert_int_equal(prx_buf_dup(zip->bytes, zip->n_bytes, &turned), 0);
        for (int i = 0; i < 3; i++)
            turned->bytes[prx_rng_below(&rng, zip->n_bytes)] ^=
                (uint8_t)(1 << prx_rng_below(&rng, 8));
        char *got = read_zip(*state, turned, NULL);
        n_rejects += strchr(got, '!') != NULL;
        assert_null(strstr(got, "FAILED"));
        free(got);
        prx_buf_unref(turned);
    }
    assert_true(n_rejects > 100);
    prx_buf_unref(zip);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_samples),
        TEST(test_empty),
        TEST(test_bad_members),
        TEST(test_names),
        TEST(test_torn),
        TEST(test_pipe),
        TEST(test_skip_list),
        TEST(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
