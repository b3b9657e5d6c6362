/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline.h: order, the same bytes for any number of threads, failures, kills. */
#include "libdata/pipeline.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/rng.h"
#include "tests/lib/scratch.h"

enum { N_SAMPLES = 120 };

static int open_scratch(void **state)
{
    static struct prx_scratch scratch;
    struct prx_rng rng;
    char name[64];

    prx_scratch_open(&scratch);
    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, 0);
    for (int i = 0; i < N_SAMPLES; i++) {
        uint32_t words[3000];
        size_t n_bytes = 4 * prx_rng_below(&rng, 3000) + 1;
        for (size_t k = 0; k < 3000; k++)
            words[k] = prx_rng_u32(&rng);
        snprintf(name, sizeof(name), "in/%d/%03d.jpg", i % 3, i);
        prx_scratch_put(&scratch, name, words, n_bytes);
        snprintf(name, sizeof(name), "in/%d/%03d.json", i % 3, i);
        prx_scratch_puts(&scratch, name, "{\"z\":1, \"a\": 2}");
    }
    *state = &scratch;
    return 0;
}

static int close_scratch(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

/* A stage that touches everything, takes uneven time, and rejects or fails. */
struct touch {
    int reject_each; /* serials that divide by it; 0: none */
    uint64_t fail_at;
    int is_slow;
    atomic_int n_scratches;
};

static int touch_scratch(void *ctx, void **out)
{
    atomic_fetch_add(&((struct touch *)ctx)->n_scratches, 1);
    *out = ctx;
    return 0;
}

static void touch_free_scratch(void *scratch)
{
    atomic_fetch_sub(&((struct touch *)scratch)->n_scratches, 1);
}

static int touch_apply(void *ctx, void *scratch, struct prx_sample *sample)
{
    struct touch *touch = ctx;
    struct prx_buf *buf;
    json_t *meta;

    assert_ptr_equal(ctx, scratch);
    if (touch->is_slow) {
        struct timespec nap = {.tv_nsec = (long)(sample->serial * 7919 % 5) * 200000};
        nanosleep(&nap, NULL);
    }
    if (sample->serial >= touch->fail_at)
        return prx_err(PRX_EDEVICE, "stage fails at %d", (int)sample->serial);
    if (touch->reject_each && sample->serial % (uint64_t)touch->reject_each == 0) {
        prx_sample_reject(sample, "touch", "number %d", (int)sample->serial);
        return 0;
    }
    PRX_TRY(prx_sample_meta(sample, &meta));
    json_object_set_new(meta, "serial", json_integer((json_int_t)sample->serial));
    sample->meta_changed = true;
    PRX_TRY(prx_buf_dup("caption", 7, &buf));
    return prx_sample_put(sample, "txt", buf);
}

struct seen {
    uint64_t n_ticks, n_rejects, stop_at;
};

static int see_reject(void *ctx, const struct prx_sample *sample)
{
    (void)sample;
    ((struct seen *)ctx)->n_rejects++;
    return 0;
}

static int see_sample(void *ctx, const struct prx_counts *counts)
{
    struct seen *seen = ctx;
    seen->n_ticks++;
    return seen->stop_at && counts->n_read >= seen->stop_at;
}

struct trial {
    const char *in, *out;
    int n_threads;
    struct touch touch;
    struct seen seen;
    struct prx_counts counts;
    struct prx_sink_totals totals;
    enum prx_sink_exists exists;
};

static int run(struct trial *trial)
{
    struct prx_stage stage = {
        .name = "touch",
        .ctx = &trial->touch,
        .new_scratch = touch_scratch,
        .free_scratch = touch_free_scratch,
        .apply = touch_apply,
    };
    struct prx_sink_opts sink_opts = {.exists = trial->exists,
                                      .n_shard_bytes_max = 100000,
                                      .plan = "p",
                                      .no_sync = true};
    struct prx_pipeline_opts opts = {
        .n_threads = trial->n_threads,
        .n_bytes_max = 65536,
        .on_reject = see_reject,
        .on_sample = see_sample,
        .ctx = &trial->seen,
    };
    struct prx_source *source = NULL;
    struct prx_sink *sink = NULL;
    int rc = 0;

    if (!trial->touch.fail_at)
        trial->touch.fail_at = UINT64_MAX;
    PRX_GO(prx_source_open(&trial->in, 1, NULL, &source));
    PRX_GO(prx_sink_open(trial->out, &sink_opts, &opts.n_skip, &sink));
    rc = prx_pipeline_run(source, &stage, 1, sink, &opts, &trial->counts);
    if (rc < 0)
        prx_sink_abort(sink);
    else
        rc = prx_sink_finish(sink, NULL, &trial->totals);
out:
    prx_source_close(source);
    assert_int_equal(atomic_load(&trial->touch.n_scratches), 0);
    return rc;
}

static void test_same_bytes_for_any_threads(void **state)
{
    static const int n_threads[] = {1, 2, 3, 8, 16};
    struct prx_scratch *scratch = *state;
    char *want = NULL;

    for (size_t i = 0; i < sizeof(n_threads) / sizeof(*n_threads); i++) {
        struct trial trial = {
            .in = prx_scratch_path(scratch, "in"),
            .out = prx_scratch_path(scratch, "out/%03d.tar"),
            .n_threads = n_threads[i],
            .touch = {.reject_each = 10, .is_slow = 1},
        };
        assert_int_equal(run(&trial), 0);
        assert_int_equal(trial.counts.n_read, N_SAMPLES);
        assert_int_equal(trial.counts.n_rejected, N_SAMPLES / 10);
        assert_int_equal(trial.counts.n_written, N_SAMPLES - N_SAMPLES / 10);
        assert_int_equal(trial.totals.n_samples, trial.counts.n_written);
        assert_int_equal(trial.totals.n_rejected, trial.counts.n_rejected);
        assert_int_equal(trial.seen.n_rejects, trial.counts.n_rejected);
        assert_true(trial.seen.n_ticks >= N_SAMPLES);
        assert_true(trial.totals.n_shards > 4);
        char *got = prx_scratch_list(prx_scratch_path(scratch, "out"));
        if (want)
            assert_string_equal(got, want);
        free(want);
        want = got;
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
    }
    free(want);
}

/* From a folder, from its shards, and through shards twice: one stream. */
static void test_shards_carry_the_folder(void **state)
{
    struct prx_scratch *scratch = *state;
    struct trial first = {.in = prx_scratch_path(scratch, "in"),
                          .out = prx_scratch_path(scratch, "a/%d.tar")};
    assert_int_equal(run(&first), 0);
    struct trial second = {.in = prx_scratch_path(scratch, "a/index.json"),
                           .out = prx_scratch_path(scratch, "b/%d.tar")};
    assert_int_equal(run(&second), 0);
    char *a = prx_scratch_list(prx_scratch_path(scratch, "a"));
    char *b = prx_scratch_list(prx_scratch_path(scratch, "b"));
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void test_failures(void **state)
{
    struct prx_scratch *scratch = *state;

    for (int round = 0; round < 5; round++) {
        struct trial trial = {
            .in = prx_scratch_path(scratch, "in"),
            .out = prx_scratch_path(scratch, "out/%03d.tar"),
            .n_threads = 8,
            .touch = {.fail_at = 50, .is_slow = 1},
            .exists = PRX_SINK_OVERWRITE,
        };
        assert_int_equal(run(&trial), PRX_EDEVICE);
        assert_int_equal(trial.counts.n_written, 50);
        assert_non_null(strstr(prx_err_message(), "stage fails at 50"));
    }
    struct trial stopped = {
        .in = prx_scratch_path(scratch, "in"),
        .out = "null:",
        .n_threads = 4,
        .seen = {.stop_at = 30},
    };
    assert_int_equal(run(&stopped), PRX_ECANCELED);
    assert_int_equal(stopped.counts.n_read, 30);
    /* Metadata that is none is its stage's failure here: touch does not reject. */
    prx_scratch_puts(scratch, "in/0/000.json", "[]");
    struct trial corrupt = {.in = prx_scratch_path(scratch, "in"), .out = "null:"};
    assert_int_equal(run(&corrupt), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "0/000: "));
}

static void test_unreadable_files_are_rejects(void **state)
{
    struct prx_scratch *scratch = *state;
    const char *in = prx_scratch_path(scratch, "in");
    struct prx_source *source;
    struct prx_sink *sink;
    struct prx_counts counts;
    uint64_t n_done;

    assert_int_equal(prx_source_open(&in, 1, NULL, &source), 0);
    assert_int_equal(unlink(prx_scratch_path(scratch, "in/0/003.jpg")), 0);
    assert_int_equal(unlink(prx_scratch_path(scratch, "in/2/119.json")), 0);
    assert_int_equal(prx_sink_open("null:", NULL, &n_done, &sink), 0);
    assert_int_equal(prx_pipeline_run(source, NULL, 0, sink, NULL, &counts), 0);
    assert_int_equal(counts.n_read, N_SAMPLES);
    assert_int_equal(counts.n_rejected, 2);
    assert_int_equal(prx_sink_finish(sink, NULL, NULL), 0);
    prx_source_close(source);
}

static int stop_when_idle(void *ctx, const struct prx_counts *counts)
{
    (void)ctx;
    return counts->n_read == 0;
}

/* A reader that waits for a pipe that never speaks can be stopped. */
static void test_silent_pipe(void **state)
{
    const char *fifo = prx_scratch_path(*state, "fifo.tar");
    struct prx_pipeline_opts opts = {.n_threads = 1, .on_sample = stop_when_idle};
    struct prx_source *source;
    struct prx_sink *sink;
    uint64_t n_done;

    assert_int_equal(mkfifo(fifo, 0600), 0);
    int fd = open(fifo, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(prx_source_open(&fifo, 1, NULL, &source), 0);
    assert_int_equal(prx_sink_open("null:", NULL, &n_done, &sink), 0);
    assert_int_equal(prx_pipeline_run(source, NULL, 0, sink, &opts, NULL),
                     PRX_ECANCELED);
    assert_string_equal(prx_err_message(), "interrupted");
    prx_sink_abort(sink);
    prx_source_close(source);
    close(fd);
}

/* Kill -9 anywhere, resume, kill again, ...: the tree of a run never killed. */
static void test_kill_and_resume(void **state)
{
    struct prx_scratch *scratch = *state;
    static const char *const outs[] = {"out/%03d.tar", "out.tar", "out/"};
    struct prx_rng rng;
    int n_kills = 0;

    prx_rng_init(&rng, 2, PRX_RNG_TEST, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        char *in = strdup(prx_scratch_path(scratch, "in"));
        char *out = strdup(prx_scratch_path(scratch, outs[i]));
        struct trial trial = {.in = in,
                              .out = out,
                              .n_threads = 3,
                              .touch = {.reject_each = 9, .is_slow = 1},
                              .exists = PRX_SINK_RESUME};
        struct trial whole = trial;
        assert_int_equal(run(&whole), 0);
        char *want = prx_scratch_list(scratch->root);
        for (int round = 0; round < 4; round++) {
            int status = 1;
            prx_scratch_remove(prx_scratch_path(scratch, "out"));
            unlink(prx_scratch_path(scratch, "out.tar"));
            unlink(prx_scratch_path(scratch, "out.idx"));
            unlink(prx_scratch_path(scratch, "out.index.json"));
            for (int n_tries = 0; status != 0; n_tries++) {
                assert_true(n_tries < 200);
                pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0)
                    _exit(run(&(struct trial){.in = in,
                                              .out = out,
                                              .n_threads = 3,
                                              .touch = trial.touch,
                                              .exists = PRX_SINK_RESUME}) < 0);
                struct timespec nap = {.tv_nsec = (long)prx_rng_below(
                                           &rng, 10000000 + 10000000UL * n_tries)};
                nanosleep(&nap, NULL);
                kill(child, SIGKILL);
                assert_int_equal(waitpid(child, &status, 0), child);
                n_kills += WIFSIGNALED(status);
            }
            char *got = prx_scratch_list(scratch->root);
            assert_string_equal(got, want);
            free(got);
        }
        free(want);
        free(in);
        free(out);
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        unlink(prx_scratch_path(scratch, "out.tar"));
        unlink(prx_scratch_path(scratch, "out.idx"));
        unlink(prx_scratch_path(scratch, "out.index.json"));
    }
    assert_true(n_kills > 6);
}

/* A full disk, as a file size limit: the message names the file, resume completes. */
static void test_full_disk(void **state)
{
    struct prx_scratch *scratch = *state;
    struct trial trial = {.in = prx_scratch_path(scratch, "in"),
                          .out = prx_scratch_path(scratch, "out/%03d.tar"),
                          .exists = PRX_SINK_RESUME};
    int status;

    assert_int_equal(run(&trial), 0);
    char *want = prx_scratch_list(scratch->root);
    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {50000, 50000};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        int rc = run(&trial);
        _exit(rc == PRX_EIO && strstr(prx_err_message(), "/out/000.tar: ") ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    char *left = prx_scratch_list(prx_scratch_path(scratch, "out"));
    assert_string_equal(left, "");
    free(left);
    struct trial again = {.in = prx_scratch_path(scratch, "in"),
                          .out = prx_scratch_path(scratch, "out/%03d.tar"),
                          .exists = PRX_SINK_RESUME};
    assert_int_equal(run(&again), 0);
    char *got = prx_scratch_list(scratch->root);
    assert_string_equal(got, want);
    free(got);
    free(want);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_same_bytes_for_any_threads),
        TEST(test_shards_carry_the_folder),
        TEST(test_failures),
        TEST(test_unreadable_files_are_rejects),
        TEST(test_silent_pipe),
        TEST(test_kill_and_resume),
        TEST(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
