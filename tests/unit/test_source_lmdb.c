/* SPDX-License-Identifier: Apache-2.0 */
/* LMDB sources: samples, their places, what pins them, damage at every page. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <lmdb.h>

#include "libdata/outfile.h"
#include "libdata/rng.h"
#include "libdata/source.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tell.h"

#define N_OF(array)  (sizeof(array) / sizeof((array)[0]))
#define N_MAP_BYTES  ((size_t)256 << 20)
#define N_PAGE_BYTES 4096

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

static void need(int code)
{
    if (code != 0)
        fail_msg("LMDB: %s", mdb_strerror(code));
}

struct writer {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
};

static struct writer begin(const char *path, const char *database, unsigned flags)
{
    struct writer w;

    need(mdb_env_create(&w.env));
    need(mdb_env_set_mapsize(w.env, N_MAP_BYTES));
    need(mdb_env_set_maxdbs(w.env, 4));
    need(mdb_env_open(w.env, path, MDB_NOSYNC, 0666));
    need(mdb_txn_begin(w.env, NULL, 0, &w.txn));
    need(mdb_dbi_open(w.txn, database, flags, &w.dbi));
    return w;
}

static void put(struct writer *w, const void *name, size_t n_name, const void *bytes,
                size_t n_bytes)
{
    MDB_val key = {n_name, (void *)(uintptr_t)name};
    MDB_val value = {n_bytes, (void *)(uintptr_t)bytes};
    need(mdb_put(w->txn, w->dbi, &key, &value, 0));
}

static void puts_entry(struct writer *w, const char *name, const char *text)
{
    put(w, name, strlen(name), text, strlen(text));
}

static void end(struct writer *w)
{
    need(mdb_txn_commit(w->txn));
    mdb_env_close(w->env);
}

static const char *make_folder(struct prx_scratch *scratch, const char *name)
{
    const char *path = prx_scratch_path(scratch, name);
    assert_int_equal(prx_mkdirs(path), 0);
    return path;
}

static void expect(struct prx_scratch *scratch, const char *word, const char *want)
{
    char *got = prx_tell_source(scratch, word, NULL);
    assert_string_equal(got, want);
    free(got);
}

static void test_samples(void **state)
{
    struct prx_scratch *scratch = *state;
    static const char *const names[] = {
        "a.aaa", "a.b.c/d.jpg", "a.b/c.jpg", "a.b/c.txt", "a.jpg", "a.txt", "a/b-c.jpg",
        "a/b.JPG", "a/b.Long.TXT", "a/b.json", "noext", "d/.hidden", "d/._x.jpg",
        "__meta__", "__a__/b.txt", "e.", "../up.jpg", "/abs.jpg", "f\x01.jpg", "g.jpg",
        "g.JPG"};
    const char *path = make_folder(scratch, "e");
    struct writer w = begin(path, NULL, 0);

    for (size_t i = 0; i < N_OF(names); i++)
        puts_entry(&w, names[i], names[i] + strlen(names[i]) - 1);
    put(&w, "n\0.jpg", 6, "x", 1);
    puts_entry(&w, "h.jpg", "");
    end(&w);
    const char *want = "../up! key \"../up\" has a component ..\n"
                       "/abs! key \"/abs\" is an absolute path\n"
                       "a.b.c/d: jpg=g\n"
                       "a.b/c: jpg=g txt=t\n"
                       "a: aaa=a jpg=g txt=t\n"
                       "a/b-c: jpg=g\n"
                       "a/b: jpg=G json=n long.txt=T\n"
                       "e: =.\n"
                       "f\\x01! key \"f\\x01\" has a control character\n"
                       "g! two files for field jpg of one sample; the second is g.jpg\n"
                       "h: jpg=\n";
    expect(scratch, path, want);
    expect(scratch, prx_scratch_path(scratch, "e/data.mdb"), want);
    expect(scratch, prx_scratch_path(scratch, "e/"), want);
    char word[600];
    snprintf(word, sizeof(word), "lmdb:%s/{e,e}", scratch->root);
    char *got = prx_tell_source(scratch, word, NULL);
    assert_int_equal(strlen(got), 2 * strlen(want));
    free(got);
}

/* Enough of them for a tree of three levels, with values in leaves and out of them. */
enum { N_MANY = 6000 };

static size_t value_bytes(int i)
{
    return i % 50 == 0 ? 9000 : (size_t)(i % 40);
}

static void make_many(const char *path)
{
    struct writer w = begin(path, NULL, 0);
    static char bytes[9000];
    char name[64];

    for (int i = 0; i < N_MANY; i++) {
        memset(bytes, 'a' + i % 26, sizeof(bytes));
        snprintf(name, sizeof(name), "folder-%04d/of some length/%04d.jpg", i / 100, i);
        put(&w, name, strlen(name), bytes, value_bytes(i));
        memcpy(strrchr(name, '.'), ".txt", 4);
        put(&w, name, strlen(name), name, strlen(name));
    }
    end(&w);
}

/*
 * Read all of @word.  Samples that are not rejected must have both their fields,
 * and where @is_whole also the right bytes, and all be there.
 */
static void check_many(const char *word, bool is_whole, int *n_good, int *n_bad)
{
    struct prx_sample sample = {0};
    struct prx_source *source;
    int got, i = 0;

    *n_good = *n_bad = 0;
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        *n_good += !sample.reject_reason;
        *n_bad += sample.reject_reason != NULL;
        if (sample.reject_reason)
            continue;
        assert_int_equal(sscanf(sample.key, "folder-%*d/of some length/%d", &i), 1);
        assert_int_equal(sample.n_fields, 2);
        assert_int_equal(sample.fields[0].n_bytes, value_bytes(i));
        if (!is_whole || *n_good % 7 != 0)
            continue;
        assert_int_equal(prx_sample_load(&sample), 0);
        for (size_t k = 0; k < value_bytes(i); k++)
            assert_int_equal(sample.fields[0].bytes->bytes[k], 'a' + i % 26);
        assert_memory_equal(sample.fields[1].bytes->bytes, sample.key,
                            strlen(sample.key));
    }
    assert_int_equal(got, 0);
    prx_sample_release(&sample);
    prx_source_close(source);
}

static void test_deep_tree(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    int n_good, n_bad;

    make_many(path);
    check_many(path, true, &n_good, &n_bad);
    assert_int_equal(n_good, N_MANY);
    assert_int_equal(n_bad, 0);
}

/* Write @bytes as the data of the environment "bad", and return its path. */
static const char *put_damaged(struct prx_scratch *scratch, const void *bytes,
                               size_t n_bytes)
{
    prx_scratch_put(scratch, "bad/data.mdb", bytes, n_bytes);
    return prx_scratch_path(scratch, "bad");
}

/* Any page may be gone: what is given out is whole, and the loss is told. */
static void test_every_page_lost(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    static uint8_t page[N_PAGE_BYTES];
    struct prx_buf *file;
    int n_good, n_bad;

    make_many(path);
    assert_int_equal(
        prx_file_get(prx_scratch_path(scratch, "e/data.mdb"), N_MAP_BYTES, &file), 0);
    size_t n_pages = file->n_bytes / N_PAGE_BYTES;
    size_t n_skip = getenv("SAN") && *getenv("SAN") ? 23 : 7;
    for (size_t i = 2; i < n_pages; i += i < 40 ? 1 : n_skip) {
        uint8_t *at = file->bytes + i * N_PAGE_BYTES;
        memcpy(page, at, N_PAGE_BYTES);
        bool is_tree = page[10] & 3; /* a branch or a leaf: mp_flags */
        memset(at, 0, N_PAGE_BYTES);
        check_many(put_damaged(scratch, file->bytes, file->n_bytes), false, &n_good,
                   &n_bad);
        memcpy(at, page, N_PAGE_BYTES);
        if (n_bad == 0)
            assert_int_equal(n_good, N_MANY);
        if (is_tree && memcmp(page, &i, sizeof(i)) == 0 && n_bad > 0)
            assert_true(n_good < N_MANY);
    }
    for (size_t i = 3; i < n_pages; i += 31) {
        check_many(put_damaged(scratch, file->bytes, i * N_PAGE_BYTES - 5), false,
                   &n_good, &n_bad);
        assert_true(n_bad > 0);
    }
    prx_buf_unref(file);
}

/* Bytes changed at random, and pages exchanged: an end is reached, nothing else. */
static void test_random_damage(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    struct writer w = begin(path, NULL, 0);
    struct prx_buf *file;
    struct prx_rng rng;
    char name[64];
    int n_trials = getenv("SAN") && *getenv("SAN") ? 300 : 1500;

    for (int i = 0; i < 1200; i++) {
        snprintf(name, sizeof(name), "a.%d/key-%04d.field", i % 3, i);
        put(&w, name, strlen(name), name, strlen(name));
    }
    end(&w);
    assert_int_equal(
        prx_file_get(prx_scratch_path(scratch, "e/data.mdb"), N_MAP_BYTES, &file), 0);
    size_t n_pages = file->n_bytes / N_PAGE_BYTES;
    uint8_t *bytes = malloc(file->n_bytes);
    assert_non_null(bytes);
    prx_rng_init(&rng, 1, PRX_RNG_SHUFFLE, 0, 0);
    for (int i = 0; i < n_trials; i++) {
        memcpy(bytes, file->bytes, file->n_bytes);
        for (unsigned n = 1 + prx_rng_u32(&rng) % 8; n > 0; n--) {
            size_t page = prx_rng_u32(&rng) % n_pages * N_PAGE_BYTES;
            size_t other = prx_rng_u32(&rng) % n_pages * N_PAGE_BYTES;
            size_t at = prx_rng_u32(&rng) % (n % 2 ? 256 : N_PAGE_BYTES);
            if (prx_rng_u32(&rng) % 16 == 0)
                memcpy(bytes + page, bytes + other, N_PAGE_BYTES);
            else
                bytes[page + at] = (uint8_t)prx_rng_u32(&rng);
        }
        const char *bad = put_damaged(scratch, bytes, file->n_bytes);
        struct prx_sample sample = {0};
        struct prx_source *source;
        int got, n_samples = 0;
        assert_int_equal(prx_source_open(&bad, 1, NULL, &source), 0);
        while ((got = prx_source_next(source, &sample)) == 1) {
            n_samples++;
            if (!sample.reject_reason && prx_sample_load(&sample) < 0)
                prx_err_clear();
        }
        assert_int_equal(got, 0);
        assert_true(n_samples <= 4 * 1200);
        prx_sample_release(&sample);
        prx_source_close(source);
    }
    free(bytes);
    prx_buf_unref(file);
}

/* A branch whose children are itself, 32 levels of them: more paths than atoms. */
static void test_circle(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    struct prx_buf *file;

    make_many(path);
    assert_int_equal(
        prx_file_get(prx_scratch_path(scratch, "e/data.mdb"), N_MAP_BYTES, &file), 0);
    for (int i = 0; i < 2; i++) {
        uint8_t *meta = file->bytes + i * N_PAGE_BYTES + 16;
        uint16_t depth = 32;
        uint64_t root;
        memcpy(&root, meta + 112, sizeof(root)); /* of the main database */
        if (root == UINT64_MAX)
            continue;
        memcpy(meta + 78, &depth, sizeof(depth));
        uint8_t *page = file->bytes + root * N_PAGE_BYTES;
        uint16_t lower, offset;
        memcpy(&lower, page + 12, sizeof(lower));
        for (size_t at = 16; at < lower; at += 2) {
            memcpy(&offset, page + at, sizeof(offset));
            memcpy(page + offset, &root, 6);
        }
    }
    const char *bad = put_damaged(scratch, file->bytes, file->n_bytes);
    char *got = prx_tell_source(scratch, bad, NULL);
    assert_non_null(strstr(got, ": it is not a leaf\n"));
    assert_string_equal(strchr(got, '\n'), "\n");
    free(got);
    prx_buf_unref(file);
}

static void test_refused(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_buf *file;
    static const struct {
        size_t at_bytes;
        uint8_t byte;
        const char *want;
    } rows[] = {
        {16, 0, "! bad/data.mdb: not an LMDB file\n"},
        {N_PAGE_BYTES + 17, 0, "! bad/data.mdb: not an LMDB file\n"},
        {20, 2, "! bad/data.mdb: LMDB data version 2, not 1\n"},
        {16 + 24, 3, "! bad/data.mdb: pages of 4099 bytes\n"},
        {16 + 24 + 3, 1, "! bad/data.mdb: pages of 16781312 bytes\n"},
        {16 + 120 + 7, 1, "! bad/data.mdb: a last page 72057594037927937\n"},
    };

    struct writer w = begin(make_folder(scratch, "e"), NULL, 0);
    puts_entry(&w, "a.jpg", "x");
    end(&w);
    assert_int_equal(
        prx_file_get(prx_scratch_path(scratch, "e/data.mdb"), N_MAP_BYTES, &file), 0);
    for (size_t i = 0; i < N_OF(rows); i++) {
        uint8_t *at = file->bytes + rows[i].at_bytes, was = *at;
        *at = rows[i].byte;
        char *got = prx_tell_source(
            scratch, put_damaged(scratch, file->bytes, file->n_bytes), NULL);
        if (!strstr(got, rows[i].want) || strchr(got, '\n')[1] != '\0')
            fail_msg("row %zu: %s", i, got);
        free(got);
        *at = was;
    }
    for (size_t n = 0; n < 2 * N_PAGE_BYTES; n += n < 300 ? 1 : 999) {
        char *got =
            prx_tell_source(scratch, put_damaged(scratch, file->bytes, n), NULL);
        assert_non_null(strstr(got, "! bad/data.mdb: ends within its heads\n"));
        free(got);
    }
    prx_buf_unref(file);

    w = begin(make_folder(scratch, "dup"), NULL, MDB_DUPSORT);
    puts_entry(&w, "a.jpg", "x");
    end(&w);
    char *got = prx_tell_source(scratch, prx_scratch_path(scratch, "dup"), NULL);
    assert_non_null(strstr(got, "! dup/data.mdb: its main database is not in byte"));
    free(got);
    w = begin(make_folder(scratch, "sub"), "other.jpg", MDB_CREATE);
    puts_entry(&w, "a.jpg", "x");
    need(mdb_dbi_open(w.txn, NULL, 0, &w.dbi));
    puts_entry(&w, "other.txt", "T");
    puts_entry(&w, "z.txt", "T");
    end(&w);
    expect(scratch, prx_scratch_path(scratch, "sub"),
           "other.jpg! sub/data.mdb: other.jpg: a database within it, which is not "
           "read\nother: txt=T\nz: txt=T\n");

    struct prx_source *source;
    const char *word = make_folder(scratch, "none");
    char named[600];
    snprintf(named, sizeof(named), "lmdb:%s", word);
    word = named;
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), PRX_ENOENT);
    assert_non_null(strstr(prx_err_message(), "there is no data.mdb"));
}

/* What is read was committed when the source was opened, whatever comes after. */
static void test_state_is_held(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    struct prx_sample sample = {0};
    struct prx_source *source;
    struct prx_str before = {0}, after = {0};
    int status, n = 0;

    make_many(path);
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_int_equal(prx_source_plan(source, &before), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (int turn = 0; turn < 4; turn++) {
            struct writer w = begin(path, NULL, 0);
            MDB_cursor *cursor;
            MDB_val name, value;
            need(mdb_cursor_open(w.txn, w.dbi, &cursor));
            while (mdb_cursor_get(cursor, &name, &value, MDB_NEXT) == 0)
                need(mdb_cursor_del(cursor, 0));
            mdb_cursor_close(cursor);
            for (int i = 0; i < 500; i++) {
                char new_name[32];
                static char bytes[9000];
                snprintf(new_name, sizeof(new_name), "new-%d-%d.jpg", turn, i);
                put(&w, new_name, strlen(new_name), bytes, sizeof(bytes));
            }
            end(&w);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    while (prx_source_next(source, &sample) == 1) {
        assert_null(sample.reject_reason);
        assert_int_equal(prx_sample_load(&sample), 0);
        assert_memory_equal(sample.fields[1].bytes->bytes, sample.key,
                            strlen(sample.key));
        if (sample.fields[0].n_bytes > 0)
            assert_int_equal(sample.fields[0].bytes->bytes[0], 'a' + n % 26);
        n++;
    }
    assert_int_equal(n, N_MANY);
    prx_source_close(source);
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_int_equal(prx_source_plan(source, &after), 0);
    assert_string_not_equal(before.bytes, after.bytes);
    prx_source_close(source);
    prx_str_release(&before);
    prx_str_release(&after);
    prx_sample_release(&sample);
}

/* Where no lock file can be made, and where the whole is one file. */
static void test_without_lock(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    struct writer w = begin(path, NULL, 0);
    int status;

    puts_entry(&w, "a.jpg", "x");
    end(&w);
    assert_int_equal(unlink(prx_scratch_path(scratch, "e/lock.mdb")), 0);
    assert_int_equal(chmod(path, 0555), 0);
    assert_int_equal(chmod(scratch->root, 0755), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && seteuid(65534) < 0)
            _exit(1);
        expect(scratch, path, "a: jpg=x\n");
        _exit(access(prx_scratch_path(scratch, "e/lock.mdb"), F_OK) == 0 ? 2 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(path, 0755), 0);

    need(mdb_env_create(&w.env));
    const char *file = prx_scratch_path(scratch, "one.lmdb");
    need(mdb_env_open(w.env, file, MDB_NOSUBDIR | MDB_NOSYNC, 0666));
    need(mdb_txn_begin(w.env, NULL, 0, &w.txn));
    need(mdb_dbi_open(w.txn, NULL, 0, &w.dbi));
    puts_entry(&w, "b.jpg", "y");
    end(&w);
    char word[600];
    snprintf(word, sizeof(word), "lmdb:%s", file);
    expect(scratch, word, "b: jpg=y\n");
}

static void test_skips_parts_places(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *path = make_folder(scratch, "e");
    struct prx_source_opts opts = {.rank = 1, .world = 2, .n_member_bytes_max = 100};
    struct prx_str plain = {0}, hiding = {0};
    struct prx_sample sample = {0};
    struct prx_source *source;

    make_many(path);
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_int_equal(prx_source_plan(source, &plain), 0);
    assert_true(prx_source_has(source, prx_scratch_path(scratch, "e/data.mdb")));
    assert_true(prx_source_has(source, prx_scratch_path(scratch, "e")));
    assert_true(prx_source_has(source, scratch->root));
    assert_false(prx_source_has(source, prx_scratch_path(scratch, "e/lock.mdb")));
    assert_int_equal(prx_source_total(source), 0);
    prx_source_close(source);
    prx_scratch_puts(scratch, "e.skip",
                     "folder-0000/of some length/0001\tugly\n"
                     "folder-0059/of some length/5999\tugly\n");
    assert_int_equal(prx_source_open(&path, 1, &opts, &source), 0);
    assert_int_equal(prx_source_plan(source, &hiding), 0);
    assert_non_null(strstr(hiding.bytes, plain.bytes));
    assert_non_null(strstr(hiding.bytes, "e.skip"));
    int n = 0, n_large = 0;
    while (prx_source_next(source, &sample) == 1) {
        if (n == 0)
            assert_string_equal(sample.key, "folder-0000/of some length/0002");
        n_large += sample.reject_reason &&
                   strstr(sample.reject_reason, ".jpg: larger than the limit");
        n++;
    }
    assert_int_equal(n, (N_MANY - 2) / 2);
    assert_int_equal(n_large, N_MANY / 50 - 1); /* all but the first */
    assert_int_equal(prx_source_hidden(source), 2);
    prx_source_close(source);
    prx_sample_release(&sample);
    prx_str_release(&plain);
    prx_str_release(&hiding);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_samples),
        TEST(test_deep_tree),
        TEST(test_every_page_lost),
        TEST(test_random_damage),
        TEST(test_circle),
        TEST(test_refused),
        TEST(test_state_is_held),
        TEST(test_without_lock),
        TEST(test_skips_parts_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
