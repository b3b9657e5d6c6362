/* SPDX-License-Identifier: Apache-2.0 */
/* The one home of mpi.h: a few collective calls over all processes. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "train/run/dist_internal.h"

#ifdef PRX_HAVE_MPI

# include <mpi.h>
# include <sched.h>
# include <time.h>

/* What the failure of @call was: MPI is told to return, not to end the program. */
static int check(int code, const char *call)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n_chars = 0;

    if (code == MPI_SUCCESS)
        return 0;
    MPI_Error_string(code, text, &n_chars);
    return prx_err(PRX_EIO, "%s: %s", call, text);
}

/*
 * This process's part of the processors, where several on one machine may use the
 * same ones: bound to cores of its own, it has those; not bound, an even share.
 */
static int share_processors(int *n_threads)
{
    MPI_Comm machine;
    cpu_set_t own, all;
    int n_own, n_claims = 1;

    CPU_ZERO(&own);
    if (sched_getaffinity(0, sizeof(own), &own) != 0)
        CPU_SET(0, &own);
    n_own = CPU_COUNT(&own);
    PRX_TRY(check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0,
                                      MPI_INFO_NULL, &machine),
                  "MPI_Comm_split_type"));
    int rc = check(MPI_Allreduce(&own, &all, sizeof(own), MPI_BYTE, MPI_BOR, machine),
                   "MPI_Allreduce");
    if (rc == 0)
        rc = check(MPI_Allreduce(&n_own, &n_claims, 1, MPI_INT, MPI_SUM, machine),
                   "MPI_Allreduce");
    MPI_Comm_free(&machine);
    PRX_TRY(rc);
    *n_threads = (int)((int64_t)n_own * CPU_COUNT(&all) / n_claims);
    if (*n_threads < 1)
        *n_threads = 1;
    return 0;
}

static void all_close(void)
{
    MPI_Finalize();
}

static void all_abort(void)
{
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static int all_min(int64_t *value)
{
    struct timespec turn = {.tv_nsec = 20 * 1000};
    int64_t own = *value;
    MPI_Request request;
    int is_done = 0;

    PRX_TRY(check(MPI_Iallreduce(&own, value, 1, MPI_INT64_T, MPI_MIN, MPI_COMM_WORLD,
                                 &request),
                  "MPI_Iallreduce"));
    for (;;) {
        PRX_TRY(check(MPI_Test(&request, &is_done, MPI_STATUS_IGNORE), "MPI_Test"));
        if (is_done)
            return 0;
        nanosleep(&turn, NULL);
        if (turn.tv_nsec < 10 * 1000 * 1000)
            turn.tv_nsec *= 2;
    }
}

static int reduce(void *values, size_t n, MPI_Datatype type, MPI_Op op)
{
    return check(MPI_Allreduce(MPI_IN_PLACE, values, (int)n, type, op, MPI_COMM_WORLD),
                 "MPI_Allreduce");
}

static int all_sum(double *values, size_t n)
{
    return reduce(values, n, MPI_DOUBLE, MPI_SUM);
}

static int all_max(double *values, size_t n)
{
    return reduce(values, n, MPI_DOUBLE, MPI_MAX);
}

static int all_sum_f32(float *values, size_t n)
{
    return reduce(values, n, MPI_FLOAT, MPI_SUM);
}

static int all_share(void *bytes, size_t n_bytes)
{
    return check(MPI_Bcast(bytes, (int)n_bytes, MPI_BYTE, 0, MPI_COMM_WORLD),
                 "MPI_Bcast");
}

static const struct prx_dist_ops mpi_ops = {
    .min = all_min,
    .sum = all_sum,
    .max = all_max,
    .sum_f32 = all_sum_f32,
    .share = all_share,
    .close = all_close,
    .abort = all_abort,
};

int prx_dist_mpi_open(struct prx_dist *dist)
{
    int provided = MPI_THREAD_SINGLE;

    PRX_TRY(check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided),
                  "MPI_Init_thread"));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_FUNNELED)
        return prx_err(PRX_EINVAL, "this MPI allows no threads");
    PRX_TRY(check(MPI_Comm_rank(MPI_COMM_WORLD, &dist->rank), "MPI_Comm_rank"));
    PRX_TRY(check(MPI_Comm_size(MPI_COMM_WORLD, &dist->world), "MPI_Comm_size"));
    dist->ops = &mpi_ops;
    return share_processors(&dist->n_threads);
}

#else

int prx_dist_mpi_open(struct prx_dist *dist)
{
    (void)dist;
    return prx_err(PRX_EINVAL, "several processes were started, but this program is"
                               " built without MPI");
}

#endif
