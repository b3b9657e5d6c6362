/* SPDX-License-Identifier: Apache-2.0 */
/* LMDB sinks: entries, maps that grow, names, resuming, what is there already. */
#include "libdata/sink.h"

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

#include "libdata/index.h"
#include "libdata/outfile.h"
#include "libdata/sink/sink_internal.h"
#include "tests/lib/made.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tell.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* More than two batches of 256; a seventh of them is rejected. */
enum { N_SAMPLES = 700 };

static char word[600];
static const char *path; /* of word */

static int open_scratch(void **state)
{
    static struct prx_scratch scratch;
    prx_scratch_open(&scratch);
    snprintf(word, sizeof(word), "lmdb:%s/out", scratch.root);
    path = word + strlen("lmdb:");
    *state = &scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

static void expect_names(const char *folder, const char *want)
{
    char *got = prx_scratch_names(folder);
    assert_string_equal(got, want);
    free(got);
}

static void expect_entries(const char *want)
{
    char *got = prx_tell_lmdb(path);
    assert_string_equal(got, want);
    free(got);
}

/* What a run that is not stopped writes. */
static char *write_straight(struct prx_sink_totals *totals)
{
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};

    assert_int_equal(prx_made_write(word, &opts, N_SAMPLES, totals), 0);
    char *entries = prx_tell_lmdb(path);
    prx_scratch_remove(path);
    return entries;
}

/* Sizes of files may differ after a kill; what is in them may not. */
static void expect_totals(const struct prx_sink_totals *got,
                          const struct prx_sink_totals *want)
{
    assert_int_equal(got->n_samples, want->n_samples);
    assert_int_equal(got->n_rejected, want->n_rejected);
    assert_int_equal(got->n_shards, 1);
}

static void test_entries(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.plan = "p", .tool = "test 1"};
    struct prx_sink_totals totals;
    struct prx_index index = {0};
    struct stat st;

    assert_int_equal(prx_made_write(word, &opts, 3, &totals), 0);
    expect_names(path, "data.mdb index.json lock.mdb ");
    char *got = prx_tell_source(scratch, path, NULL);
    const char *line = got;
    for (int i = 0; i < 3; i++) {
        int n_used = 0;
        char want[32];
        snprintf(want, sizeof(want), "k%03d: jpg=j", i);
        assert_memory_equal(line, want, strlen(want));
        line = strstr(line, " txt=");
        assert_non_null(line);
        sscanf(line, " txt=%*[^\n]%n", &n_used);
        assert_int_equal(i > 0 ? n_used : 5, 5 + i);
        line += (i > 0 ? n_used : 5) + 1;
    }
    free(got);
    got = prx_tell_lmdb(path);
    assert_memory_equal(got, "k000.jpg 700 ", 13);
    assert_non_null(strstr(got, "\nk002.txt 2 "));
    free(got);
    const char *index_path = prx_scratch_path(scratch, "out/index.json");
    assert_int_equal(prx_index_read(index_path, &index), 0);
    assert_int_equal(stat(prx_scratch_path(scratch, "out/data.mdb"), &st), 0);
    assert_int_equal(index.n_shards, 1);
    assert_string_equal(index.shards[0].name, "data.mdb");
    assert_int_equal(index.shards[0].n_samples, 3);
    assert_int_equal(index.n_samples, 3);
    assert_int_equal(index.n_bytes, st.st_size);
    assert_int_equal(totals.n_bytes, st.st_size);
    prx_index_release(&index);

    struct prx_source *source;
    assert_int_equal(prx_source_open(&index_path, 1, NULL, &source), 0);
    assert_int_equal(prx_source_total(source), 3);
    prx_source_close(source);
}

/* From a map that holds nothing: it grows in puts, and in commits. */
static void test_map_grows(void **state)
{
    static const size_t sizes[] = {0, 1, 2000, 2001, 4096, 70000, 3000000};
    struct prx_sink_opts opts = {.no_sync = true};
    struct prx_sink_totals totals;
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    (void)state;
    assert_int_equal(prx_sink_lmdb_open_room(word, &opts, 1, &n_done, &sink), 0);
    for (int i = 0; i < 140; i++) {
        char key[32];
        prx_sample_reset(&sample);
        snprintf(key, sizeof(key), "%d", i * 37 % 140);
        assert_int_equal(prx_sample_set_key(&sample, key), 0);
        sample.serial = (uint64_t)i;
        prx_made_field(&sample, "jpg", sizes[(size_t)i % N_OF(sizes)]);
        prx_made_field(&sample, "txt", (size_t)i);
        assert_int_equal(prx_sink_put(sink, &sample), 0);
        assert_null(sample.reject_reason);
    }
    prx_sample_release(&sample);
    assert_int_equal(prx_sink_finish(sink, NULL, &totals), 0);
    assert_int_equal(totals.n_samples, 140);
    char *got = prx_tell_lmdb(path);
    size_t n_lines = 0, n_bytes = 0;
    for (const char *line = got; *line; line = strchr(line, '\n') + 1, n_lines++)
        n_bytes += strtoul(strchr(line, ' '), NULL, 10);
    assert_int_equal(n_lines, 280);
    assert_int_equal(n_bytes, 20 * (1 + 2000 + 2001 + 4096 + 70000 + 3000000) +
                                  139 * 140 / 2);
    free(got);
}

static void put_one(struct prx_sink *sink, const char *key, const char *field,
                    const char *want_reject)
{
    static uint64_t serial;
    struct prx_sample sample = {.serial = serial++};

    assert_int_equal(prx_sample_set_key(&sample, key), 0);
    prx_made_field(&sample, field, 5);
    prx_made_field(&sample, "z", 5);
    assert_int_equal(prx_sink_put(sink, &sample), 0);
    if (!want_reject)
        assert_null(sample.reject_reason);
    else
        assert_non_null(strstr(sample.reject_reason, want_reject));
    prx_sample_release(&sample);
}

static void test_names(void **state)
{
    static const char same[] = "same key is there";
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true};
    struct prx_sink_totals totals;
    struct prx_sink *sink;
    uint64_t n_done;
    char key[600];

    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    memset(key, 'k', sizeof(key));
    key[511 - 4] = '\0';
    put_one(sink, key, "jpg", NULL);
    key[511 - 4] = 'k', key[511 - 3] = '\0';
    put_one(sink, key, "jpg", "a name of 512 bytes, and LMDB takes 511");
    put_one(sink, "a.k/b", "jpg", NULL);
    put_one(sink, "a.k/c", "jpg", NULL);
    put_one(sink, "a.l/b", "jpg", NULL);
    put_one(sink, "a", "jpg", NULL);
    put_one(sink, "a", "jpg", same);
    put_one(sink, "a", "other", same);
    put_one(sink, "a.k/b", "a", same);
    put_one(sink, "a/b-c", "jpg", NULL);
    put_one(sink, "a/b", "jpg", NULL);
    put_one(sink, "a.k/b.c/d", "jpg", NULL);
    put_one(sink, "a.z/b", "jpg", NULL);
    put_one(sink, "a.z/b", "png", same);
    put_one(sink, "a.k", "jpg", NULL); /* no source gives such a key */
    put_one(sink, "__prx_", "jpg", NULL);
    assert_int_equal(prx_sink_finish(sink, NULL, &totals), 0);
    assert_int_equal(totals.n_samples, 11);
    assert_int_equal(totals.n_rejected, 5);
    char *got = prx_tell_source(scratch, path, NULL);
    assert_non_null(strstr(got, "\na.k/b: jpg="));
    assert_null(strchr(got, '!'));
    free(got);
}

static int count_reject(void *ctx, const char *key, const char *stage,
                        const char *reason, const char *origin)
{
    int *n_rejects = ctx;
    char want[32];
    (void)origin;

    snprintf(want, sizeof(want), "k%03d", 7 * *n_rejects + 6);
    assert_string_equal(key, want);
    assert_string_equal(stage, "test");
    assert_string_equal(reason, "seventh");
    ++*n_rejects;
    return 0;
}

/* Go on with what is there; the end is that of the straight run. */
static uint64_t resume(const char *want_entries, const struct prx_sink_totals *want)
{
    struct prx_sink_opts opts = {
        .exists = PRX_SINK_RESUME, .no_sync = true, .plan = "p"};
    char *names = prx_scratch_names(path);
    struct prx_sink_totals totals;
    struct prx_sink *sink;
    uint64_t n_done;
    int n_rejects = 0;
    bool was_finished = strstr(names, "index.json") != NULL;

    free(names);
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    assert_int_equal(prx_sink_each_reject(sink, count_reject, &n_rejects), 0);
    assert_int_equal(n_rejects, was_finished ? 0 : n_done / 7);
    assert_int_equal(prx_made_put(sink, n_done, N_SAMPLES), 0);
    assert_int_equal(prx_sink_finish(sink, NULL, &totals), 0);
    expect_totals(&totals, want);
    expect_entries(want_entries);
    expect_names(path, "data.mdb index.json lock.mdb ");
    return n_done;
}

/* In a process that then is gone: no abort, nothing is tidied up. */
static void put_and_die(uint64_t n_samples)
{
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
    int status;

    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct prx_sink *sink;
        uint64_t n_done;
        if (prx_sink_open(word, &opts, &n_done, &sink) < 0 ||
            prx_made_put(sink, 0, n_samples) < 0)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_resume(void **state)
{
    static const uint64_t stops[] = {0, 1, 6, 255, 256, 257, 511, 512, 513, N_SAMPLES};
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
    struct prx_sink_totals totals;
    char *entries = write_straight(&totals);

    (void)state;
    for (size_t i = 0; i < N_OF(stops); i++) {
        for (int is_killed = 0; is_killed <= 1; is_killed++) {
            struct prx_sink *sink;
            uint64_t n_done;
            if (is_killed) {
                put_and_die(stops[i]);
            } else {
                assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
                assert_int_equal(prx_made_put(sink, 0, stops[i]), 0);
                prx_sink_abort(sink);
                if (stops[i] < 256)
                    expect_names(path, "");
            }
            assert_int_equal(resume(entries, &totals), stops[i] / 256 * 256);
            assert_int_equal(resume(entries, &totals), N_SAMPLES);
            prx_scratch_remove(path);
        }
    }
    free(entries);
}

/* Killed when everything is in the environment, but before there is an index. */
static void test_resume_before_index(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_totals totals;
    char *entries = write_straight(&totals);

    prx_scratch_puts(scratch, "out/.in-the-way", "");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
        struct prx_sink *sink;
        uint64_t n_done;
        if (prx_sink_open(word, &opts, &n_done, &sink) < 0 ||
            prx_made_put(sink, 0, N_SAMPLES) < 0 ||
            prx_mkdirs(prx_scratch_path(scratch, "out/index.json/x")) < 0)
            _exit(1);
        _exit(prx_sink_finish(sink, NULL, NULL) < 0 ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    prx_scratch_remove(prx_scratch_path(scratch, "out/index.json"));
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/.in-the-way")), 0);
    expect_entries(entries);
    assert_int_equal(resume(entries, &totals), N_SAMPLES);
    free(entries);
}

/* The journal may be ahead of the environment, which then is what counts. */
static void test_resume_from_what_is_committed(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_totals totals;
    char *entries = write_straight(&totals);
    struct prx_buf *journal;

    put_and_die(600);
    const char *journal_path = prx_scratch_path(scratch, "out/.prx-journal");
    assert_int_equal(prx_file_get(journal_path, 1 << 20, &journal), 0);
    prx_scratch_remove(path);
    put_and_die(300);
    prx_scratch_put(scratch, "out/.prx-journal", journal->bytes, journal->n_bytes);
    assert_int_equal(resume(entries, &totals), 256);

    /* Data that has gone, or is none, settles nothing. */
    for (int i = 0; i < 3; i++) {
        prx_scratch_remove(path);
        put_and_die(600);
        const char *file = prx_scratch_path(scratch, "out/data.mdb");
        assert_int_equal(i == 0 ? unlink(file) : truncate(file, i == 1 ? 0 : 5000), 0);
        assert_int_equal(resume(entries, &totals), 0);
    }
    prx_buf_unref(journal);
    free(entries);
}

static void test_what_is_there(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true, .plan = "p"};
    struct prx_sink_totals totals;
    struct prx_sink *sink, *second;
    uint64_t n_done;

    assert_int_equal(prx_made_write(word, &opts, 20, NULL), 0);
    char *before = prx_scratch_list(path);
    assert_int_equal(prx_made_write(word, &opts, 20, NULL), PRX_EEXIST);
    opts.exists = PRX_SINK_RESUME;
    assert_int_equal(prx_made_write(word, &opts, 20, &totals), 0);
    assert_int_equal(totals.n_samples, 18);
    assert_int_equal(prx_made_write(word, &opts, 21, NULL), PRX_EEXIST);
    opts.plan = "q";
    assert_int_equal(prx_made_write(word, &opts, 20, NULL), PRX_EEXIST);
    char *after = prx_scratch_list(path);
    assert_string_equal(before, after);
    free(before);
    free(after);

    opts.exists = PRX_SINK_OVERWRITE;
    struct prx_source *source;
    assert_int_equal(prx_source_open(&path, 1, NULL, &source), 0);
    opts.source = source;
    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "is read here"));
    prx_source_close(source);
    opts.source = NULL;
    assert_int_equal(prx_made_write(word, &opts, 5, &totals), 0);
    assert_int_equal(totals.n_samples, 5);
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/index.json")), 0);
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "no index names it"));
    opts.exists = PRX_SINK_RESUME;
    assert_int_equal(prx_made_write(word, &opts, 5, NULL), PRX_EEXIST);
    prx_scratch_remove(path);

    for (int exists = PRX_SINK_REFUSE; exists <= PRX_SINK_RESUME; exists++) {
        opts.exists = (enum prx_sink_exists)exists;
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
        assert_int_equal(prx_made_put(sink, 0, 300), 0);
        assert_int_equal(prx_sink_open(word, &opts, &n_done, &second), PRX_EEXIST);
        assert_non_null(strstr(prx_err_message(), "in use"));
        assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
        prx_scratch_remove(path);
    }

    /* An unfinished one of ours is overwritten. */
    put_and_die(300);
    opts.exists = PRX_SINK_OVERWRITE;
    assert_int_equal(prx_made_write(word, &opts, 5, &totals), 0);
    assert_int_equal(totals.n_samples, 5);
}

static void test_nothing(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_sink_opts opts = {.no_sync = true};
    struct prx_sink_totals totals;
    struct prx_sample sample = {0};
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(prx_made_write(word, &opts, 0, &totals), 0);
    assert_int_equal(totals.n_samples, 0);
    expect_entries("");
    char *got = prx_tell_source(scratch, path, NULL);
    assert_string_equal(got, "");
    free(got);
    prx_scratch_remove(path);

    assert_int_equal(prx_sink_open(word, &opts, &n_done, &sink), 0);
    for (uint64_t i = 0; i < 300; i++) {
        prx_made_sample(&sample, i);
        prx_sample_reject(&sample, "test", "all of them");
        assert_int_equal(prx_sink_put(sink, &sample), 0);
    }
    prx_sample_release(&sample);
    assert_int_equal(prx_sink_finish(sink, NULL, &totals), 0);
    assert_int_equal(totals.n_rejected, 300);
    expect_entries("");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_entries),
        TEST(test_map_grows),
        TEST(test_names),
        TEST(test_resume),
        TEST(test_resume_before_index),
        TEST(test_resume_from_what_is_committed),
        TEST(test_what_is_there),
        TEST(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
