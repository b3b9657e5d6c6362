/* SPDX-License-Identifier: Apache-2.0 */
/* The learning rate of each step: linear warm-up, then constant or cosine. */
#include "train/optim.h"

#include <math.h>

static double warmup_at(const struct prx_lr_schedule *schedule, int64_t k)
{
    int64_t n_done = schedule->composer_lag ? k - 2 : k;
    if (schedule->warmup_steps <= 0 || n_done >= schedule->warmup_steps)
        return 1.0;
    return n_done > 0 ? (double)n_done / (double)schedule->warmup_steps : 0.0;
}

static double decay_at(const struct prx_lr_schedule *schedule, int64_t k)
{
    int64_t n_steps = schedule->total_steps - schedule->warmup_steps;
    if (schedule->decay == PRX_LR_CONSTANT || k <= schedule->warmup_steps)
        return 1.0;
    if (k >= schedule->total_steps)
        return schedule->floor;
    double done = (double)(k - schedule->warmup_steps) / (double)n_steps;
    return schedule->floor + (1.0 - schedule->floor) * 0.5 * (1.0 + cos(M_PI * done));
}

double prx_lr_at(const struct prx_lr_schedule *schedule, int64_t k)
{
    return schedule->lr * warmup_at(schedule, k) * decay_at(schedule, k);
}
