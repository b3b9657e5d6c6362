/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: several processes, killed, stopped and late, write what one would. */
#include "libdata/job.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/job/job_internal.h"
#include "libdata/outfile.h"
#include "libdata/progress.h"
#include "tests/lib/made.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { N_UNIT_SAMPLES = 6 };

static const struct prx_sink_opts sink_opts = {
    .n_shard_samples_max = 2, .no_sync = true, .plan = "p"};

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

static void sleep_ms(int ms)
{
    const struct timespec moment = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&moment, NULL);
}

/* Children must not run cmocka's own failure path: they say so and stop. */
static void need(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "child: %s: %s\n", what, prx_err_message());
        _exit(9);
    }
}

static struct prx_job_opts job_opts(struct prx_scratch *scratch, uint64_t n_units)
{
    return (struct prx_job_opts){
        .dest = prx_scratch_path(scratch, "out/%03d.tar"),
        .sink_opts = &sink_opts,
        .n_units = n_units,
    };
}

/* Samples @first to @end - 1 of a unit; those of unit 1 are all rejected. */
static int put_samples(const struct prx_unit *unit, uint64_t first, uint64_t end)
{
    struct prx_sample sample = {0};
    char key[48];
    int rc = 0;

    for (uint64_t i = first; i < end && rc == 0; i++) {
        prx_made_sample(&sample, i);
        snprintf(key, sizeof(key), "u%03d/%d", (int)unit->i_unit, (int)i);
        rc = prx_sample_set_key(&sample, key);
        if (unit->i_unit == 1 || i == 3)
            prx_sample_reject(&sample, "test", "not wanted");
        if (rc == 0)
            rc = prx_sink_put(unit->sink, &sample);
    }
    prx_sample_release(&sample);
    return rc;
}

static int do_unit(struct prx_job *job, const struct prx_unit *unit)
{
    int rc = put_samples(unit, unit->n_done_serials, N_UNIT_SAMPLES);

    if (rc < 0) {
        prx_job_drop(job);
        return rc;
    }
    return prx_job_put(job, NULL);
}

/* Units that this process has published go into the file @log, a line each. */
static int work(const struct prx_job_opts *opts, const char *log,
                struct prx_sink_totals *totals)
{
    struct prx_job *job;
    const struct prx_unit *unit;
    int got, fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    char line[16];

    PRX_TRY(prx_job_open(opts, &job));
    while ((got = prx_job_next(job, &unit)) == 1) {
        int n_line = snprintf(line, sizeof(line), "%d\n", (int)unit->i_unit);
        got = do_unit(job, unit);
        if (got < 0)
            break;
        if (got == 1 && fd >= 0 && write(fd, line, (size_t)n_line) != n_line)
            got = prx_err_sys("%s", log);
    }
    if (got == 0)
        got = prx_job_finish(job, NULL, NULL, NULL, totals);
    prx_job_close(job);
    if (fd >= 0)
        close(fd);
    return got;
}

/* What one process makes of @n_units; the caller frees it. */
static char *list_straight(struct prx_scratch *scratch, uint64_t n_units)
{
    struct prx_job_opts opts = job_opts(scratch, n_units);
    struct prx_sink_totals totals;

    assert_int_equal(work(&opts, NULL, &totals), 1);
    assert_int_equal(totals.n_samples + totals.n_rejected, n_units * N_UNIT_SAMPLES);
    assert_int_equal(totals.n_rejected, n_units + (n_units > 1 ? 5 : 0));
    char *list = prx_scratch_list(prx_scratch_path(scratch, "out"));
    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    return list;
}

static void expect_tree(struct prx_scratch *scratch, const char *want)
{
    char *got = prx_scratch_list(prx_scratch_path(scratch, "out"));
    assert_string_equal(got, want);
    free(got);
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);
}

static int wait_for(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_one_process(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_job_opts opts = job_opts(scratch, 3);
    struct prx_sink_totals totals;

    assert_int_equal(work(&opts, NULL, &totals), 1);
    /* 5 samples a unit in shards of 2; unit 1 has rejects only. */
    char *names = prx_scratch_names(prx_scratch_path(scratch, "out"));
    assert_string_equal(names, "000.idx 000.tar 001.idx 001.tar 002.idx 002.tar "
                               "003.idx 003.tar 004.idx 004.tar 005.idx 005.tar "
                               "index.json ");
    free(names);
    /* Again: it is all there. */
    opts.dest = prx_scratch_path(scratch, "out/%03d.tar");
    assert_int_equal(work(&opts, NULL, &totals), 0);
    assert_int_equal(totals.n_samples, 10);
    assert_int_equal(totals.n_rejected, 8);
    assert_int_equal(totals.n_shards, 6);
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);

    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    opts = job_opts(scratch, 0);
    assert_int_equal(work(&opts, NULL, &totals), 1);
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
    char *want = list_straight(scratch, N_UNITS);

    for (int i = 0; i < N_CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct prx_job_opts opts = job_opts(scratch, N_UNITS);
            struct prx_sink_totals totals;
            opts.i_first = i < 2 ? 0 : (uint64_t)i * 50;
            need(work(&opts, prx_scratch_path(scratch, "log"), &totals) >= 0, "work");
            need(totals.n_samples == 5 * (N_UNITS - 1), "totals");
            _exit(0);
        }
    }
    for (int i = 0; i < N_CHILDREN; i++)
        assert_int_equal(wait_for(children[i]), 0);
    assert_int_equal(prx_file_get(prx_scratch_path(scratch, "log"), 1 << 20, &log), 0);
    for (char *p = (char *)log->bytes; *p; p = strchr(p, '\n') + 1) {
        long i_unit = strtol(p, NULL, 10);
        assert_in_range(i_unit, 0, N_UNITS - 1);
        n_seen[i_unit]++;
    }
    for (int i = 0; i < N_UNITS; i++)
        assert_int_equal(n_seen[i], 1);
    prx_buf_unref(log);
    expect_tree(scratch, want);
    free(want);
}

/* Children are killed at any moment, some while they complete the destination. */
static void test_killed_at_random(void **state)
{
    enum { N_UNITS = 30 };
    struct prx_scratch *scratch = *state;
    char *want = list_straight(scratch, N_UNITS);
    int n_killed = 0;

    for (int round = 0; round < 25; round++) {
        int status = 1;
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        for (int delay_us = 200 + 150 * round; status != 0; delay_us *= 2) {
            pid_t children[2];
            for (int i = 0; i < 2; i++) {
                children[i] = fork();
                if (children[i] == 0) {
                    struct prx_job_opts opts = job_opts(scratch, N_UNITS);
                    struct prx_sink_totals totals;
                    need(work(&opts, NULL, &totals) >= 0, "work");
                    _exit(0);
                }
            }
            const struct timespec moment = {0, 1000L * delay_us};
            nanosleep(&moment, NULL);
            status = 0;
            for (int i = 0; i < 2; i++) {
                kill(children[i], SIGKILL);
                int one = wait_for(children[i]);
                assert_true(one == 0 || WTERMSIG(one) == SIGKILL);
                n_killed += one != 0;
                status |= one;
            }
        }
        /* Where one was killed behind the index, the next to come tidies up. */
        struct prx_job_opts opts = job_opts(scratch, N_UNITS);
        struct prx_sink_totals totals;
        assert_int_equal(work(&opts, NULL, &totals), 0);
        expect_tree(scratch, want);
    }
    assert_true(n_killed > 25);
    free(want);
}

/* A child that claims a unit, writes @n samples of it, and calls @leave. */
static pid_t begin_and(struct prx_scratch *scratch, uint64_t n_units, uint64_t n,
                       void (*leave)(struct prx_job *job))
{
    int fds[2];
    char byte = 0;

    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        struct prx_job_opts opts = job_opts(scratch, n_units);
        struct prx_job *job;
        const struct prx_unit *unit;
        opts.claim_timeout_ms = 400;
        need(prx_job_open(&opts, &job) == 0, "open");
        need(prx_job_next(job, &unit) == 1, "next");
        need(put_samples(unit, 0, n) == 0, "put");
        need(write(fds[1], "x", 1) == 1, "tell");
        leave(job);
        _exit(0);
    }
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    close(fds[1]);
    return child;
}

static void die(struct prx_job *job)
{
    (void)job;
    raise(SIGKILL);
}

/* Its work is gone on with at once, whatever the time-out. */
static void test_dead_owner(void **state)
{
    struct prx_scratch *scratch = *state;
    char *want = list_straight(scratch, 3);
    struct prx_job *job;
    const struct prx_unit *unit;
    struct prx_sink_totals totals;

    /* Not waited for, it is a zombie first: that is dead, too. */
    for (int is_reaped = 0; is_reaped < 2; is_reaped++) {
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        pid_t child = begin_and(scratch, 3, 5, die);
        if (is_reaped)
            wait_for(child);
        struct prx_job_opts opts = job_opts(scratch, 3);
        assert_int_equal(prx_job_open(&opts, &job), 0);
        int got;
        while ((got = prx_job_next(job, &unit)) == 1) {
            if (unit->i_unit == 0)
                assert_true(unit->n_done_serials >= 2);
            else
                assert_int_equal(unit->n_done_serials, 0);
            assert_int_equal(do_unit(job, unit), 1);
        }
        assert_int_equal(got, 0);
        assert_int_equal(prx_job_finish(job, NULL, NULL, NULL, &totals), 1);
        prx_job_close(job);
        if (!is_reaped)
            wait_for(child);
        expect_tree(scratch, want);
    }
    free(want);
}

static void stop_and_go_on(struct prx_job *job)
{
    raise(SIGSTOP);
    for (int i = 0; i < 100 && !prx_job_has_lost(job); i++)
        sleep_ms(20);
    need(prx_job_has_lost(job), "notices that the unit is lost");
    prx_job_close(job);
}

/* Slower to notice than to work: puts the unit all the same. */
static void stop_and_put(struct prx_job *job)
{
    struct prx_sink_totals totals;
    const struct prx_unit *unit;

    raise(SIGSTOP);
    need(prx_job_put(job, NULL) == 0, "puts in vain");
    need(prx_job_next(job, &unit) == 0, "nothing is left");
    need(prx_job_finish(job, NULL, NULL, NULL, &totals) == 0, "finish");
    prx_job_close(job);
}

/* One that was suspended loses its unit, and publishes nothing when it wakes. */
static void test_suspended_owner(void **state)
{
    void (*const leaves[])(struct prx_job *) = {stop_and_go_on, stop_and_put};
    struct prx_scratch *scratch = *state;
    char *want = list_straight(scratch, 3);

    for (size_t i = 0; i < N_OF(leaves); i++) {
        struct prx_job_opts opts;
        struct prx_sink_totals totals;
        int64_t start_ns = prx_now_ns();

        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        pid_t child = begin_and(scratch, 3, N_UNIT_SAMPLES, leaves[i]);
        opts = job_opts(scratch, 3);
        opts.claim_timeout_ms = 400;
        assert_int_equal(work(&opts, NULL, &totals), 1);
        assert_true(prx_now_ns() - start_ns >= 400000000);
        kill(child, SIGCONT);
        assert_int_equal(wait_for(child), 0);
        expect_tree(scratch, want);
    }
    free(want);
}

/* A worker stopped by a signal gives its unit back, with what is done of it. */
static void test_dropped_unit(void **state)
{
    struct prx_scratch *scratch = *state;
    char *want = list_straight(scratch, 2);
    struct prx_job *first, *second;
    const struct prx_unit *unit;
    struct prx_sink_totals totals;
    struct prx_job_opts opts = job_opts(scratch, 2);

    assert_int_equal(prx_job_open(&opts, &first), 0);
    assert_int_equal(prx_job_next(first, &unit), 1);
    assert_int_equal(unit->i_unit, 0);
    assert_int_equal(put_samples(unit, 0, 5), 0);
    assert_int_equal(prx_job_open(&opts, &second), 0);
    prx_job_close(first);
    assert_int_equal(prx_job_next(second, &unit), 1);
    assert_int_equal(unit->i_unit, 0);
    assert_true(unit->n_done_serials >= 2);
    assert_int_equal(do_unit(second, unit), 1);
    assert_int_equal(prx_job_next(second, &unit), 1);
    assert_int_equal(do_unit(second, unit), 1);
    assert_int_equal(prx_job_next(second, &unit), 0);
    assert_int_equal(prx_job_finish(second, NULL, NULL, NULL, &totals), 1);
    prx_job_close(second);
    expect_tree(scratch, want);
    free(want);
}

/* A card of another machine: nothing but silence tells that its process is gone. */
static void put_foreign_claim(struct prx_scratch *scratch, const char *machine)
{
    struct prx_card card;

    assert_int_equal(prx_card_init(&card), 0);
    snprintf(card.machine, sizeof(card.machine), "%s", machine);
    card.pid = 4194305; /* more than Linux gives out */
    assert_int_equal(prx_mkdirs(prx_scratch_path(scratch, "out/.prx-job")), 0);
    assert_int_equal(
        prx_card_write(&card, prx_scratch_path(scratch, "out/.prx-job/000000.claim")),
        0);
}

static int count_waits(void *ctx)
{
    int *n_waits = ctx;
    return ++*n_waits > 12;
}

struct toucher {
    const char *path;
    atomic_bool is_done;
};

static void *touch(void *arg)
{
    struct toucher *toucher = arg;

    while (!atomic_load(&toucher->is_done)) {
        utimensat(AT_FDCWD, toucher->path, NULL, 0);
        sleep_ms(20);
    }
    return NULL;
}

static void test_foreign_owner(void **state)
{
    static const char *const machines[] = {"elsewhere pid:[1]", ""};
    struct prx_scratch *scratch = *state;
    char *want = list_straight(scratch, 1);
    char *claim = strdup(prx_scratch_path(scratch, "out/.prx-job/000000.claim"));

    for (size_t i = 0; i < N_OF(machines); i++) {
        struct prx_job_opts opts = job_opts(scratch, 1);
        struct prx_sink_totals totals;
        struct toucher toucher = {.path = claim};
        pthread_t thread;
        int n_waits = 0;

        /* It lives: the work waits for it, however often it looks. */
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        put_foreign_claim(scratch, machines[i]);
        opts.claim_timeout_ms = 300;
        opts.on_wait = count_waits;
        opts.ctx = &n_waits;
        assert_int_equal(pthread_create(&thread, NULL, touch, &toucher), 0);
        assert_int_equal(work(&opts, NULL, &totals), PRX_ECANCELED);
        atomic_store(&toucher.is_done, true);
        pthread_join(thread, NULL);
        /* It is silent.  Its clock does not count, only that it stands still. */
        const struct timespec ahead[2] = {{4000000000, 0}, {4000000000, 0}};
        assert_int_equal(utimensat(AT_FDCWD, claim, ahead, 0), 0);
        n_waits = -100;
        opts.dest = prx_scratch_path(scratch, "out/%03d.tar");
        int64_t start_ns = prx_now_ns();
        assert_int_equal(work(&opts, NULL, &totals), 1);
        assert_true(prx_now_ns() - start_ns >= 300000000);
        expect_tree(scratch, want);
    }
    free(want);
    free(claim);
}

/* A process number that was given out again is no sign of life. */
static void test_cards(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_card own, read, other;
    struct timespec touched;
    const char *path = prx_scratch_path(scratch, "card");

    assert_int_equal(prx_card_init(&own), 0);
    assert_int_equal(prx_card_write(&own, path), 0);
    assert_int_equal(prx_card_read(&read, path, &touched), 0);
    assert_memory_equal(&read, &own, sizeof(own));
    assert_false(prx_card_is_dead(&read, &own));
    if (!own.machine[0]) {
        print_message("no /proc: nobody is known to be dead\n");
        return;
    }
    other = own;
    other.started++;
    assert_true(prx_card_is_dead(&other, &own));
    other = own;
    other.pid = 4194305;
    assert_true(prx_card_is_dead(&other, &own));
    snprintf(other.machine, sizeof(other.machine), "elsewhere");
    assert_false(prx_card_is_dead(&other, &own));

    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"machine\":\"m\",\"nonce\":\"0123456789abcdef\",\"pid\":1}",
        "{\"machine\":\"m\",\"nonce\":\"../../..\",\"pid\":1,\"started\":1}",
        "{\"machine\":\"m\",\"nonce\":\"0123456789abcde/\",\"pid\":1,\"started\":1}",
        "{\"machine\":\"m\",\"nonce\":\"0123456789abcdef\",\"pid\":-1,\"started\":1}",
        "{\"machine\":1,\"nonce\":\"0123456789abcdef\",\"pid\":1,\"started\":1}",
    };
    for (size_t i = 0; i < N_OF(bad); i++) {
        path = prx_scratch_puts(scratch, "bad", bad[i]);
        assert_int_equal(prx_card_read(&read, path, &touched), PRX_ECORRUPT);
    }
    path = prx_scratch_path(scratch, "missing");
    assert_int_equal(prx_card_read(&read, path, &touched), PRX_ENOENT);
}

/* A claim that nobody can read is told, and not worked around. */
static void test_damaged_claim(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_job_opts opts = job_opts(scratch, 1);
    struct prx_sink_totals totals;

    prx_scratch_puts(scratch, "out/.prx-job/000000.claim", "rubbish");
    assert_int_equal(work(&opts, NULL, &totals), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "000000.claim"));
}

static void test_refused(void **state)
{
    struct prx_scratch *scratch = *state;
    struct prx_job_opts opts = job_opts(scratch, 3);
    struct prx_sink_opts other = sink_opts;
    struct prx_sink_totals totals;
    struct prx_job *job, *late;
    struct prx_sink *sink;
    uint64_t n_done;

    /* Somebody else's shard. */
    prx_scratch_puts(scratch, "out/007.tar", "mine");
    assert_int_equal(work(&opts, NULL, &totals), PRX_EEXIST);
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);
    assert_int_equal(unlink(prx_scratch_path(scratch, "out/007.tar")), 0);

    /* Another plan, limit, number of units, or name, while the job goes on. */
    opts = job_opts(scratch, 3);
    assert_int_equal(prx_job_open(&opts, &job), 0);
    opts.sink_opts = &other;
    for (int i = 0; i < 4; i++) {
        other = sink_opts;
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
        other = sink_opts;
        other.exists = (enum prx_sink_exists)exists;
        assert_int_equal(prx_sink_open(word, &other, &n_done, &sink), PRX_EEXIST);
        assert_non_null(strstr(prx_err_message(), "--share"));
    }
    prx_job_close(job);
    opts = job_opts(scratch, 3);
    assert_int_equal(work(&opts, NULL, &totals), 1);
    other = sink_opts;
    other.plan = "q";
    opts.sink_opts = &other;
    assert_int_equal(work(&opts, NULL, &totals), PRX_EEXIST);
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
    char *want = list_straight(scratch, N_UNITS);

    for (int n = 0; n < 2 * N_UNITS; n++) {
        struct prx_job_opts opts = job_opts(scratch, N_UNITS);
        struct prx_sink_totals totals;
        struct visits visits = {n % N_UNITS, n >= N_UNITS};
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        pid_t child = fork();
        if (child == 0) {
            const struct prx_unit *unit;
            struct prx_job *job;
            int got;
            need(prx_job_open(&opts, &job) == 0, "open");
            while ((got = prx_job_next(job, &unit)) == 1)
                need(do_unit(job, unit) == 1, "unit");
            need(got == 0, "next");
            need(prx_job_finish(job, NULL, visit, &visits, &totals) == PRX_EIO,
                 "finish");
            prx_job_close(job);
            _exit(0);
        }
        assert_int_equal(wait_for(child), visits.is_killed ? SIGKILL : 0);
        assert_int_not_equal(access(prx_scratch_path(scratch, "out/index.json"), F_OK),
                             0);
        opts.dest = prx_scratch_path(scratch, "out/%03d.tar");
        assert_int_equal(work(&opts, NULL, &totals), 1);
        expect_tree(scratch, want);
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
        TEST(test_dead_owner),
        TEST(test_suspended_owner),
        TEST(test_dropped_unit),
        TEST(test_foreign_owner),
        TEST(test_cards),
        TEST(test_damaged_claim),
        TEST(test_refused),
        TEST(test_completion_is_resumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
