/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The specification of train/ops.h in plain loops: prx_ref_OP for every op.
 *
 * Read as mathematics.  Sums and transcendental functions are float64, each result
 * is rounded to float32 once, nothing is reordered or contracted.
 */
#ifndef PRX_TRAIN_REF_INTERNAL_H
#define PRX_TRAIN_REF_INTERNAL_H

#include "train/ops.h"

#define PRX_REF_DECLARE(op) PRX_OP_DECLARE(ref, op);
PRX_FOR_EACH_OP(PRX_REF_DECLARE)
#undef PRX_REF_DECLARE

extern const struct prx_ops prx_ref_ops;

#endif
