/* SPDX-License-Identifier: Apache-2.0 */
/* Folder sources, words, ranks, indexes. */
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
#include "libdata/source.h"
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

/* "key(field field) key! ..." of all samples; the caller frees it. */
static char *read_words(const char *const *words, size_t n_words,
                        const struct prx_source_opts *opts)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t n_samples = 0;
    int got;

    assert_int_equal(prx_source_open(words, n_words, opts, &source), 0);
    assert_int_equal(prx_str_puts(&out, ""), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        n_samples++;
        assert_int_equal(prx_str_printf(&out, "%s%s%s", out.n_bytes ? " " : "",
                                        sample.key, sample.reject_reason ? "!" : "("),
                         0);
        if (sample.reject_reason)
            continue;
        for (size_t i = 0; i < sample.n_fields; i++)
            assert_int_equal(
                prx_str_printf(&out, "%s%s", i ? " " : "", sample.fields[i].name), 0);
        assert_int_equal(prx_str_puts(&out, ")"), 0);
        assert_int_equal(prx_sample_load(&sample), 0);
    }
    assert_int_equal(got, 0);
    if (prx_source_total(source) > 0)
        assert_int_equal(prx_source_total(source), n_samples);
    prx_sample_release(&sample);
    prx_source_close(source);
    return out.bytes;
}

static void expect(const char *word, const struct prx_source_opts *opts,
                   const char *want)
{
    char *got = read_words(&word, 1, opts);
    assert_string_equal(got, want);
    free(got);
}

static void test_folder(void **state)
{
    static const char *const names[] = {
        "a.jpg",
        "a.txt",
        "a.json",
        "a.long.txt",
        "a-b.PNG",
        "a/x.webp",
        "a.d/y.jpeg",
        "b.txt",
        "c.latent.npy",
        "c.txt",
        "noext",
        ".hidden.jpg",
        "._m.jpg",
        ".git/z.jpg",
        "e/.jpg",
        "e/f/g.Jpg",
        "\xc3\xa9.jpg",
        "index.json",
        "Z.jpg",
    };
    struct prx_scratch *scratch = *state;

    for (size_t i = 0; i < N_OF(names); i++)
        prx_scratch_puts(scratch, names[i], names[i]);
    const char *want = "Z(jpg) a-b(png) a(jpg json long.txt txt) a.d/y(jpeg) a/x(webp) "
                       "c(latent.npy txt) e/f/g(jpg) \xc3\xa9(jpg)";
    expect(scratch->root, NULL, want);
    struct prx_str slashes = {0};
    assert_int_equal(prx_str_printf(&slashes, "%s///", scratch->root), 0);
    expect(slashes.bytes, NULL, want);
    prx_str_release(&slashes);
}

static void test_folder_faults(void **state)
{
    struct prx_scratch *scratch = *state;
    char long_name[255];

    prx_scratch_puts(scratch, "a.JPG", "1");
    prx_scratch_puts(scratch, "a.jpg", "2");
    prx_scratch_puts(scratch, "b\n.jpg", "x");
    prx_scratch_puts(scratch, "c\xff.jpg", "x");
    prx_scratch_puts(scratch, "d.jpg", "x");
    assert_int_equal(symlink("gone", prx_scratch_path(scratch, "e.jpg")), 0);
    assert_int_equal(symlink("f.jpg", prx_scratch_path(scratch, "f.jpg")), 0);
    assert_int_equal(mkfifo(prx_scratch_path(scratch, "g.jpg"), 0600), 0);
    assert_int_equal(symlink("d.jpg", prx_scratch_path(scratch, "h.jpg")), 0);
    memset(long_name, 'f', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    memcpy(long_name, "i.", 2);
    prx_scratch_puts(scratch, "i.jpg", "x");
    int fd = open(prx_scratch_path(scratch, long_name), O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    struct prx_source_opts opts = {.n_member_bytes_max = 5};
    prx_scratch_puts(scratch, "j.jpg", "123456");
    expect(scratch->root, &opts, "a! b\\x0a! c\\xff! d(jpg) e! f! g! h(jpg) i! j!");
}

static void test_folder_loops(void **state)
{
    struct prx_scratch *scratch = *state;

    prx_scratch_puts(scratch, "in/a/x.jpg", "1");
    prx_scratch_puts(scratch, "out/y.jpg", "2");
    assert_int_equal(symlink("..", prx_scratch_path(scratch, "in/a/up")), 0);
    assert_int_equal(symlink(".", prx_scratch_path(scratch, "in/self")), 0);
    assert_int_equal(symlink("../out", prx_scratch_path(scratch, "in/other")), 0);
    expect(prx_scratch_path(scratch, "in"), NULL, "a/x(jpg) other/y(jpg)");
    assert_int_equal(prx_mkdirs(prx_scratch_path(scratch, "empty/deep")), 0);
    expect(prx_scratch_path(scratch, "empty"), NULL, "");
}

/* A file that changes after it was listed is noticed when it is read. */
static void test_folder_is_a_snapshot(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *word = scratch->root;
    struct prx_source *source;
    struct prx_sample sample = {0};

    prx_scratch_puts(scratch, "a.jpg", "1");
    prx_scratch_puts(scratch, "b.jpg", "1");
    assert_int_equal(prx_source_open(&word, 1, NULL, &source), 0);
    prx_scratch_puts(scratch, "a.jpg", "longer");
    prx_scratch_puts(scratch, "aa.jpg", "new");
    assert_int_equal(unlink(prx_scratch_path(scratch, "b.jpg")), 0);
    assert_int_equal(prx_source_next(source, &sample), 1);
    assert_int_equal(prx_sample_load(&sample), PRX_ECORRUPT);
    assert_int_equal(prx_source_next(source, &sample), 1);
    assert_string_equal(sample.key, "b");
    assert_int_equal(prx_sample_load(&sample), PRX_ENOENT);
    assert_int_equal(prx_source_next(source, &sample), 0);
    prx_sample_release(&sample);
    prx_source_close(source);
}

static char *plan_of(const char *word, int rank, int world)
{
    struct prx_source_opts opts = {.rank = rank, .world = world};
    struct prx_source *source;
    struct prx_str plan = {0};

    assert_int_equal(prx_source_open(&word, 1, &opts, &source), 0);
    assert_int_equal(prx_source_plan(source, &plan), 0);
    prx_source_close(source);
    return plan.bytes;
}

static void test_plan_tells_inputs_apart(void **state)
{
    struct prx_scratch *scratch = *state;
    char *plans[6];

    prx_scratch_puts(scratch, "a.jpg", "1");
    prx_scratch_puts(scratch, "b.jpg", "22");
    plans[0] = plan_of(scratch->root, 0, 0);
    plans[1] = plan_of(scratch->root, 1, 2);
    prx_scratch_puts(scratch, "b.jpg", "333");
    plans[2] = plan_of(scratch->root, 0, 0);
    prx_scratch_puts(scratch, "c.txt", "caption without an image");
    plans[3] = plan_of(scratch->root, 0, 0);
    prx_scratch_puts(scratch, "c.jpg", "22");
    plans[4] = plan_of(scratch->root, 0, 0);
    plans[5] = plan_of(scratch->root, 0, 1);
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < i; k++) {
            int is_same = (k == 2 && i == 3) || (k == 4 && i == 5);
            assert_int_equal(strcmp(plans[i], plans[k]) == 0, is_same);
        }
    for (size_t i = 0; i < 6; i++)
        free(plans[i]);
}

/* t/N.tar for N below @n_shards, each with samples N-0 and N-1. */
static void put_shards(struct prx_scratch *scratch, int n_shards)
{
    for (int i = 0; i < n_shards; i++) {
        struct prx_str tar = {0};
        char name[64];
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof(name), "%d-%d.jpg", i, k);
            prx_tar_add(&tar, name, "J", 1, NULL);
        }
        prx_tar_end(&tar);
        snprintf(name, sizeof(name), "t/%03d.tar", i);
        prx_scratch_put(scratch, name, tar.bytes, tar.n_bytes);
        prx_str_release(&tar);
    }
}

static void test_words(void **state)
{
    struct prx_scratch *scratch = *state;

    put_shards(scratch, 3);
    expect(prx_scratch_path(scratch, "t/001.tar"), NULL, "1-0(jpg) 1-1(jpg)");
    expect(prx_scratch_path(scratch, "t/{001..002}.tar"), NULL,
           "1-0(jpg) 1-1(jpg) 2-0(jpg) 2-1(jpg)");
    expect(prx_scratch_path(scratch, "t/*.tar"), NULL,
           "0-0(jpg) 0-1(jpg) 1-0(jpg) 1-1(jpg) 2-0(jpg) 2-1(jpg)");
    expect(prx_scratch_path(scratch, "t/{002,00[01]}.tar"), NULL,
           "2-0(jpg) 2-1(jpg) 0-0(jpg) 0-1(jpg) 1-0(jpg) 1-1(jpg)");

    prx_scratch_puts(scratch, "d/x.jpg", "1");
    const char *words[] = {
        prx_scratch_path(scratch, "t/002.tar"),
        prx_scratch_path(scratch, "d"),
        prx_scratch_path(scratch, "t/000.tar"),
    };
    char *got = read_words(words, 3, NULL);
    assert_string_equal(got, "2-0(jpg) 2-1(jpg) x(jpg) 0-0(jpg) 0-1(jpg)");
    free(got);

    /* What is there is meant, whatever its name looks like. */
    struct prx_str tar = {0};
    prx_tar_add(&tar, "odd.jpg", "J", 1, NULL);
    prx_tar_end(&tar);
    prx_scratch_put(scratch, "{1,2}[x].tar", tar.bytes, tar.n_bytes);
    prx_str_release(&tar);
    expect(prx_scratch_path(scratch, "{1,2}[x].tar"), NULL, "odd(jpg)");
}

static void test_words_refused(void **state)
{
    static const struct {
        const char *word;
        int want;
        const char *why;
    } rows[] = {
        {"lmdb:/nonexistent/x", PRX_ENOENT, "/nonexistent/x"},
        {"lmdb:/etc", PRX_ENOENT, "there is no data.mdb"},
        {"gopher://h/x.tar", PRX_EINVAL, "gopher: are not read by this build"},
        {"http:///x.tar", PRX_EINVAL, "a URL without a host"},
        {"pipe:cat x", PRX_EINVAL, "only if it stands on the command line"},
        {"/nonexistent/x.tar", PRX_ENOENT, "/nonexistent/x.tar"},
        {"/nonexistent/*.tar", PRX_ENOENT, "no file matches"},
        {"/nonexistent/{0..1}.tar", PRX_ENOENT, "/nonexistent/0.tar"},
        {"{0..99999999}.tar", PRX_EINVAL, "more than"},
        {"", PRX_EINVAL, "empty"},
        {"/etc/passwd", PRX_EINVAL, "not a source"},
    };
    struct prx_source *source;

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        assert_int_equal(prx_source_open(&rows[i].word, 1, NULL, &source),
                         rows[i].want);
        assert_non_null(strstr(prx_err_message(), rows[i].why));
    }
    const char *twice[] = {"-", "-"};
    assert_int_equal(prx_source_open(twice, 2, NULL, &source), PRX_EINVAL);
    assert_int_equal(prx_source_open(NULL, 0, NULL, &source), PRX_EINVAL);
    struct prx_source_opts opts = {.rank = 2, .world = 2};
    assert_int_equal(prx_source_open(twice, 1, &opts, &source), PRX_EINVAL);
}

/* Every sample comes to exactly one rank, whatever the world. */
static void test_ranks(void **state)
{
    struct prx_scratch *scratch = *state;

    put_shards(scratch, 5);
    prx_scratch_puts(scratch, "t/x.jpg", "1");
    for (int is_folder = 0; is_folder <= 1; is_folder++) {
        for (int world = 1; world <= 12; world++) {
            int n_seen[5][2] = {0};
            for (int rank = 0; rank < world; rank++) {
                struct prx_source_opts opts = {.rank = rank, .world = world};
                const char *words[] = {prx_scratch_path(scratch, "t/*.tar"),
                                       prx_scratch_path(scratch, "t")};
                char *got = read_words(words, is_folder ? 2 : 1, &opts);
                for (char *p = got; (p = strchr(p, '-')); p++)
                    n_seen[p[-1] - '0'][p[1] - '0']++;
                free(got);
            }
            for (int i = 0; i < 10; i++)
                assert_int_equal(n_seen[i / 2][i % 2], 1);
        }
    }
    struct prx_source_opts opts = {.rank = 1, .world = 2};
    expect(prx_scratch_path(scratch, "t/*.tar"), &opts,
           "1-0(jpg) 1-1(jpg) 3-0(jpg) 3-1(jpg)");
    opts.world = 6;
    expect(prx_scratch_path(scratch, "t/*.tar"), &opts, "0-1(jpg) 3-1(jpg)");
}

static void test_index(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_index index = {0}, again = {0};
    struct prx_source *source;
    json_t *extra = json_pack("{si si}", "answer", 42, "samples", 999);

    put_shards(scratch, 2);
    for (int i = 0; i < 2; i++) {
        struct prx_shard shard = {
            .name = i ? (char[]){"001.tar"} : (char[]){"000.tar"},
            .n_samples = 2,
            .n_bytes = 3072,
            .n_rejected = (uint64_t)i,
        };
        memset(shard.xxh128, '0' + i, 32);
        assert_int_equal(prx_index_add(&index, &shard), 0);
    }
    memset(index.plan, 'p', 32);
    const char *path = prx_scratch_path(scratch, "t/index.json");
    assert_int_equal(
        prx_index_write(path, &index, PRX_INDEX_WIDS, "test 1", extra, true), 0);
    assert_int_equal(prx_index_read(path, &again), 0);
    assert_true(again.is_ours);
    assert_string_equal(again.plan, index.plan);
    assert_int_equal(again.n_shards, 2);
    assert_int_equal(again.n_samples, 4);
    assert_int_equal(again.n_rejected, 1);
    assert_int_equal(again.n_bytes, 6144);
    assert_string_equal(again.shards[1].name, "001.tar");
    assert_string_equal(again.shards[1].xxh128, index.shards[1].xxh128);
    expect(path, NULL, "0-0(jpg) 0-1(jpg) 1-0(jpg) 1-1(jpg)");
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    assert_int_equal(prx_source_total(source), 4);
    prx_source_close(source);
    prx_index_cut(&again, 1);
    assert_int_equal(again.n_samples, 2);
    prx_index_release(&again);
    prx_index_release(&index);
    json_decref(extra);

    static const struct {
        const char *text;
        int want;
    } rows[] = {
        {"", PRX_ECORRUPT},
        {"{}", PRX_EFORMAT},
        {"[]", PRX_EFORMAT},
        {"{\"shardlist\": [{}]}", PRX_ECORRUPT},
        {"{\"shardlist\": [{\"url\": \"000.tar\", \"nsamples\": -1}]}", PRX_ECORRUPT},
        {"{\"shardlist\": [{\"url\": \"/etc/passwd\"}]}", PRX_EINVAL},
        {"{\"shardlist\": [{\"url\": \"../x.tar\"}]}", PRX_EINVAL},
        {"{\"shardlist\": [{\"url\": \"http://h/x.tar\"}]}", PRX_EINVAL},
        {"{\"shardlist\": [{\"url\": \"gone.tar\"}]}", PRX_ENOENT},
    };
    for (size_t i = 0; i < N_OF(rows); i++) {
        path = prx_scratch_puts(scratch, "t/index.json", rows[i].text);
        assert_int_equal(prx_source_open(&path, 1, NULL, &source), rows[i].want);
        assert_non_null(strstr(prx_err_message(), "t/index.json"));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_folder),
        TEST(test_folder_faults),
        TEST(test_folder_loops),
        TEST(test_folder_is_a_snapshot),
        TEST(test_plan_tells_inputs_apart),
        TEST(test_words),
        TEST(test_words_refused),
        TEST(test_ranks),
        TEST(test_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
