/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the processor's ops. */
#include "train/cpu/cpu_internal.h"

#define SLOT(op) .op = prx_cpu_##op,
const struct prx_ops prx_cpu_ops = {PRX_FOR_EACH_OP(SLOT)};
