/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gradcheck.h - gradients of a tape against differences of its loss.
 */
#ifndef PRX_TESTS_GRADCHECK_H
#define PRX_TESTS_GRADCHECK_H

#include "train/tape.h"

/* Records a loss on the tape; NULL where that fails (prx_tape_error()). */
typedef struct prx_var *(*gradcheck_fn)(void *ctx, struct prx_tape *tape);

/** gradcheck_fill - set @tensor to numbers uniform in +-@bound, a function of @seed. */
PRX_MUST_USE int gradcheck_fill(struct prx_backend *be, struct prx_tensor *tensor,
                                uint64_t seed, float bound);

/** gradcheck_scramble - fill every parameter of @store, norms' scales around 1. */
PRX_MUST_USE int gradcheck_scramble(struct prx_param_store *store, uint64_t seed,
                                    float bound);

/**
 * gradcheck_get - every gradient of @store, in its order, into @out.
 *
 * Returns their bytes; more than @cap floats, or a failure, end the program.
 */
size_t gradcheck_get(const struct prx_param_store *store, float *out, size_t cap);

/**
 * gradcheck_run - the worst relative error over the parameters of @store.
 *
 * For each, the slope of the loss along one random direction of its elements is
 * compared with the gradient's: |difference| / (size + 1e-2 of the largest slope).
 * @worst_name: of that parameter, or NULL.
 */
PRX_MUST_USE int gradcheck_run(struct prx_param_store *store, gradcheck_fn loss,
                               void *ctx, double *worst, const char **worst_name);

#endif
