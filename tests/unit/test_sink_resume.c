/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks that find something there: refused, overwritten, resumed, in use. */
#include "libdata/sink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

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

static void expect_names(const char *path, const char *want)
{
    char *got = prx_scratch_names(path);
    assert_string_equal(got, want);
    free(got);
}

static void test_refused_and_overwritten(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {
        .n_shard_samples_max = 4, .no_sync = true, .plan = "p"};
    const char *folder = prx_scratch_path(scratch, "out");
    const char *word = prx_scratch_path(scratch, "out/%03d.tar");
    struct prx_sink_totals totals;

    assert_int_equal(prx_made_write(word, &opts, 12, NULL), 0);
    char *before = prx_scratch_list(folder);
    assert_int_equal(prx_made_write(word, &opts, 12, NULL), PRX_EEXIST);
    opts.exists = PRX_SINK_RESUME;
    opts.plan = "q";
    assert_int_equal(prx_made_write(word, &opts, 12, NULL), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "another plan"));
    opts.plan = "p";
    opts.n_shard_samples_max = 5;
    assert_int_equal(prx_made_write(word, &opts, 12, NULL), PRX_EEXIST);
    opts.n_shard_samples_max = 4;
    /* The same again: all is done, nothing is touched. */
    assert_int_equal(prx_made_write(word, &opts, 12, &totals), 0);
    assert_int_equal(totals.n_samples, 11);
    assert_int_equal(totals.n_shards, 3);
    assert_int_equal(prx_made_write(word, &opts, 13, &totals), PRX_EEXIST);
    char *after = prx_scratch_list(folder);
    assert_string_equal(before, after);
    free(before);
    free(after);

    /* Overwriting takes away what the index names, and nothing else. */
    opts.exists = PRX_SINK_OVERWRITE;
    prx_scratch_puts(scratch, "out/notes.txt", "mine");
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), 0);
    expect_names(prx_scratch_path(scratch, "out"),
                 "000.idx 000.tar 001.idx 001.tar index.json notes.txt ");
    prx_scratch_puts(scratch, "out/007.tar", "mine");
    word = prx_scratch_path(scratch, "out/%03d.tar");
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "007.tar"));
    expect_names(prx_scratch_path(scratch, "out"),
                 "000.idx 000.tar 001.idx 001.tar 007.tar index.json notes.txt ");
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/007.tar")), 0);
    prx_scratch_puts(scratch, "out/index.json", "{\"shardlist\": []}");
    word = prx_scratch_path(scratch, "out/%03d.tar");
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "not written by this suite"));

    /* Finished, but a shard has gone: say so rather than call it done. */
    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    opts.exists = PRX_SINK_RESUME;
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), 0);
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/000.tar")), 0);
    word = prx_scratch_path(scratch, "out/%03d.tar");
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), PRX_ECORRUPT);
}

/* Overwriting what this very run reads would destroy it. */
static void test_inputs_are_spared(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.n_shard_samples_max = 4, .no_sync = true};
    char *shards = strdup(prx_scratch_path(scratch, "out/%d.tar"));
    const char *index, *folder;
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_made_write(shards, &opts, 12, NULL), 0);
    prx_scratch_puts(scratch, "in/a/x.jpg", "1");
    char *before = prx_scratch_list(scratch->root);
    struct prx_source *tars, *files;
    index = prx_scratch_path(scratch, "out/index.json");
    assert_int_equal(prx_source_open(&index, 1, NULL, &tars), 0);
    folder = prx_scratch_path(scratch, "in");
    assert_int_equal(prx_source_open(&folder, 1, NULL, &files), 0);

    static const struct {
        const char *name;
        int is_refused_for_tars, is_refused_for_files;
    } rows[] = {
        {"out/%d.tar", 1, 0},
        {"in/", 0, 1},
        {"in/a/", 0, 1},
        {"./", 1, 1},
        {"out/", 1, 0},
        {"new/", 0, 0},
        {"in/%d.tar", 0, 0},
    };
    opts.exists = PRX_SINK_OVERWRITE;
    for (size_t i = 0; i < N_OF(rows); i++) {
        const char *word = prx_scratch_path(scratch, rows[i].name);
        for (int is_tars = 0; is_tars <= 1; is_tars++) {
            opts.source = is_tars ? tars : files;
            if (!(is_tars ? rows[i].is_refused_for_tars : rows[i].is_refused_for_files))
                continue;
            assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EEXIST);
            assert_non_null(strstr(prx_err_message(), "is read here"));
        }
    }
    char *after = prx_scratch_list(scratch->root);
    assert_string_equal(before, after);
    for (size_t i = N_OF(rows) - 2; i < N_OF(rows); i++) {
        const char *word = prx_scratch_path(scratch, rows[i].name);
        opts.source = files;
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        prx_sink_abort(sink);
    }
    prx_source_close(tars);
    prx_source_close(files);
    free(before);
    free(after);
    free(shards);
}

static int count_reject(void *ctx, const char *key, const char *stage,
                        const char *reason, const char *origin)
{
    int *n_rejects = ctx;
    char want[32];

    snprintf(want, sizeof(want), "k%03d", 7 * *n_rejects + 6);
    assert_string_equal(key, want);
    assert_string_equal(stage, "test");
    assert_string_equal(reason, "seventh");
    assert_string_equal(origin, "made.tar");
    ++*n_rejects;
    return 0;
}

/* Stop after n samples, for every n; go on; the tree is as if never stopped. */
static void test_resume_after_abort(void **state)
{
    struct prx_scratch *scratch = *state;
    /* Of 26 samples shards of 4 leave half a shard, which stays as it is, and shards
     * of 5 one sample, which the last two share.  Two shards may have to be done
     * again: 8 or 10 samples, and the rejects among them. */
    static const struct {
        const char *word;
        uint64_t n_shard_samples_max, n_again_max;
    } rows[] = {
        {"%s/out/%%03d.tar", 4, 8 + 2},
        {"%s/out/%%03d.tar", 5, 10 + 2},
        {"%s/out/", 4, 0},
    };
    enum { N_SAMPLES = 30 };

    for (size_t i_row = 0; i_row < N_OF(rows); i_row++) {
        const uint64_t n_max = rows[i_row].n_shard_samples_max;
        struct prx_sink_opts opts = {.exists = PRX_SINK_RESUME,
                                     .n_shard_samples_max = n_max,
                                     .no_sync = true,
                                     .plan = "p"};
        struct prx_sink_totals whole, resumed;
        struct prx_str word = {0};

        assert_int_equal(prx_str_puts(&word, scratch->root), 0);
        assert_int_equal(prx_str_puts(&word, rows[i_row].word + 2), 0);
        char *percent = strstr(word.bytes, "%%");
        if (percent)
            memmove(percent, percent + 1, strlen(percent));
        assert_int_equal(prx_made_write(word.bytes, &opts, N_SAMPLES, &whole), 0);
        char *want = prx_scratch_list(prx_scratch_path(scratch, "out"));
        for (uint64_t n = 0; n <= N_SAMPLES; n++) {
            struct prx_sink *sink;
            uint64_t n_done = 99;
            int n_rejects = 0;
            prx_scratch_remove(prx_scratch_path(scratch, "out"));
            assert_int_equal(prx_sink_open(word.bytes, &opts, &n_done, &sink), 0);
            assert_int_equal(n_done, 0);
            assert_int_equal(prx_made_put(sink, 0, n), 0);
            prx_sink_abort(sink);
            assert_int_equal(prx_sink_open(word.bytes, &opts, &n_done, &sink), 0);
            assert_true(n_done <= n);
            assert_true(n_done + rows[i_row].n_again_max >= n);
            assert_int_equal(prx_sink_each_reject(sink, count_reject, &n_rejects), 0);
            assert_int_equal(n_rejects, n_done / 7);
            assert_int_equal(prx_made_put(sink, n_done, N_SAMPLES), 0);
            assert_int_equal(prx_sink_finish(sink, NULL, &resumed), 0);
            assert_memory_equal(&resumed, &whole, sizeof(whole));
            char *got = prx_scratch_list(prx_scratch_path(scratch, "out"));
            assert_string_equal(got, want);
            free(got);
        }
        free(want);
        prx_str_release(&word);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
}

/* All is complete, but the run ends before its rejects are told: they still can be. */
static void test_resume_before_close(void **state)
{
    struct prx_scratch *scratch = *state;
    static const char *const words[] = {"out/%d.tar", "out/x.tar", "out/"};

    for (size_t i = 0; i < N_OF(words); i++) {
        struct prx_sink_opts opts = {.exists = PRX_SINK_RESUME,
                                     .n_shard_samples_max = 4,
                                     .no_sync = true,
                                     .plan = "p"};
        char *word = strdup(prx_scratch_path(scratch, words[i]));
        struct prx_sink *sink;
        uint64_t n_done;

        assert_int_equal(prx_made_write(word, &opts, 15, NULL), 0);
        char *want = prx_scratch_list(scratch->root);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        assert_int_equal(prx_made_put(sink, 0, 15), 0);
        assert_int_equal(prx_sink_complete(sink, NULL, NULL), 0);
        prx_sink_abort(sink);
        for (int is_last = 0; is_last <= 1; is_last++) {
            int n_rejects = 0;
            assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
            assert_int_equal(n_done, 15);
            assert_int_equal(prx_sink_each_reject(sink, count_reject, &n_rejects), 0);
            assert_int_equal(n_rejects, 2);
            assert_int_equal(prx_sink_complete(sink, NULL, NULL), 0);
            if (!is_last)
                prx_sink_abort(sink);
        }
        assert_int_equal(prx_sink_close(sink), 0);
        char *got = prx_scratch_list(scratch->root);
        assert_string_equal(got, want);
        free(got);
        free(want);
        free(word);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
}

/* A sample of which one file is written counts as none, and the run can go on. */
static void test_resume_within_a_sample(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.exists = PRX_SINK_RESUME, .no_sync = true};
    struct prx_sink_totals whole, resumed;
    struct prx_sink *sink;
    uint64_t n_done;

    for (uint64_t n_before = 0; n_before < 3; n_before++) {
        char *word = strdup(prx_scratch_path(scratch, "out/"));
        char name[32];
        assert_int_equal(prx_made_write(word, &opts, 5, &whole), 0);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        assert_int_equal(prx_made_put(sink, 0, n_before), 0);
        /* A folder has the name of the second file of the next sample. */
        snprintf(name, sizeof(name), "out/k%03d.txt/x", (int)n_before);
        const char *path = prx_scratch_puts(scratch, name, "in the way");
        assert_int_equal(prx_made_put(sink, n_before, 5), PRX_EIO);
        prx_sink_abort(sink);
        *strrchr((char *)(uintptr_t)path, '/') = '\0';
        prx_scratch_remove(path);
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        assert_int_equal(n_done, n_before);
        assert_int_equal(prx_made_put(sink, n_done, 5), 0);
        assert_int_equal(prx_sink_finish(sink, NULL, &resumed), 0);
        assert_memory_equal(&resumed, &whole, sizeof(whole));
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        free(word);
    }
}

/* A shard lost between two runs is made again, with what follows it. */
static void test_resume_without_a_shard(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.exists = PRX_SINK_RESUME,
                                 .n_shard_samples_max = 4,
                                 .no_sync = true,
                                 .plan = "p"};
    char *word = strdup(prx_scratch_path(scratch, "out/%d.tar"));
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_made_write(word, &opts, 30, NULL), 0);
    char *want = prx_scratch_list(prx_scratch_path(scratch, "out"));
    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    assert_int_equal(prx_made_put(sink, 0, 22), 0);
    prx_sink_abort(sink);
    prx_scratch_puts(scratch, "out/2.tar", "short");
    prx_scratch_puts(scratch, "out/.4.tar.tmp.123", "left by a killed run");
    prx_scratch_puts(scratch, "out/.other.tar.tmp.123", "not ours");
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    assert_int_equal(n_done, 9); /* 4 + 4 samples, and the reject among them */
    assert_int_equal(prx_made_put(sink, n_done, 30), 0);
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/.other.tar.tmp.123")), 0);
    char *got = prx_scratch_list(prx_scratch_path(scratch, "out"));
    assert_string_equal(got, want);
    free(got);
    free(want);
    free(word);
}

/* Killed between the .idx of the first shard and its tar; then stopped in vain. */
static void test_resume_again_and_again(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.exists = PRX_SINK_RESUME,
                                 .n_shard_samples_max = 4,
                                 .no_sync = true,
                                 .plan = "p"};
    char *word = strdup(prx_scratch_path(scratch, "out/%d.tar"));
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_made_write(word, &opts, 10, NULL), 0);
    char *want = prx_scratch_list(prx_scratch_path(scratch, "out"));
    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    pid_t child = fork();
    if (child == 0) {
        int rc = prx_sink_open(word, &opts, &n_done, &sink);
        _exit(rc < 0 || prx_made_put(sink, 0, 2) < 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    prx_scratch_puts(scratch, "out/0.idx", "v1.2 4\n");
    for (int i = 0; i < 4; i++) {
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        assert_int_equal(n_done, 0);
        prx_sink_abort(sink);
    }
    assert_int_equal(prx_made_write(word, &opts, 10, NULL), 0);
    char *got = prx_scratch_list(prx_scratch_path(scratch, "out"));
    assert_string_equal(got, want);
    free(got);
    free(want);
    free(word);
}

static void test_two_writers(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
    struct prx_sink *first, *second;
    uint64_t n_done;

    for (int exists = PRX_SINK_REFUSE; exists <= PRX_SINK_RESUME; exists++) {
        const char *word = prx_scratch_path(scratch, "out/%d.tar");
        opts.exists = (enum prx_sink_exists)exists;
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &first), 0);
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &second), PRX_EEXIST);
        assert_non_null(strstr(prx_err_message(), "in use"));
        assert_int_equal(prx_made_put(first, 0, 3), 0);
        assert_int_equal(prx_sink_finish(first, NULL, NULL), 0);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_refused_and_overwritten),
        TEST(test_inputs_are_spared),
        TEST(test_resume_after_abort),
        TEST(test_resume_before_close),
        TEST(test_resume_within_a_sample),
        TEST(test_resume_without_a_shard),
        TEST(test_resume_again_and_again),
        TEST(test_two_writers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
