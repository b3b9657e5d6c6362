/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the specification's ops. */
#include "train/ref/ref_internal.h"

#define SLOT(op) .op = prx_ref_##op,
const struct prx_ops prx_ref_ops = {PRX_FOR_EACH_OP(SLOT)};
