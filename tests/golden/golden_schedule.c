/* SPDX-License-Identifier: Apache-2.0 */
/* timestep_shift, timestep_sample, euler_sample. */
#include "tests/golden/golden.h"

#include "train/objective.h"
#include "train/sampler.h"

#include <string.h>

#define STEPS_MAX 100000

static int put_sigmas(struct golden_case *golden, int64_t n_steps, double shift)
{
    int64_t n_sigmas = n_steps + 1;
    float *sigmas = NULL;

    if (n_steps < 1 || n_steps > STEPS_MAX)
        return prx_err(PRX_EINVAL, "config.steps is not 1 to %d", STEPS_MAX);
    PRX_TRY(golden_alloc(golden, (size_t)n_sigmas, sizeof(*sigmas), &sigmas));
    prx_sampler_sigmas(n_steps, shift, sigmas);
    return golden_put(golden, "out.sigmas", PRX_ST_F32, 1, &n_sigmas, sigmas);
}

static int run_timestep_shift(struct golden_case *golden)
{
    const struct prx_st_tensor *in = NULL;
    const float *t = NULL;
    float *shifted = NULL;
    double shift = 0.0;
    int64_t n_steps = 0;

    PRX_TRY(golden_number(golden, "shift", &shift));
    PRX_TRY(golden_integer(golden, "steps", &n_steps));
    PRX_TRY(golden_floats(golden, "in.t", 0, &in, &t));
    PRX_TRY(golden_alloc(golden, in->n_bytes, 1, &shifted));
    for (size_t i = 0; i < in->n_bytes / sizeof(float); i++)
        shifted[i] = (float)prx_timestep_shift(t[i], shift);
    PRX_TRY(golden_put(golden, "out.t", PRX_ST_F32, in->n_dims, in->dims, shifted));
    return put_sigmas(golden, n_steps, shift);
}

static int run_timestep_sample(struct golden_case *golden)
{
    const char *distribution = golden_text(golden, "distribution");
    struct prx_timestep_config config = {.uniform_part = 0.1};
    const struct prx_st_tensor *normals = NULL, *uniforms = NULL, *coins = NULL;
    const float *normal = NULL, *uniform = NULL, *coin = NULL;
    int64_t n = 0;
    float *t = NULL;

    if (strcmp(distribution, "logit_normal") == 0)
        config.kind = PRX_TIMESTEP_LOGIT_NORMAL;
    else if (strcmp(distribution, "uniform") == 0)
        config.kind = PRX_TIMESTEP_UNIFORM;
    else
        return GOLDEN_TODO;
    PRX_TRY(golden_integer(golden, "size", &n));
    PRX_TRY(golden_number(golden, "shift", &config.shift));
    PRX_TRY(golden_number(golden, "t_min", &config.t_min));
    PRX_TRY(golden_number(golden, "t_max", &config.t_max));
    PRX_TRY(golden_floats(golden, "in.uniform", 1, &uniforms, &uniform));
    if (config.kind == PRX_TIMESTEP_LOGIT_NORMAL) {
        PRX_TRY(golden_floats(golden, "in.normal", 1, &normals, &normal));
        PRX_TRY(golden_floats(golden, "in.coin", 1, &coins, &coin));
    }
    if (n < 0 || uniforms->dims[0] < n || (normals && normals->dims[0] / 10 < n) ||
        (coins && coins->dims[0] < n))
        return prx_err(PRX_ESHAPE, "too few draws for config.size");
    PRX_TRY(golden_alloc(golden, (size_t)n, sizeof(*t), &t));
    n = (int64_t)prx_timestep_select(&config, (size_t)n, normal, uniform, coin, t);
    return golden_put(golden, "out.t", PRX_ST_F32, 1, &n, t);
}

/* What guidance leads away from: no prompt, or the prompt and some of the tokens. */
static int weaker_of(struct golden_case *golden, const struct prx_conditions *prompted,
                     struct prx_tensor tensors[2], struct prx_conditions *out)
{
    *out = (struct prx_conditions){0};
    if (strcmp(golden_text(golden, "guidance"), "tread_self") == 0) {
        *out = *prompted;
        out->visible = &tensors[0];
        return golden_upload(golden, &tensors[0], "in.visible_idx");
    }
    PRX_TRY(golden_upload(golden, &tensors[0], "in.uncond_text"));
    PRX_TRY(golden_upload(golden, &tensors[1], "in.uncond_text_mask"));
    if (tensors[0].n_dims == 0)
        return prx_err(PRX_ENOENT, "no tensor in.uncond_text");
    out->text = &tensors[0];
    if (tensors[1].data)
        out->mask = &tensors[1];
    return 0;
}

static int sample(struct golden_case *golden, struct prx_denoiser *denoiser,
                  const struct prx_sampler_opts *opts, bool is_guided)
{
    struct prx_conditions prompted = {0}, weaker;
    struct prx_tensor x, text, mask, tensors[2] = {0};

    PRX_TRY(golden_upload(golden, &x, "in.noise"));
    PRX_TRY(golden_upload(golden, &text, "in.text"));
    PRX_TRY(golden_upload(golden, &mask, "in.text_mask"));
    prompted.text = &text;
    if (mask.data)
        prompted.mask = &mask;
    if (is_guided)
        PRX_TRY(weaker_of(golden, &prompted, tensors, &weaker));
    PRX_TRY(prx_sample_euler(denoiser, opts, &x, &prompted, is_guided ? &weaker : NULL,
                             NULL, NULL));
    return golden_put_device(golden, &x, "out.latent");
}

static int run_euler_sample(struct golden_case *golden)
{
    struct prx_sampler_opts opts = {.guidance_scale = 1.0};
    struct prx_denoiser *denoiser = NULL;
    bool is_guided = strcmp(golden_text(golden, "guidance"), "none") != 0;
    int rc = 0;

    PRX_GO(golden_prediction(golden, &opts.prediction));
    PRX_GO(golden_integer(golden, "steps", &opts.n_steps));
    PRX_GO(golden_number(golden, "shift", &opts.shift));
    if (is_guided)
        PRX_GO(golden_number(golden, "guidance_scale", &opts.guidance_scale));
    PRX_GO(put_sigmas(golden, opts.n_steps, opts.shift));
    PRX_GO(golden_model(golden, false, &denoiser));
    rc = sample(golden, denoiser, &opts, is_guided);
out:
    prx_denoiser_free(denoiser);
    return rc;
}

const struct golden_op golden_schedule_ops[] = {
    {"timestep_shift", run_timestep_shift},
    {"timestep_sample", run_timestep_sample},
    {"euler_sample", run_euler_sample},
    {NULL, NULL},
};
