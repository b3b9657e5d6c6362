/* SPDX-License-Identifier: Apache-2.0 */
/* Claims of those who are dead, silent, suspended, or far away. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/job/job_internal.h"
#include "libdata/outfile.h"
#include "libdata/progress.h"
#include "tests/lib/job_set.h"

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

static void sleep_ms(int ms)
{
    const struct timespec moment = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&moment, NULL);
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
    char *want = prx_job_set_list(scratch, 3);
    struct prx_job *job;
    const struct prx_unit *unit;
    struct prx_sink_totals totals;

    /* Not waited for, it is a zombie first: that is dead, too. */
    for (int is_reaped = 0; is_reaped < 2; is_reaped++) {
        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        pid_t child = prx_job_set_begin(scratch, 3, 6, die);
        siginfo_t how;
        assert_int_equal(waitid(P_PID, (id_t)child, &how, WEXITED | WNOWAIT), 0);
        if (is_reaped)
            prx_job_set_wait(child);
        struct prx_job_opts opts = prx_job_set_opts(scratch, 3);
        assert_int_equal(prx_job_open(&opts, &job), 0);
        int got;
        while ((got = prx_job_next(job, &unit)) == 1) {
            if (unit->i_unit == 0)
                assert_true(unit->n_done_serials >= 2);
            else
                assert_int_equal(unit->n_done_serials, 0);
            assert_int_equal(prx_job_set_unit(job, unit), 1);
        }
        assert_int_equal(got, 0);
        assert_int_equal(prx_job_finish(job, NULL, NULL, NULL, &totals), 1);
        prx_job_close(job);
        if (!is_reaped)
            prx_job_set_wait(child);
        prx_job_set_expect(scratch, want);
    }
    free(want);
}

static void stop_and_go_on(struct prx_job *job)
{
    raise(SIGSTOP);
    for (int i = 0; i < 100 && !prx_job_has_lost(job); i++)
        sleep_ms(20);
    prx_job_set_need(prx_job_has_lost(job), "notices that the unit is lost");
    prx_job_close(job);
}

/* Slower to notice than to work: puts the unit all the same. */
static void stop_and_put(struct prx_job *job)
{
    struct prx_sink_totals totals;
    const struct prx_unit *unit;

    raise(SIGSTOP);
    prx_job_set_need(prx_job_put(job, NULL) == 0, "puts in vain");
    prx_job_set_need(prx_job_next(job, &unit) == 0, "nothing is left");
    prx_job_set_need(prx_job_finish(job, NULL, NULL, NULL, &totals) == 0, "finish");
    prx_job_close(job);
}

/* One that was suspended loses its unit, and publishes nothing when it wakes. */
static void test_suspended_owner(void **state)
{
    void (*const leaves[])(struct prx_job *) = {stop_and_go_on, stop_and_put};
    struct prx_scratch *scratch = *state;
    char *want = prx_job_set_list(scratch, 3);

    for (size_t i = 0; i < N_OF(leaves); i++) {
        struct prx_job_opts opts;
        struct prx_sink_totals totals;
        int64_t start_ns = prx_now_ns();

        prx_scratch_remove(prx_scratch_path(scratch, "out"));
        pid_t child = prx_job_set_begin(scratch, 3, JOB_SET_N_SAMPLES, leaves[i]);
        opts = prx_job_set_opts(scratch, 3);
        opts.claim_timeout_ms = 400;
        assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
        assert_true(prx_now_ns() - start_ns >= 400000000);
        kill(child, SIGCONT);
        assert_int_equal(prx_job_set_wait(child), 0);
        prx_job_set_expect(scratch, want);
    }
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
    char *want = prx_job_set_list(scratch, 1);
    char *claim = strdup(prx_scratch_path(scratch, "out/.prx-job/000000.claim"));

    for (size_t i = 0; i < N_OF(machines); i++) {
        struct prx_job_opts opts = prx_job_set_opts(scratch, 1);
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
        assert_int_equal(prx_job_set_work(&opts, NULL, &totals), PRX_ECANCELED);
        atomic_store(&toucher.is_done, true);
        pthread_join(thread, NULL);
        /* It is silent.  Its clock does not count, only that it stands still. */
        const struct timespec ahead[2] = {{4000000000, 0}, {4000000000, 0}};
        assert_int_equal(utimensat(AT_FDCWD, claim, ahead, 0), 0);
        n_waits = -100;
        opts.dest = prx_scratch_path(scratch, "out/%03d.tar");
        int64_t start_ns = prx_now_ns();
        assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
        assert_true(prx_now_ns() - start_ns >= 300000000);
        prx_job_set_expect(scratch, want);
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
    struct prx_job_opts opts = prx_job_set_opts(scratch, 1);
    struct prx_sink_totals totals;

    prx_scratch_puts(scratch, "out/.prx-job/000000.claim", "rubbish");
    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "000000.claim"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_scratch, close_scratch)
    const struct CMUnitTest tests[] = {
        TEST(test_dead_owner),
        TEST(test_suspended_owner),
        TEST(test_foreign_owner),
        TEST(test_cards),
        TEST(test_damaged_claim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
