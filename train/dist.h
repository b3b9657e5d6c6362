/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dist.h - the processes that train together: each its slice of a batch, one model.
 *
 * mpirun and srun start them; every process ("rank", counted from 0) calls the same
 * functions of this header in the same order, and each call returns when all have
 * come to it.  All hold the same weights and, after prx_dist_sum_grads(), the same
 * gradients, so the same step of the optimiser leaves them the same again.
 *
 * Failures.  Where all are to go on together or not at all (setting up, saving),
 * prx_dist_agree() tells everyone of one's failure, and they leave in order.  Anywhere
 * else a process that fails calls prx_dist_abort(), which ends the others, who may be
 * waiting for it.  If one dies, the launcher ends the rest.
 *
 * One process alone, however it was started, needs no MPI: all functions return at
 * once, with what was passed in.  A NULL dist is one process alone.
 *
 * Gradients are summed through the host, by MPI.  That is the seam for devices that
 * can do better: another way to sum (NCCL) replaces prx_dist_sum_grads() alone.
 *
 * One thread only, the one that has opened it.
 */
#ifndef PRX_TRAIN_DIST_H
#define PRX_TRAIN_DIST_H

#include <stdbool.h>
#include <stddef.h>

#include "train/tape.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_dist {
    int rank;
    int world;     /* processes */
    int n_threads; /* a fair share of the processors here; 0 = all, being alone */
    int teller;    /* the rank that has the message of an agreed failure; < 0: none */
    /* Private. */
    const struct prx_dist_ops *ops; /* NULL: alone */
    float *bucket;                  /* on the way between device and network */
};

/**
 * prx_dist_open - meet the others, if a launcher has started any.
 *
 * Whether it has is read from OMPI_COMM_WORLD_SIZE, PMI_SIZE and SLURM_STEP_NUM_TASKS,
 * so that a process alone pays nothing.  Block signals first; see train/backend.h.
 * Errors: PRX_EINVAL (there are others, but this build is without MPI, or with one
 *         that is not the launcher's), PRX_EIO, PRX_ENOMEM.  What all find alike,
 *         only rank 0 has a message for.
 */
PRX_MUST_USE int prx_dist_open(struct prx_dist *dist);

/** prx_dist_close - part in order; all must come to it. */
void prx_dist_close(struct prx_dist *dist);

/** prx_dist_abort - end all processes with status 1; returns only when alone. */
void prx_dist_abort(struct prx_dist *dist);

/** prx_dist_is_alone - one process, or NULL. */
bool prx_dist_is_alone(const struct prx_dist *dist);

/** prx_dist_is_first - is this rank 0, which writes and speaks for all? */
bool prx_dist_is_first(const struct prx_dist *dist);

/**
 * prx_dist_agree - 0 where all have passed @rc >= 0; else one's failure, for all.
 *
 * Of several the lowest rank's counts.  Only there, dist->teller, the message stays;
 * elsewhere it is cleared, so that one failure is told once.  Waiting for the others
 * takes no processor time.
 */
PRX_MUST_USE int prx_dist_agree(struct prx_dist *dist, int rc);

/* Add up, or take the largest of, each of @n <= 64 numbers over all; in place. */
PRX_MUST_USE int prx_dist_sum(struct prx_dist *dist, double *values, size_t n);
PRX_MUST_USE int prx_dist_max(struct prx_dist *dist, double *values, size_t n);

/** prx_dist_share - rank 0's @n_bytes at @bytes become everyone's. */
PRX_MUST_USE int prx_dist_share(struct prx_dist *dist, void *bytes, size_t n_bytes);

/**
 * prx_dist_sum_grads - add up the gradients of all parameters of @store over all.
 *
 * All ranks get the same bits; the same world, the same bits every time.
 */
PRX_MUST_USE int prx_dist_sum_grads(struct prx_dist *dist,
                                    struct prx_param_store *store);

/**
 * prx_dist_check_values - have all the same parameters in @store, to the last bit?
 *
 * Compares digests.  Errors, agreed: PRX_ECORRUPT, told by a rank that differs.
 */
PRX_MUST_USE int prx_dist_check_values(struct prx_dist *dist,
                                       struct prx_param_store *store);

#ifdef __cplusplus
}
#endif
#endif
