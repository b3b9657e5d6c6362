/* SPDX-License-Identifier: Apache-2.0 */
/* skip.h: lists read, written, gathered, refused; honoured by every reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/outfile.h"
#include "libdata/skip.h"
#include "libdata/source.h"
#include "tests/lib/loader_set.h"
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

static void expect_file(struct prx_scratch *scratch, const char *name, const char *want)
{
    struct prx_buf *bytes;

    assert_int_equal(prx_file_get(prx_scratch_path(scratch, name), 1 << 20, &bytes), 0);
    assert_string_equal((char *)bytes->bytes, want);
    prx_buf_unref(bytes);
}

/* --- one list --------------------------------------------------------------- */

static void test_names(void **state)
{
    static const struct {
        const char *shard, *want;
    } rows[] = {
        {"a/000.tar", "a/000.tar.skip"},
        {"photos", "photos.skip"},
        {"photos/", "photos.skip"},
        {"photos///", "photos.skip"},
        {"/", "/.skip"},
        {"set.lmdb", "set.lmdb.skip"},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_str path = {0};
        assert_int_equal(prx_skip_path(rows[i].shard, &path), 0);
        assert_string_equal(path.bytes, rows[i].want);
        prx_str_release(&path);
    }
}

static void test_write_and_read(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *shard = prx_scratch_path(scratch, "t.tar");
    struct prx_skip skip = {0};

    assert_null(prx_skip_find(&skip, "a"));
    assert_int_equal(prx_skip_add(&skip, "d/b", "blurred"), 0);
    assert_int_equal(prx_skip_add(&skip, "a", "first reason"), 0);
    assert_int_equal(prx_skip_add(&skip, "a", "second reason"), 0);
    assert_int_equal(prx_skip_add(&skip, "c", "tab\tnewline\nend"), 0);
    assert_int_equal(prx_skip_add(&skip, "\xc3\xa9", ""), 0);
    assert_int_equal(prx_skip_write(&skip, shard), 0);
    prx_skip_release(&skip);
    expect_file(scratch, "t.tar.skip",
                "a\tfirst reason\n"
                "c\ttab newline end\n"
                "d/b\tblurred\n"
                "\xc3\xa9\t\n");

    assert_int_equal(prx_skip_read(&skip, shard), 0);
    assert_int_equal(skip.n_rows, 4);
    assert_string_equal(prx_skip_find(&skip, "a"), "first reason");
    assert_string_equal(prx_skip_find(&skip, "d/b"), "blurred");
    assert_string_equal(prx_skip_find(&skip, "\xc3\xa9"), "");
    assert_null(prx_skip_find(&skip, ""));
    assert_null(prx_skip_find(&skip, "b"));
    assert_null(prx_skip_find(&skip, "d"));
    assert_null(prx_skip_find(&skip, "zzz"));
    assert_int_equal(prx_skip_find_row(&skip, "c"), 1);
    assert_int_equal(prx_skip_find_row(&skip, "cc"), 4);
    assert_string_equal(prx_skip_key(&skip, 2), "d/b");
    assert_string_equal(prx_skip_reason(&skip, 2), "blurred");
    prx_skip_release(&skip);
    prx_skip_release(&skip);
}

static void test_empty_list_is_removed(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *shard = prx_scratch_path(scratch, "t.tar");
    struct prx_skip skip = {0};

    prx_scratch_puts(scratch, "t.tar.skip", "a\t\n");
    assert_int_equal(prx_skip_write(&skip, shard), 0);
    assert_int_equal(access(prx_scratch_path(scratch, "t.tar.skip"), F_OK), -1);
    assert_int_equal(prx_skip_write(&skip, shard), 0);
    assert_int_equal(prx_skip_read(&skip, shard), 0);
    assert_int_equal(skip.n_rows, 0);
    prx_scratch_puts(scratch, "t.tar.skip", "");
    assert_int_equal(prx_skip_read(&skip, shard), 0);
    assert_int_equal(skip.n_rows, 0);
}

static void test_bad_keys_are_not_added(void **state)
{
    static const char *const keys[] = {"", "../up", "/abs", "a//b",
                                       "a\nb", "\xff", "."};
    struct prx_skip skip = {0};

    (void)state;
    for (size_t i = 0; i < N_OF(keys); i++)
        assert_int_equal(prx_skip_add(&skip, keys[i], "why"), PRX_EINVAL);
    assert_int_equal(skip.n_rows, 0);
    prx_skip_release(&skip);
}

static void test_hostile_lists(void **state)
{
    static const struct {
        const char *bytes;
        size_t n_bytes;
        const char *want; /* in the message, behind the list's name */
    } rows[] = {
#define ROW(text, want) {text, sizeof(text) - 1, want}
        ROW("a\twhy", "line 1: cut off"),
        ROW("a\twhy\nb\twh", "line 2: cut off"),
        ROW("a\n", "line 1: not KEY, a tab, REASON"),
        ROW("\n", "line 1: not KEY"),
        ROW("a\twhy\n\n", "line 2: not KEY"),
        ROW("b\twhy\na\twhy\n", "line 2: keys are not in byte order"),
        ROW("a\twhy\na\tagain\n", "line 2: keys are not in byte order"),
        ROW("B\t\na\t\nA\t\n", "line 3: keys are not in byte order"),
        ROW("a\0b\twhy\n", "line 1: not KEY"),
        ROW("a\tw\0hy\n", "line 1: not KEY"),
        ROW("../up\twhy\n", "line 1: key \"../up\" has a component .."),
        ROW("/abs\twhy\n", "line 1: key \"/abs\" is an absolute path"),
        ROW("\twhy\n", "line 1: key \"\" is empty"),
        ROW("\xff\twhy\n", "line 1: key \"\\xff\" is not UTF-8"),
        ROW("a\twhy\r\nb\x01\twhy\n", "line 2: key \"b\\x01\" has a control"),
        ROW("\x7f"
            "ELF\x02\x01\x01\0\0\0",
            "line 1: cut off"),
#undef ROW
    };
    struct prx_scratch *scratch = *state;
    struct prx_skip skip = {0};

    for (size_t i = 0; i < N_OF(rows); i++) {
        prx_scratch_put(scratch, "t.tar.skip", rows[i].bytes, rows[i].n_bytes);
        const char *shard = prx_scratch_path(scratch, "t.tar");
        assert_int_equal(prx_skip_read(&skip, shard), PRX_ECORRUPT);
        if (!strstr(prx_err_message(), rows[i].want) ||
            !strstr(prx_err_message(), "t.tar.skip: "))
            fail_msg("row %zu: %s", i, prx_err_message());
        assert_int_equal(skip.n_rows, 0);
        assert_null(skip.rows);
    }
}

/* A key of the greatest length is one; a byte more is none; and many are no matter. */
static void test_long_keys_and_lists(void **state)
{
    struct prx_scratch *scratch = *state;
    char key[PRX_KEY_BYTES_MAX + 2];
    struct prx_str text = {0};
    struct prx_skip skip = {0};

    memset(key, 'k', sizeof(key));
    key[PRX_KEY_BYTES_MAX + 1] = '\0';
    assert_int_equal(prx_skip_add(&skip, key, "why"), PRX_EINVAL);
    assert_int_equal(prx_str_printf(&text, "%s\twhy\n", key), 0);
    prx_scratch_put(scratch, "t.tar.skip", text.bytes, text.n_bytes);
    assert_int_equal(prx_skip_read(&skip, prx_scratch_path(scratch, "t.tar")),
                     PRX_ECORRUPT);
    key[PRX_KEY_BYTES_MAX] = '\0';
    assert_int_equal(prx_skip_add(&skip, key, "why"), 0);
    prx_skip_release(&skip);

    prx_str_reset(&text);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(prx_str_printf(&text, "%06d\treason %d\n", i, i), 0);
    prx_scratch_put(scratch, "t.tar.skip", text.bytes, text.n_bytes);
    assert_int_equal(prx_skip_read(&skip, prx_scratch_path(scratch, "t.tar")), 0);
    assert_int_equal(skip.n_rows, 100000);
    assert_string_equal(prx_skip_find(&skip, "077777"), "reason 77777");
    prx_skip_release(&skip);
    prx_str_release(&text);
}

/* A list whose size alone is too much is refused before memory is asked for. */
static void test_huge_list(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_skip skip = {0};
    const char *path = prx_scratch_puts(scratch, "t.tar.skip", "a\t\n");

    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    assert_int_equal(prx_skip_read(&skip, prx_scratch_path(scratch, "t.tar")),
                     PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "t.tar.skip"));
}

/* --- lists of many shards --------------------------------------------------- */

static void test_set_adds_to_what_is_there(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_skip_set *set;
    uint64_t n_added = 99;

    const char *one = prx_scratch_puts(scratch, "1.tar", "");
    const char *two = prx_scratch_puts(scratch, "2.tar", "");
    const char *three = prx_scratch_puts(scratch, "3.tar", "");
    prx_scratch_puts(scratch, "2.tar.skip", "b\told\nd\told\n");
    prx_scratch_puts(scratch, "3.tar.skip", "c\told\n");
    assert_int_equal(prx_skip_set_new(&set), 0);
    assert_int_equal(prx_skip_set_add(set, two, "c", "new"), 0);
    assert_int_equal(prx_skip_set_add(set, one, "z", "new"), 0);
    assert_int_equal(prx_skip_set_add(set, two, "d", "new"), 0);
    assert_int_equal(prx_skip_set_add(set, three, "c", "new"), 0);
    assert_int_equal(prx_skip_set_add(set, two, "a", "new"), 0);
    assert_int_equal(prx_skip_set_add(set, two, "../up", "new"), PRX_EINVAL);
    assert_int_equal(access(prx_scratch_path(scratch, "1.tar.skip"), F_OK), -1);
    for (int again = 0; again <= 1; again++) {
        assert_int_equal(prx_skip_set_write(set, &n_added), 0);
        assert_int_equal(n_added, again ? 0 : 3);
        expect_file(scratch, "1.tar.skip", "z\tnew\n");
        expect_file(scratch, "2.tar.skip", "a\tnew\nb\told\nc\tnew\nd\told\n");
        expect_file(scratch, "3.tar.skip", "c\told\n");
    }
    prx_skip_set_free(set);
    prx_skip_set_free(NULL);
}

static void test_set_refuses(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_skip_set *set;

    assert_int_equal(prx_skip_set_new(&set), 0);
    const char *shard = prx_scratch_path(scratch, "none.tar");
    assert_int_equal(prx_skip_set_add(set, shard, "a", "why"), 0);
    assert_int_equal(prx_skip_set_write(set, NULL), PRX_ENOENT);
    prx_scratch_puts(scratch, "none.tar", "");
    prx_scratch_puts(scratch, "none.tar.skip", "torn");
    assert_int_equal(prx_skip_set_write(set, NULL), PRX_ECORRUPT);
    expect_file(scratch, "none.tar.skip", "torn");
    prx_skip_set_free(set);
}

/* --- readers ---------------------------------------------------------------- */

/* Keys, a blank behind each, "!" behind a rejected one; the caller frees it. */
static char *read_keys(const char *word, const struct prx_source_opts *opts,
                       uint64_t want_hidden)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t serial = 0;
    int got;

    assert_int_equal(prx_str_puts(&out, ""), 0);
    assert_int_equal(prx_source_open(&word, 1, opts, &source), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        assert_int_equal(sample.serial, serial++);
        assert_int_equal(prx_str_printf(&out, "%s%s ", sample.key,
                                        sample.reject_reason ? "!" : ""),
                         0);
    }
    assert_int_equal(got, 0);
    assert_int_equal(prx_source_hidden(source), want_hidden);
    prx_sample_release(&sample);
    prx_source_close(source);
    return out.bytes;
}

static void expect_keys(const char *word, uint64_t n_hidden, const char *want)
{
    static const struct prx_source_opts all = {.with_hidden = true};
    char *got = read_keys(word, NULL, n_hidden);

    assert_string_equal(got, want);
    free(got);
    got = read_keys(word, &all, 0);
    assert_true(strlen(got) >= strlen(want));
    free(got);
}

static const char *put_tar(struct prx_scratch *scratch, const char *name,
                           const char *keys)
{
    struct prx_str tar = {0};

    for (; *keys; keys++) {
        char member[8] = {*keys, '.', 'j', 'p', 'g'};
        prx_tar_add(&tar, member, "picture", 7, NULL);
        memcpy(member + 2, "txt", 4);
        prx_tar_add(&tar, member, "text", 4, NULL);
    }
    prx_tar_end(&tar);
    const char *path = prx_scratch_put(scratch, name, tar.bytes, tar.n_bytes);
    prx_str_release(&tar);
    return path;
}

static void test_tars_hide(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *one = put_tar(scratch, "1.tar", "abc");

    expect_keys(one, 0, "a b c ");
    prx_scratch_puts(scratch, "1.tar.skip", "a\tfirst\nc\tlast\nq\tnobody\n");
    expect_keys(one, 2, "b ");
    prx_scratch_puts(scratch, "1.tar.skip", "a\t\nb\t\nc\t\n");
    expect_keys(one, 3, "");

    /* The list of one shard is not that of the next. */
    put_tar(scratch, "2.tar", "abc");
    prx_scratch_puts(scratch, "1.tar.skip", "b\twhy\n");
    const char *word = prx_scratch_path(scratch, "{1,2}.tar");
    expect_keys(word, 1, "a c a b c ");
}

/* Whatever is in the way of a tear is hidden with its sample. */
static void test_tears_hide(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = put_tar(scratch, "1.tar", "abc");

    assert_int_equal(truncate(path, 512 * 10), 0);
    expect_keys(path, 0, "a b c! ");
    prx_scratch_puts(scratch, "1.tar.skip", "c\ttorn\n");
    expect_keys(path, 1, "a b ");
    path = prx_scratch_puts(scratch, "none.tar", "nothing of a tar");
    expect_keys(path, 0, "none.tar! ");
    prx_scratch_puts(scratch, "none.tar.skip", "none.tar\tnot a tar\n");
    expect_keys(path, 1, "");
}

static void test_folders_hide(void **state)
{
    struct prx_scratch *scratch = *state;
    static const char *const names[] = {"d/a.jpg", "d/b.jpg", "d/b.txt", "d/s/a.png"};

    for (size_t i = 0; i < N_OF(names); i++)
        prx_scratch_puts(scratch, names[i], "x");
    prx_scratch_puts(scratch, "d.skip", "b\twhy\ns/a\twhy\n");
    expect_keys(prx_scratch_path(scratch, "d"), 2, "a ");
    expect_keys(prx_scratch_path(scratch, "d/"), 2, "a ");
    expect_keys(prx_scratch_path(scratch, "d//"), 2, "a ");
}

static void test_damaged_list_is_an_error(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = put_tar(scratch, "1.tar", "ab");
    struct prx_source *source;
    struct prx_sample sample = {0};

    prx_scratch_puts(scratch, "1.tar.skip", "a");
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_int_equal(prx_source_next(source, &sample), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "1.tar.skip: line 1: cut off"));
    prx_source_close(source);
    prx_sample_release(&sample);
    prx_scratch_puts(scratch, "d/a.jpg", "x");
    prx_scratch_puts(scratch, "d.skip", "a");
    path = prx_scratch_path(scratch, "d");
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), PRX_ECORRUPT);
}

static uint64_t total_of(const char *word, const struct prx_source_opts *opts)
{
    struct prx_source *source;

    assert_int_equal(prx_source_open(&word, 1, opts, &source), 0);
    uint64_t n_total = prx_source_total(source);
    prx_source_close(source);
    return n_total;
}

static void test_totals(void **state)
{
    static const struct prx_source_opts all = {.with_hidden = true};
    struct prx_scratch *scratch = *state;

    put_tar(scratch, "1.tar", "abc");
    put_tar(scratch, "2.tar", "def");
    prx_scratch_puts(scratch, "index.json",
                     "{\"shardlist\":[{\"url\":\"1.tar\",\"nsamples\":3},"
                     "{\"url\":\"2.tar\",\"nsamples\":3}]}");
    prx_scratch_puts(scratch, "2.tar.skip", "e\twhy\n");
    const char *word = prx_scratch_path(scratch, "index.json");
    assert_int_equal(total_of(word, NULL), 5);
    assert_int_equal(total_of(word, &all), 6);
    expect_keys(word, 1, "a b c d f ");

    prx_scratch_puts(scratch, "d/a.jpg", "x");
    prx_scratch_puts(scratch, "d/b.jpg", "x");
    prx_scratch_puts(scratch, "d.skip", "a\twhy\n");
    word = prx_scratch_path(scratch, "d");
    assert_int_equal(total_of(word, NULL), 1);
    assert_int_equal(total_of(word, &all), 2);
}

/* Every sample is one rank's, or hidden; each rank counts what it passes over. */
static void test_ranks(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *word = put_tar(scratch, "1.tar", "abcdef");
    struct prx_source_opts opts = {.world = 2};

    prx_scratch_puts(scratch, "1.tar.skip", "c\twhy\n");
    char *got = read_keys(word, &opts, 1);
    assert_string_equal(got, "a d f ");
    free(got);
    opts.rank = 1;
    got = read_keys(word, &opts, 1);
    assert_string_equal(got, "b e ");
    free(got);
}

/* prx_sample_shard() names what the list stands beside, through a shuffle too. */
static void test_sample_knows_its_shard(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sample sample = {0};
    struct prx_source *source;

    put_tar(scratch, "1.tar", "a");
    prx_scratch_puts(scratch, "d/s/b.jpg", "x");
    for (int is_shuffled = 0; is_shuffled <= 1; is_shuffled++) {
        const char *words[] = {prx_scratch_path(scratch, "1.tar"),
                               prx_scratch_path(scratch, "d/")};
        assert_int_equal(prx_source_open(words, 2, NULL, &source), 0);
        if (is_shuffled)
            assert_int_equal(prx_source_shuffle(source, 1, scratch->root, &source), 0);
        while (prx_source_next(source, &sample) == 1) {
            const char *want = *sample.key == 'a' ? "1.tar" : "d";
            assert_string_equal(prx_sample_shard(&sample),
                                prx_scratch_path(scratch, want));
        }
        prx_source_close(source);
    }
    prx_sample_release(&sample);
}

/* A loader does not see them, and knows another set from the one it was. */
static void test_loader(void **state)
{
    const struct set set = {.n = 10, .n_shapes = 1, .shapes = set_shapes};
    struct prx_loader_summary before, after;
    struct set_fixture fixture;

    (void)state;
    set_fixture_write(&fixture, &set);
    assert_int_equal(set_fixture_open(&fixture), 0);
    prx_loader_summary(fixture.loader, &before);
    prx_scratch_puts(&fixture.scratch, "set/000000.tar.skip", "k0003\twhy\n");
    prx_scratch_puts(&fixture.scratch, "set/000001.tar.skip", "k0009\twhy\n");
    assert_int_equal(set_fixture_open(&fixture), 0);
    prx_loader_summary(fixture.loader, &after);
    assert_int_equal(before.n_samples, 10);
    assert_int_equal(after.n_samples, 8);
    assert_int_equal(after.n_rejected, 0);
    assert_string_not_equal(before.fingerprint, after.fingerprint);
    set_fixture_close(&fixture);
}

/* --- plans ------------------------------------------------------------------ */

static char *plan_of(const char *word)
{
    struct prx_str plan = {0};
    struct prx_source *source;

    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    assert_int_equal(prx_source_plan(source, &plan), 0);
    prx_source_close(source);
    return plan.bytes;
}

static void expect_new_plan(struct prx_scratch *scratch, const char *word,
                            const char *list)
{
    char *before = plan_of(word);

    prx_scratch_puts(scratch, list, "a\twhy\n");
    char *with = plan_of(word);
    prx_scratch_puts(scratch, list, "a\tanother reason\n");
    char *other = plan_of(word);
    assert_string_not_equal(before, with);
    assert_string_not_equal(with, other);
    assert_int_equal(unlink(prx_scratch_path(scratch, list)), 0);
    char *after = plan_of(word);
    assert_string_equal(before, after);
    free(before);
    free(with);
    free(other);
    free(after);
}

static void test_plan_changes(void **state)
{
    struct prx_scratch *scratch = *state;

    put_tar(scratch, "1.tar", "ab");
    prx_scratch_puts(scratch, "d/a.jpg", "x");
    prx_scratch_puts(scratch, "d/b.jpg", "x");
    expect_new_plan(scratch, prx_scratch_path(scratch, "1.tar"), "1.tar.skip");
    expect_new_plan(scratch, prx_scratch_path(scratch, "d"), "d.skip");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_names),
        TEST(test_write_and_read),
        TEST(test_empty_list_is_removed),
        TEST(test_bad_keys_are_not_added),
        TEST(test_hostile_lists),
        TEST(test_long_keys_and_lists),
        TEST(test_huge_list),
        TEST(test_set_adds_to_what_is_there),
        TEST(test_set_refuses),
        TEST(test_tars_hide),
        TEST(test_tears_hide),
        TEST(test_folders_hide),
        TEST(test_damaged_list_is_an_error),
        TEST(test_totals),
        TEST(test_ranks),
        TEST(test_sample_knows_its_shard),
        TEST(test_loader),
        TEST(test_plan_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
