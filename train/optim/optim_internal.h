/* SPDX-License-Identifier: Apache-2.0 */
/* State beside parameters: one tensor of the same shape for each. */
#ifndef PRX_TRAIN_OPTIM_INTERNAL_H
#define PRX_TRAIN_OPTIM_INTERNAL_H

#include "train/optim.h"

/**
 * prx_optim_state_new - [n_params] zero tensors in the store's order and shapes.
 *
 * @is_wanted: by number, whether there is one at all; NULL: all.
 */
PRX_MUST_USE int prx_optim_state_new(struct prx_param_store *store,
                                     enum prx_dtype dtype, const bool *is_wanted,
                                     struct prx_tensor **out);
void prx_optim_state_free(struct prx_param_store *store, struct prx_tensor *state);

#endif
