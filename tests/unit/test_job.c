/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: several processes, killed, stopped and late, write what one would. */
#include "libdata/job.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/outfile.h"
#include "tests/lib/job_set.h"

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

static void test_one_process(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_job_opts opts = prx_job_set_opts(scratch, 3);
    struct prx_sink_totals totals;

    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
    /* 5 samples a unit in shards of 2; unit 1 has rejects only. */
    char *names = prx_scratch_names(prx_scratch_path(scratch, "out"));
    assert_string_equal(names, "000.idx 000.tar 001.idx 001.tar 002.idx 002.tar "
                               "003.idx 003.tar 004.idx 004.tar 005.idx 005.tar "
                               "index.json ");
    free(names);
    /* Again: it is all there. */
    opts.dest = prx_scratch_path(scratch, "out/%03d.tar");
    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 0);
    assert_int_equal(totals.n_samples, 10);
    assert_int_equal(totals.n_rejected, 8);
    assert_int_equal(totals.n_shards, 6);
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);

    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    opts = prx_job_set_opts(scratch, 0);
    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
    assert_int_equal(totals.n_shards, 0);
    assert_int_equal(access(prx_scratch_path(scratch, "out/index.json"), F_OK), 0);
}

/* Processes race; each unit is published by one of them. */
static void test_race(void **state)
{
    enum { N_UNITS = 200,
           N_CHILDREN = 4 };
    struct prx_scratch *scratch = *state;
    pid_t children[N_CHILDREN];
    struct prx_buf *log;
    int n_seen[N_UNITS] = {0};
    char *want = prx_job_set_list(scratch, N_UNITS);

    for (int i = 0; i < N_CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct prx_job_opts opts = prx_job_set_opts(scratch, N_UNITS);
            struct prx_sink_totals totals;
            opts.i_first = i < 2 ? 0 : (uint64_t)i * 50;
            const char *path = prx_scratch_path(scratch, "log");
            prx_job_set_need(prx_job_set_work(&opts, path, &totals) >= 0, "work");
            prx_job_set_need(totals.n_samples == 5 * (N_UNITS - 1), "totals");
            _exit(0);
        }
    }
    for (int i = 0; i < N_CHILDREN; i++)
        assert_int_equal(prx_job_set_wait(children[i]), 0);
    assert_int_equal(prx_file_get(prx_scratch_path(scratch, "log"), 1 << 20, &log), 0);
    for (char *p = (char *)log->bytes; *p; p = strchr(p, '\n') + 1) {
        long i_unit = strtol(p, NULL, 10);
        assert_in_range(i_unit, 0, N_UNITS - 1);
        n_seen[i_unit]++;
    }
    for (int i = 0; i < N_UNITS; i++)
        assert_int_equal(n_seen[i], 1);
    prx_buf_unref(log);
    prx_job_set_expect(scratch, want);
    free(want);
}

/* Children are killed at any moment, some while they complete the destination. */
static void test_killed_at_random(void **state)
{
    enum { N_UNITS = 30 };
    struct prx_scratch *scratch = *state;
    char *want = prx_job_set_list(scratch, N_UNITS);
    int n_killed = 0;

    for (int round = 0; round < 25; round++) {
        int status = 1;
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        for (int delay_us = 200 + 150 * round; status != 0; delay_us *= 2) {
            pid_t children[2];
            for (int i = 0; i < 2; i++) {
                children[i] = fork();
                if (children[i] == 0) {
                    struct prx_job_opts opts = prx_job_set_opts(scratch, N_UNITS);
                    struct prx_sink_totals totals;
                    prx_job_set_need(prx_job_set_work(&opts, NULL, &totals) >= 0,
                                     "work");
                    _exit(0);
                }
            }
            const struct timespec moment = {0, 1000L * delay_us};
            nanosleep(&moment, NULL);
            status = 0;
            for (int i = 0; i < 2; i++) {
                kill(children[i], SIGKILL);
                int one = prx_job_set_wait(children[i]);
                assert_true(one == 0 || WTERMSIG(one) == SIGKILL);
                n_killed += one != 0;
                status |= one;
            }
        }
        /* Where one was killed behind the index, the next to come tidies up. */
        struct prx_job_opts opts = prx_job_set_opts(scratch, N_UNITS);
        struct prx_sink_totals totals;
        assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 0);
        prx_job_set_expect(scratch, want);
    }
    assert_true(n_killed > 25);
    free(want);
}

/* A worker stopped by a signal gives its unit back, with what is done of it. */
static void test_dropped_unit(void **state)
{
    struct prx_scratch *scratch = *state;
    char *want = prx_job_set_list(scratch, 2);
    struct prx_job *first, *second;
    const struct prx_unit *unit;
    struct prx_sink_totals totals;
    struct prx_job_opts opts = prx_job_set_opts(scratch, 2);

    assert_int_equal(prx_job_open(&opts, &first), 0);
    assert_int_equal(prx_job_next(first, &unit), 1);
    assert_int_equal(unit->i_unit, 0);
    assert_int_equal(prx_job_set_put(unit, 0, 6), 0);
    assert_int_equal(prx_job_open(&opts, &second), 0);
    prx_job_close(first);
    assert_int_equal(prx_job_next(second, &unit), 1);
    assert_int_equal(unit->i_unit, 0);
    assert_true(unit->n_done_serials >= 2);
    assert_int_equal(prx_job_set_unit(second, unit), 1);
    assert_int_equal(prx_job_next(second, &unit), 1);
    assert_int_equal(prx_job_set_unit(second, unit), 1);
    assert_int_equal(prx_job_next(second, &unit), 0);
    assert_int_equal(prx_job_finish(second, NULL, NULL, NULL, &totals), 1);
    prx_job_close(second);
    prx_job_set_expect(scratch, want);
    free(want);
}

static void test_refused(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_job_opts opts = prx_job_set_opts(scratch, 3);
    struct prx_sink_opts other = prx_job_set_sink_opts;
    struct prx_sink_totals totals;
    struct prx_job *job, *late;
    struct prx_sink *sink;
    uint64_t n_done;

    /* Somebody else's shard. */
    prx_scratch_puts(scratch, "out/007.tar", "mine");
    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), PRX_EEXIST);
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/007.tar")), 0);

    /* Another plan, limit, number of units, or name, while the job goes on. */
    opts = prx_job_set_opts(scratch, 3);
    assert_int_equal(prx_job_open(&opts, &job), 0);
    opts.sink_opts = &other;
    for (int i = 0; i < 4; i++) {
        other = prx_job_set_sink_opts;
        other.plan = i == 0 ? "q" : "p";
        other.n_shard_samples_max = i == 1 ? 3 : 2;
        opts.n_units = i == 2 ? 4 : 3;
        opts.dest = prx_scratch_path(scratch, i == 3 ? "out/%d.tar" : "out/%03d.tar");
        assert_int_equal(prx_job_open(&opts, &late), PRX_EEXIST);
        assert_non_null(strstr(prx_err_message(), "another plan"));
    }
    /* Or a process that knows nothing of it. */
    const char *word = prx_scratch_path(scratch, "out/%03d.tar");
    for (int exists = PRX_SINK_REFUSE; exists <= PRX_SINK_RESUME; exists++) {
        other = prx_job_set_sink_opts;
        other.exists = (enum prx_sink_exists)exists;
        assert_int_equal(prx_sink_open(word, &other, &n_done, &sink), PRX_EEXIST);
        assert_non_null(strstr(prx_err_message(), "--share"));
    }
    prx_job_close(job);
    opts = prx_job_set_opts(scratch, 3);
    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
    other = prx_job_set_sink_opts;
    other.plan = "q";
    opts.sink_opts = &other;
    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "another plan"));
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);
}

struct visits {
    int n_left; /* before it ends */
    bool is_killed;
};

static int visit(void *ctx, const char *folder)
{
    struct visits *visits = ctx;

    (void)folder;
    if (visits->n_left-- > 0)
        return 0;
    if (visits->is_killed)
        raise(SIGKILL);
    return prx_err(PRX_EIO, "a visit that fails");
}

/* Completion ends at any unit, by an error or a kill, and the next one goes on. */
static void test_completion_is_resumed(void **state)
{
    enum { N_UNITS = 5 };
    struct prx_scratch *scratch = *state;
    char *want = prx_job_set_list(scratch, N_UNITS);

    for (int n = 0; n < 2 * N_UNITS; n++) {
        struct prx_job_opts opts = prx_job_set_opts(scratch, N_UNITS);
        struct prx_sink_totals totals;
        struct visits visits = {n % N_UNITS, n >= N_UNITS};
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        pid_t child = fork();
        if (child == 0) {
            const struct prx_unit *unit;
            struct prx_job *job;
            int got;
            prx_job_set_need(prx_job_open(&opts, &job) == 0, "open");
            while ((got = prx_job_next(job, &unit)) == 1)
                prx_job_set_need(prx_job_set_unit(job, unit) == 1, "unit");
            prx_job_set_need(got == 0, "next");
            got = prx_job_finish(job, NULL, visit, &visits, &totals);
            prx_job_set_need(got == PRX_EIO, "finish");
            prx_job_close(job);
            _exit(0);
        }
        assert_int_equal(prx_job_set_wait(child), visits.is_killed ? SIGKILL : 0);
        assert_int_not_equal(access(prx_scratch_path(scratch, "out/index.json"), F_OK),
                             0);
        opts.dest = prx_scratch_path(scratch, "out/%03d.tar");
        assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
        prx_job_set_expect(scratch, want);
    }
    free(want);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_one_process),
        TEST(test_race),
        TEST(test_killed_at_random),
        TEST(test_dropped_unit),
        TEST(test_refused),
        TEST(test_completion_is_resumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
