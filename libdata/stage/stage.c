/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a stage's life, the same for all. */
#include "libdata/stage.h"

void prx_stage_release(struct prx_stage *stage)
{
    if (stage->free)
        stage->free(stage->ctx);
    *stage = (struct prx_stage){0};
}
