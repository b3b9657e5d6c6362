/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs of made samples, and children that work on them. */
#include "tests/lib/job_set.h"

#include <fcntl.h>
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

#include "tests/lib/made.h"

const struct prx_sink_opts prx_job_set_sink_opts = {
    .n_shard_samples_max = 2, .no_sync = true, .plan = "p"};

void prx_job_set_need(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "child: %s: %s\n", what, prx_err_message());
        _exit(9);
    }
}

struct prx_job_opts prx_job_set_opts(struct prx_scratch *scratch, uint64_t n_units)
{
    return (struct prx_job_opts){
        .dest = prx_scratch_path(scratch, "out/%03d.tar"),
        .sink_opts = &prx_job_set_sink_opts,
        .n_units = n_units,
    };
}

int prx_job_set_put(const struct prx_unit *unit, uint64_t first, uint64_t end)
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

int prx_job_set_unit(struct prx_job *job, const struct prx_unit *unit)
{
    int rc = prx_job_set_put(unit, unit->n_done_serials, JOB_SET_N_SAMPLES);

    if (rc < 0) {
        prx_job_drop(job);
        return rc;
    }
    return prx_job_put(job, NULL);
}

int prx_job_set_work(const struct prx_job_opts *opts, const char *log,
                     struct prx_sink_totals *totals)
{
    struct prx_job *job;
    const struct prx_unit *unit;
    int got, fd = log ? open(log, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    char line[16];

    PRX_TRY(prx_job_open(opts, &job));
    while ((got = prx_job_next(job, &unit)) == 1) {
        int n_line = snprintf(line, sizeof(line), "%d\n", (int)unit->i_unit);
        got = prx_job_set_unit(job, unit);
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

char *prx_job_set_list(struct prx_scratch *scratch, uint64_t n_units)
{
    struct prx_job_opts opts = prx_job_set_opts(scratch, n_units);
    struct prx_sink_totals totals;

    assert_int_equal(prx_job_set_work(&opts, NULL, &totals), 1);
    assert_int_equal(totals.n_samples + totals.n_rejected, n_units * JOB_SET_N_SAMPLES);
    assert_int_equal(totals.n_rejected, n_units + (n_units > 1 ? 5 : 0));
    char *list = prx_scratch_list(prx_scratch_path(scratch, "out"));
    prx_scratch_remove(prx_scratch_path(scratch, "out"));
    return list;
}

void prx_job_set_expect(struct prx_scratch *scratch, const char *want)
{
    char *got = prx_scratch_list(prx_scratch_path(scratch, "out"));
    size_t n_same = 0;

    /* Where they differ is more than cmocka shows of two long texts. */
    while (got[n_same] && got[n_same] == want[n_same])
        n_same++;
    if (strcmp(got, want) != 0)
        print_error("got:  %.200s\nwant: %.200s\n", got + n_same, want + n_same);
    assert_string_equal(got + n_same, want + n_same);
    free(got);
    assert_int_not_equal(access(prx_scratch_path(scratch, "out/.prx-job"), F_OK), 0);
}

int prx_job_set_wait(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

pid_t prx_job_set_begin(struct prx_scratch *scratch, uint64_t n_units, uint64_t n,
                        void (*leave)(struct prx_job *job))
{
    int fds[2];
    char byte = 0;

    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        struct prx_job_opts opts = prx_job_set_opts(scratch, n_units);
        struct prx_job *job;
        const struct prx_unit *unit;
        opts.claim_timeout_ms = 400;
        prx_job_set_need(prx_job_open(&opts, &job) == 0, "open");
        prx_job_set_need(prx_job_next(job, &unit) == 1, "next");
        prx_job_set_need(prx_job_set_put(unit, 0, n) == 0, "put");
        prx_job_set_need(write(fds[1], "x", 1) == 1, "tell");
        leave(job);
        _exit(0);
    }
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    close(fds[1]);
    return child;
}
