/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_set.h - jobs of made samples below a scratch folder, by one process or many.
 *
 * A unit has JOB_SET_N_SAMPLES samples, of which number 3 is rejected; of unit 1 all
 * are.  What fails here fails the test by a cmocka assertion.
 */
#ifndef PRX_TESTS_LIB_JOB_SET_H
#define PRX_TESTS_LIB_JOB_SET_H

#include <stdbool.h>
#include <sys/types.h>

#include "libdata/job.h"
#include "tests/lib/scratch.h"

enum { JOB_SET_N_SAMPLES = 6 };

extern const struct prx_sink_opts prx_job_set_sink_opts;

/** prx_job_set_need - in a child: end it where @what does not hold. */
void prx_job_set_need(bool holds, const char *what);

/** prx_job_set_opts - into "out/%03d.tar"; dest is valid as a scratch path is. */
struct prx_job_opts prx_job_set_opts(struct prx_scratch *scratch, uint64_t n_units);

/** prx_job_set_put - samples @first to @end - 1 of a unit. */
PRX_MUST_USE int prx_job_set_put(const struct prx_unit *unit, uint64_t first,
                                 uint64_t end);

/** prx_job_set_unit - all that is left of a unit; as prx_job_put(). */
PRX_MUST_USE int prx_job_set_unit(struct prx_job *job, const struct prx_unit *unit);

/**
 * prx_job_set_work - open a job, do what there is, finish it.
 *
 * @log: units that this process has published are added to it, a line each; or NULL.
 */
PRX_MUST_USE int prx_job_set_work(const struct prx_job_opts *opts, const char *log,
                                  struct prx_sink_totals *totals);

/** prx_job_set_list - the tree of one process, removed again; the caller frees it. */
char *prx_job_set_list(struct prx_scratch *scratch, uint64_t n_units);

/** prx_job_set_expect - the tree is @want, and nothing of the job is left. */
void prx_job_set_expect(struct prx_scratch *scratch, const char *want);

/** prx_job_set_wait - the status of @child, as of waitpid(2). */
int prx_job_set_wait(pid_t child);

/**
 * prx_job_set_begin - a child that claims a unit, puts @n samples, and calls @leave.
 *
 * Its time-out is 400 ms.  It has got as far as that when this returns.
 */
pid_t prx_job_set_begin(struct prx_scratch *scratch, uint64_t n_units, uint64_t n,
                        void (*leave)(struct prx_job *job));

#endif
