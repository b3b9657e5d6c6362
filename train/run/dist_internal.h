/* SPDX-License-Identifier: Apache-2.0 */
/* dist_internal.h - what dist.c needs of whatever joins the processes. */
#ifndef PRX_DIST_INTERNAL_H
#define PRX_DIST_INTERNAL_H

#include "train/dist.h"

/* Over all processes, in place, to all of them; errors PRX_EIO. */
struct prx_dist_ops {
    /* The least of all *@value, waiting without using the processor. */
    int (*min)(int64_t *value);
    int (*sum)(double *values, size_t n);
    int (*max)(double *values, size_t n);
    int (*sum_f32)(float *values, size_t n);
    int (*share)(void *bytes, size_t n_bytes); /* rank 0's */
    void (*close)(void);
    void (*abort)(void);
};

/* Fill in ops, rank, world and n_threads; PRX_EINVAL in a build without MPI. */
PRX_MUST_USE int prx_dist_mpi_open(struct prx_dist *dist);

#endif
