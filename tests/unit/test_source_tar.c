/* SPDX-License-Identifier: Apache-2.0 */
/* Tar sources: samples, hostile members, tears at every block, compression. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "libdata/source.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tell.h"

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

static void add(struct prx_str *tar, const char *name, const char *text)
{
    prx_tar_add(tar, name, text, strlen(text), NULL);
}

/* Write @tar as t.tar, read it, compare, empty it. */
static void expect(struct prx_scratch *scratch, struct prx_str *tar, const char *want)
{
    char *got = prx_tell_source(
        scratch, prx_scratch_put(scratch, "t.tar", tar->bytes, tar->n_bytes), NULL);
    assert_string_equal(got, want);
    free(got);
    prx_str_reset(tar);
}

static void test_samples(void **state)
{
    struct prx_str tar = {0};

    add(&tar, "a.jpg", "J");
    add(&tar, "a.txt", "T");
    add(&tar, "./b.JPG", "K");
    add(&tar, "b.Long.TXT", "");
    add(&tar, "d/", "");
    add(&tar, "d/x.jpg", "M");
    add(&tar, "d/._x.jpg", "mac");
    add(&tar, "d/.hidden", "h");
    add(&tar, "__meta__", "m");
    add(&tar, "__a__/b.txt", "m");
    add(&tar, "noext", "n");
    add(&tar, "d/x.json", "{}");
    add(&tar, "a.jpg", "again");
    prx_tar_end(&tar);
    expect(*state, &tar,
           "a: jpg=J txt=T\n"
           "b: jpg=K long.txt=\n"
           "d/x: jpg=M json={}\n"
           "a: jpg=again\n");
    prx_str_release(&tar);
}

static void test_hostile_members(void **state)
{
    static const struct prx_tar_lie symlink_lie = {.typeflag = '2',
                                                   .linkname = "/etc/passwd"};
    static const struct prx_tar_lie hardlink_lie = {.typeflag = '1',
                                                    .linkname = "a.jpg"};
    static const struct prx_tar_lie device_lie = {.typeflag = '3'};
    static const struct prx_tar_lie fifo_lie = {.typeflag = '6'};
    struct prx_str tar = {0};

    add(&tar, "a.jpg", "J");
    add(&tar, "../up.jpg", "x");
    add(&tar, "../up.txt", "x");
    add(&tar, "/abs.jpg", "x");
    add(&tar, "c/../../e.jpg", "x");
    add(&tar, "d//e.jpg", "x");
    add(&tar, "f\x01.jpg", "x");
    add(&tar, "g\xff.jpg", "x");
    prx_tar_add(&tar, "h.jpg", "", 0, &symlink_lie);
    add(&tar, "h.txt", "x");
    prx_tar_add(&tar, "i.jpg", "", 0, &hardlink_lie);
    prx_tar_add(&tar, "j.jpg", "", 0, &device_lie);
    prx_tar_add(&tar, "pipe", "", 0, &fifo_lie);
    add(&tar, "k.JPG", "1");
    add(&tar, "k.jpg", "2");
    add(&tar, "l.\xff", "x");
    add(&tar, "z.jpg", "Z");
    prx_tar_end(&tar);
    expect(*state, &tar,
           "a: jpg=J\n"
           "../up! key \"../up\" has a component ..\n"
           "/abs! key \"/abs\" is an absolute path\n"
           "c/../../e! key \"c/../../e\" has a component ..\n"
           "d//e! key \"d//e\" has an empty component\n"
           "f\\x01! key \"f\\x01\" has a control character\n"
           "g\\xff! key \"g\\xff\" is not UTF-8\n"
           "h! t.tar: member h.jpg: a symbolic link\n"
           "i! t.tar: member i.jpg: a hard link\n"
           "j! t.tar: member j.jpg: not a regular file\n"
           "pipe! t.tar: member pipe: not a regular file\n"
           "k! two files for field jpg of one sample; the second is k.jpg\n"
           "l! field name \"\\xff\" is not UTF-8\n"
           "z: jpg=Z\n");
    prx_str_release(&tar);
}

/* A size beyond the file, beyond the limit, negative, or no number. */
static void test_lying_sizes(void **state)
{
    static const struct {
        const char *text;
        int n_text;
        const char *want;
    } rows[] = {
        {"00000010000", 12,
         "a: jpg=J\nb! t.tar: torn at byte 2560: "
         "the end of the data is missing\n"},
        {"77777777777", 12,
         "a: jpg=J\nb! t.tar: member b.jpg: larger than the limit\n"
         "t.tar! t.tar: torn at byte 2560: the end of the data is missing\n"},
        {"\x80\0\0\0\0\0\x10\0\0\0\0\0", 12,
         "a: jpg=J\nb! t.tar: member b.jpg: larger than the limit\n"
         "t.tar! t.tar: torn at byte 2560: the end of the data is missing\n"},
        {"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12, NULL},
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, NULL},
    };
    struct prx_str tar = {0};

    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_tar_lie lie = {.size_text = rows[i].text,
                                  .size_bytes = rows[i].n_text};
        add(&tar, "a.jpg", "J");
        prx_tar_add(&tar, "b.jpg", "", 0, &lie);
        prx_tar_end(&tar);
        if (rows[i].want) {
            expect(*state, &tar, rows[i].want);
            continue;
        }
        char *got = prx_tell_source(
            *state, prx_scratch_put(*state, "t.tar", tar.bytes, tar.n_bytes), NULL);
        assert_non_null(strstr(got, "! t.tar: torn at byte"));
        free(got);
        prx_str_reset(&tar);
    }
    prx_str_release(&tar);
}

static void test_bad_checksum(void **state)
{
    static const struct prx_tar_lie lie = {.is_checksum_wrong = 1};
    struct prx_str tar = {0};

    add(&tar, "a.jpg", "J");
    add(&tar, "b.jpg", "K");
    prx_tar_add(&tar, "b.txt", "T", 1, &lie);
    add(&tar, "c.jpg", "L");
    prx_tar_end(&tar);
    char *got = prx_tell_source(
        *state, prx_scratch_put(*state, "t.tar", tar.bytes, tar.n_bytes), NULL);
    assert_int_equal(strncmp(got, "a: jpg=J\nb! t.tar: torn at byte ", 32), 0);
    assert_null(strstr(got, "c:"));
    free(got);
    prx_str_release(&tar);
}

/* Names as the path of a shard stand in for a key. */
static void test_empty_and_alien(void **state)
{
    static const struct {
        const char *bytes;
        size_t n_bytes;
        const char *want;
    } rows[] = {
        {"", 0, "! t.tar: empty, not a tar\n"},
        {"hello", 5, "! t.tar: not a tar\n"},
        {"\xff\xd8\xff\xe0 not a tar", 14, "! t.tar: not a tar\n"},
    };
    static const char zeros[10240];

    for (size_t i = 0; i < N_OF(rows); i++) {
        char *got = prx_tell_source(
            *state, prx_scratch_put(*state, "t.tar", rows[i].bytes, rows[i].n_bytes),
            NULL);
        assert_string_equal(strstr(got, "! "), rows[i].want);
        free(got);
    }
    for (size_t n = 512; n <= sizeof(zeros); n += 512) {
        char *got =
            prx_tell_source(*state, prx_scratch_put(*state, "t.tar", zeros, n), NULL);
        assert_string_equal(got, "");
        free(got);
    }
}

/* Every sample before the tear, one reject, nothing good after it. */
static void expect_torn(struct prx_scratch *scratch, const char *path, size_t n_kept,
                        size_t n_whole_samples)
{
    char *got = prx_tell_source(scratch, path, NULL);
    struct prx_str want = {0};

    for (size_t i = 0; i < n_whole_samples; i++)
        assert_int_equal(prx_str_printf(&want, "%zu: jpg=J%zu txt=T%zu\n", i, i, i), 0);
    if (n_whole_samples > 0 &&
        (strlen(got) < want.n_bytes || memcmp(got, want.bytes, want.n_bytes) != 0))
        fail_msg("cut at %zu: %s", n_kept, got);
    const char *rest = got + want.n_bytes;
    const char *reject = strchr(rest, '!');
    if (!reject || strchr(reject, '\n')[1] != '\0' ||
        strchr(rest, '!') > strchr(rest, '\n'))
        fail_msg("cut at %zu: %s", n_kept, got);
    if (n_kept > 0 && !strstr(reject, "torn at byte") && !strstr(reject, "not a tar"))
        fail_msg("cut at %zu: %s", n_kept, got);
    free(got);
    prx_str_release(&want);
}

static void test_torn_everywhere(void **state)
{
    struct prx_str tar = {0};
    size_t n_samples = 4, n_sample_bytes = 4 * 512;

    for (size_t i = 0; i < n_samples; i++) {
        char name[16], text[16];
        snprintf(name, sizeof(name), "%zu.jpg", i);
        snprintf(text, sizeof(text), "J%zu", i);
        add(&tar, name, text);
        snprintf(name, sizeof(name), "%zu.txt", i);
        text[0] = 'T';
        add(&tar, name, text);
    }
    prx_tar_end(&tar);
    size_t n_members = n_samples * n_sample_bytes;
    for (size_t n = 0; n <= n_members; n += n % 512 == 0 ? 77 : 512 - n % 512) {
        const char *path = prx_scratch_put(*state, "t.tar", tar.bytes, n);
        /* The sample in progress cannot be told whole: it is rejected. */
        size_t n_begun = (n + n_sample_bytes - 1) / n_sample_bytes;
        /* Less than a header after a whole sample is a tear before a new one. */
        size_t n_whole = n_begun ? n_begun - 1 : 0;
        if (n > 0 && n % n_sample_bytes > 0 && n % n_sample_bytes < 512 && n_whole > 0)
            n_whole--;
        expect_torn(*state, path, n, n_whole);
    }
    /* One zero block is end enough. */
    char *got = prx_tell_source(
        *state, prx_scratch_put(*state, "t.tar", tar.bytes, n_members + 512), NULL);
    assert_null(strchr(got, '!'));
    free(got);
    prx_str_release(&tar);
}

/* Names of members do not pass for the magic of a compression. */
static void test_alike(void **state)
{
    static const char *const names[] = {"BZh91.jpg", "BZhang.jpg", "PK.jpg"};
    struct prx_str tar = {0};

    for (size_t i = 0; i < N_OF(names); i++) {
        char want[64];
        snprintf(want, sizeof(want), "%.*s: jpg=J\n", (int)strlen(names[i]) - 4,
                 names[i]);
        add(&tar, names[i], "J");
        prx_tar_end(&tar);
        expect(*state, &tar, want);
    }
    prx_str_release(&tar);
}

static void test_tars_end_to_end(void **state)
{
    struct prx_str tar = {0};

    add(&tar, "a.jpg", "1");
    prx_tar_end(&tar);
    prx_tar_end(&tar);
    add(&tar, "b.jpg", "2");
    prx_tar_end(&tar);
    expect(*state, &tar, "a: jpg=1\nb: jpg=2\n");
    prx_str_release(&tar);
}

static void write_tar(const char *path, const char *filter, const char *const *names,
                      size_t n_names)
{
    struct archive *archive = archive_write_new();

    archive_write_set_format_pax_restricted(archive);
    if (filter)
        assert_int_equal(archive_write_add_filter_by_name(archive, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    for (size_t i = 0; i < n_names; i++) {
        struct archive_entry *member = archive_entry_new();
        archive_entry_set_pathname(member, names[i]);
        archive_entry_set_filetype(member, AE_IFREG);
        archive_entry_set_perm(member, 0644);
        archive_entry_set_size(member, 4);
        archive_write_header(archive, member);
        assert_int_equal(archive_write_data(archive, "data", 4), 4);
        archive_entry_free(member);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
}

static void test_compressed(void **state)
{
    static const char *const names[] = {"a.jpg", "a.txt", "b.jpg", "b.txt"};

    static const struct {
        const char *filter, *name;
    } rows[] = {
        {"gzip", "t.tgz"},
        {"gzip", "t.tar.gz"},
        {"zstd", "t.tar.zst"},
        {"xz", "t.tar.xz"},
        {"bzip2", "t.tar.bz2"},
        {"lz4", "t.tar.lz4"},
        {"xz", "misnamed.tar"},
    };

    for (size_t i = 0; i < N_OF(rows); i++) {
        const char *name = rows[i].name;
        const char *path = prx_scratch_path(*state, name);
        struct prx_buf *whole;
        write_tar(path, rows[i].filter, names, 4);
        char *got = prx_tell_source(*state, path, NULL);
        assert_string_equal(got, "a: jpg=data txt=data\nb: jpg=data txt=data\n");
        free(got);
        int fd = open(path, O_RDONLY);
        assert_true(fd >= 0);
        assert_int_equal(prx_buf_new((size_t)lseek(fd, 0, SEEK_END), &whole), 0);
        assert_int_equal(pread(fd, whole->bytes, whole->n_bytes, 0), whole->n_bytes);
        close(fd);
        /* Cut: never both samples without a complaint. */
        for (size_t n = 0; n + 1 < whole->n_bytes; n += 7) {
            const char *cut = prx_scratch_put(*state, name, whole->bytes, n);
            got = prx_tell_source(*state, cut, NULL);
            assert_non_null(strchr(got, '!'));
            free(got);
        }
        prx_buf_unref(whole);
    }
}

static void test_long_and_pax_names(void **state)
{
    char long_name[400], want[900];
    const char *names[] = {long_name, "\xc3\xa9/\xe2\x82\xac.jpg"};

    memset(long_name, 'n', sizeof(long_name));
    for (size_t i = 50; i < sizeof(long_name); i += 51)
        long_name[i] = '/';
    memcpy(long_name + 390, "x.jpg", 6);
    write_tar(prx_scratch_path(*state, "t.tar"), NULL, names, 2);
    char *got = prx_tell_source(*state, prx_scratch_path(*state, "t.tar"), NULL);
    snprintf(want, sizeof(want), "%.391s: jpg=data\n\xc3\xa9/\xe2\x82\xac: jpg=data\n",
             long_name);
    assert_string_equal(got, want);
    free(got);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_samples),
        TEST(test_hostile_members),
        TEST(test_lying_sizes),
        TEST(test_bad_checksum),
        TEST(test_empty_and_alien),
        TEST(test_torn_everywhere),
        TEST(test_alike),
        TEST(test_tars_end_to_end),
        TEST(test_compressed),
        TEST(test_long_and_pax_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
