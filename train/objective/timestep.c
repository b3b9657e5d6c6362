/* SPDX-License-Identifier: Apache-2.0 */
/* Timesteps: logit-normal or uniform, shifted towards noise. */
#include "train/objective.h"

#include <math.h>

/* A range that holds next to nothing of the distribution must not hang a run. */
#define TRIES_MAX 1000

double prx_timestep_shift(double t, double shift)
{
    return shift * t / (1.0 + (shift - 1.0) * t);
}

static bool is_in_range(const struct prx_timestep_config *config, double t)
{
    return t >= config->t_min && t < config->t_max;
}

static double in_range(const struct prx_timestep_config *config, double uniform)
{
    return config->t_min + uniform * (config->t_max - config->t_min);
}

static double logit_normal(const struct prx_timestep_config *config, double normal)
{
    return prx_timestep_shift(1.0 / (1.0 + exp(-normal)), config->shift);
}

float prx_timestep_draw(const struct prx_timestep_config *config, struct prx_rng *rng)
{
    if (config->kind == PRX_TIMESTEP_UNIFORM)
        return (float)prx_timestep_shift(in_range(config, prx_rng_uniform(rng)),
                                         config->shift);
    bool is_uniform = prx_rng_uniform(rng) < config->uniform_part;
    for (int i = 0; !is_uniform && i < TRIES_MAX; i++) {
        float normal;
        prx_rng_normal(rng, &normal, 1);
        double t = logit_normal(config, normal);
        if (is_in_range(config, t))
            return (float)t;
    }
    return (float)in_range(config, prx_rng_uniform(rng));
}

size_t prx_timestep_select(const struct prx_timestep_config *config, size_t n,
                           const float *normal, const float *uniform, const float *coin,
                           float *t)
{
    size_t n_kept = 0;

    if (config->kind == PRX_TIMESTEP_UNIFORM) {
        for (; n_kept < n; n_kept++)
            t[n_kept] = (float)prx_timestep_shift(in_range(config, uniform[n_kept]),
                                                  config->shift);
        return n;
    }
    for (size_t i = 0; i < 10 * n && n_kept < n; i++) {
        double drawn = logit_normal(config, normal[i]);
        if (!is_in_range(config, drawn))
            continue;
        bool is_uniform = coin[n_kept] < config->uniform_part;
        t[n_kept] = (float)(is_uniform ? in_range(config, uniform[n_kept]) : drawn);
        n_kept++;
    }
    return n_kept;
}
