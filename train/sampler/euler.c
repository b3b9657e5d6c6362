/* SPDX-License-Identifier: Apache-2.0 */
/* Euler integration of the learnt velocity, with guidance. */
#include "train/sampler.h"

#include <math.h>
#include <stdlib.h>

struct euler {
    struct prx_denoiser *denoiser;
    struct prx_tape *tape;
    struct prx_tensor *x;  // [B, C, H, W]
    struct prx_tensor t;   // [B]
    struct prx_tensor out; // [B, C, H, W] the guided output
    float *host_t;
};

void prx_sampler_sigmas(int64_t n_steps, double shift, float *out)
{
    for (int64_t i = 0; i <= n_steps; i++)
        out[i] = (float)prx_timestep_shift(1.0 - (double)i / (double)n_steps, shift);
}

static int set_time(struct euler *euler, float t)
{
    for (int64_t b = 0; b < euler->t.dims[0]; b++)
        euler->host_t[b] = t;
    return prx_tensor_set(prx_denoiser_params(euler->denoiser)->be, &euler->t,
                          euler->host_t);
}

/* out = weight * denoiser(x, t, conditions) + kept * out. */
static int accumulate(struct euler *euler, const struct prx_conditions *conditions,
                      double weight, double kept)
{
    struct prx_tape *tape = euler->tape;
    struct prx_backend *be = prx_tape_backend(tape);
    struct prx_var *o = prx_denoiser_forward(
        euler->denoiser, tape, prx_tape_input(tape, euler->x, false), &euler->t,
        conditions->text, conditions->mask, conditions->visible);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(be->ops->axpby(be, &euler->out, (float)weight, &o->value, (float)kept));
    return prx_tape_reset(tape);
}

/* x -= (sigma - next) v, with v the output or what it means at t = sigma. */
static int step(struct euler *euler, enum prx_prediction prediction, double sigma,
                double next)
{
    struct prx_backend *be = prx_tape_backend(euler->tape);

    if (prediction == PRX_PREDICT_X0)
        PRX_TRY(be->ops->x0_velocity_fwd(be, &euler->out, euler->x, &euler->out,
                                         &euler->t, PRX_X0_T_MIN));
    return be->ops->axpby(be, euler->x, (float)(next - sigma), &euler->out, 1.0f);
}

static int integrate(struct euler *euler, const struct prx_sampler_opts *opts,
                     const struct prx_conditions *conditions,
                     const struct prx_conditions *weaker, const float *sigmas,
                     int (*on_step)(void *ctx, int64_t i_step),
                     void *ctx)
{
    double scale = opts->guidance_scale;
    bool is_guided = weaker && scale != 1.0;

    for (int64_t i = 0; i < opts->n_steps; i++) {
        PRX_TRY(set_time(euler, sigmas[i]));
        PRX_TRY(accumulate(euler, conditions, is_guided ? scale : 1.0, 0.0));
        if (is_guided)
            PRX_TRY(accumulate(euler, weaker, 1.0 - scale, 1.0));
        PRX_TRY(step(euler, opts->prediction, sigmas[i], sigmas[i + 1]));
        if (on_step && on_step(ctx, i) != 0)
            return prx_err(PRX_ECANCELED, "sampling was stopped");
    }
    return 0;
}

int prx_sample_euler(struct prx_denoiser *denoiser, const struct prx_sampler_opts *opts,
                     struct prx_tensor *x, const struct prx_conditions *conditions,
                     const struct prx_conditions *weaker,
                     int (*on_step)(void *ctx, int64_t i_step), void *ctx)
{
    struct prx_backend *be = prx_denoiser_params(denoiser)->be;
    struct euler euler = {.denoiser = denoiser, .x = x};
    float *sigmas = NULL;
    int rc = 0;

    if (opts->n_steps < 1 || !isfinite(opts->guidance_scale) || !(opts->shift > 0.0))
        return prx_err(PRX_EINVAL, "no sampling in %lld steps, guidance %g, shift %g",
                       (long long)opts->n_steps, opts->guidance_scale, opts->shift);
    sigmas = calloc((size_t)opts->n_steps + 1, sizeof(*sigmas));
    euler.host_t = calloc((size_t)x->dims[0] + 1, sizeof(*euler.host_t));
    if (!sigmas || !euler.host_t)
        PRX_GO(prx_err_nomem("sampling"));
    PRX_GO(prx_tape_new(be, &euler.tape));
    prx_tape_train(euler.tape, false);
    PRX_GO(prx_tensor_alloc(be, PRX_F32, 1, x->dims, &euler.t));
    PRX_GO(prx_tensor_alloc(be, PRX_F32, x->n_dims, x->dims, &euler.out));
    prx_sampler_sigmas(opts->n_steps, opts->shift, sigmas);
    PRX_GO(integrate(&euler, opts, conditions, weaker, sigmas, on_step, ctx));
    rc = prx_backend_sync(be);
out:
    prx_tensor_free(be, &euler.t);
    prx_tensor_free(be, &euler.out);
    prx_tape_free(euler.tape);
    free(euler.host_t);
    free(sigmas);
    return rc;
}
