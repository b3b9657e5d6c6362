/* SPDX-License-Identifier: Apache-2.0 */
/* Timesteps, the flow objective and the sampler that integrates what it learnt. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"
#include "train/objective.h"
#include "train/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

static void near(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("got %.9g, want %.9g", got, want);
}

/* --- timesteps -----------------------------------------------------------------------
 */

static const struct prx_timestep_config usual = {
    .kind = PRX_TIMESTEP_LOGIT_NORMAL,
    .shift = 1.0,
    .uniform_part = 0.1,
    .t_min = 0.001,
    .t_max = 1.0,
};

static void shift_keeps_the_ends(void **state)
{
    (void)state;
    for (double s = 0.25; s <= 8.0; s *= 2.0) {
        near(prx_timestep_shift(0.0, s), 0.0, 0.0);
        near(prx_timestep_shift(1.0, s), 1.0, 1e-15);
        near(prx_timestep_shift(0.5, s), s / (1.0 + s), 1e-15);
        near(prx_timestep_shift(prx_timestep_shift(0.3, s), 1.0 / s), 0.3, 1e-15);
    }
}

static void draw_many(const struct prx_timestep_config *config, double *mean,
                      double *share_below_quarter)
{
    enum { N_DRAWS = 20000 };
    *mean = *share_below_quarter = 0.0;
    for (uint64_t i = 0; i < N_DRAWS; i++) {
        struct prx_rng rng;
        prx_rng_init(&rng, 11, PRX_RNG_TIMESTEP, 0, i);
        float t = prx_timestep_draw(config, &rng);
        assert_true(t >= (float)config->t_min && t <= (float)config->t_max);
        *mean += t / N_DRAWS;
        *share_below_quarter += (t < 0.25f) / (double)N_DRAWS;
    }
}

static void draws_have_their_distribution(void **state)
{
    struct prx_timestep_config config = usual;
    double mean, share;

    (void)state;
    /* P(logit-normal < 1/4) = Phi(-ln 3) = 0.1359; a tenth is uniform. */
    draw_many(&config, &mean, &share);
    near(mean, 0.5, 0.006);
    near(share, 0.9 * 0.1359 + 0.1 * 0.25, 0.01);
    config.uniform_part = 1.0;
    draw_many(&config, &mean, &share);
    near(share, 0.25, 0.01);
    config.kind = PRX_TIMESTEP_UNIFORM;
    config.shift = 3.0;
    draw_many(&config, &mean, &share);
    near(share, 0.1, 0.01); /* shift(t, 3) < 1/4 where t < 1/10 */
}

static void a_draw_is_a_function_of_its_stream(void **state)
{
    struct prx_rng a, b;

    (void)state;
    prx_rng_init(&a, 1, PRX_RNG_TIMESTEP, 2, 3);
    prx_rng_init(&b, 1, PRX_RNG_TIMESTEP, 2, 3);
    float t = prx_timestep_draw(&usual, &a);
    assert_true(t == prx_timestep_draw(&usual, &b));
    prx_rng_init(&b, 1, PRX_RNG_TIMESTEP, 2, 4);
    assert_true(t != prx_timestep_draw(&usual, &b));
}

static void a_range_next_to_empty_ends(void **state)
{
    struct prx_timestep_config config = usual;
    struct prx_rng rng;

    (void)state;
    config.t_min = 0.9999999;
    config.t_max = 0.99999991;
    prx_rng_init(&rng, 1, PRX_RNG_TIMESTEP, 0, 0);
    near(prx_timestep_draw(&config, &rng), 1.0, 1e-6);
}

static void selection_of_given_draws(void **state)
{
    const float normal[20] = {99.0f, 0.0f, -99.0f, 1.0f};
    const float uniform[2] = {0.5f, 0.5f};
    const float coin[2] = {0.9f, 0.05f};
    struct prx_timestep_config config = usual;
    float t[2] = {0};

    (void)state;
    assert_int_equal(prx_timestep_select(&config, 2, normal, uniform, coin, t), 2);
    near(t[0], 0.5, 1e-7);
    near(t[1], 0.001 + 0.5 * 0.999, 1e-7);
    config.t_min = 0.6; /* only sigmoid(1) = 0.73 is left */
    assert_int_equal(prx_timestep_select(&config, 2, normal, uniform, coin, t), 1);
    near(t[0], 0.731058579, 1e-7);
    config.kind = PRX_TIMESTEP_UNIFORM;
    assert_int_equal(prx_timestep_select(&config, 2, normal, uniform, coin, t), 2);
    near(t[1], 0.8, 1e-7);
}

/* --- sampling
 * -------------------------------------------------------------------------- */

#define N_LATENT (2 * 2 * 4 * 4)

/* A denoiser whose output is one constant, by the bias of its last layer. */
struct constant_net {
    struct prx_backend *be;
    struct prx_denoiser *denoiser;
    struct prx_tensor x;    // [2, 2, 4, 4]
    struct prx_tensor text; // [2, 3, 4]
};

static void net_init(struct constant_net *net, struct prx_backend *be, float constant)
{
    const struct prx_denoiser_config config = {
        .in_channels = 2,
        .patch_size = 2,
        .context_in_dim = 4,
        .hidden_size = 8,
        .mlp_ratio = 2.0,
        .num_heads = 2,
        .depth = 1,
        .axes_dim = {2, 2},
        .theta = 10000.0,
        .time_factor = 1000.0,
        .time_max_period = 10000.0,
    };
    float bias[8];

    *net = (struct constant_net){.be = be};
    OK(prx_denoiser_new(be, &config, false, &net->denoiser));
    OK(prx_denoiser_init(net->denoiser, 3));
    for (int i = 0; i < 8; i++)
        bias[i] = constant;
    OK(prx_tensor_set(be,
                      &prx_param_store_find(prx_denoiser_params(net->denoiser),
                                            "final_layer.linear.bias")
                           ->value,
                      bias));
    OK(prx_tensor_alloc(be, PRX_F32, 4, (int64_t[]){2, 2, 4, 4}, &net->x));
    OK(prx_tensor_alloc(be, PRX_F32, 3, (int64_t[]){2, 3, 4}, &net->text));
    OK(gradcheck_fill(be, &net->x, 1, 1.0f));
    OK(gradcheck_fill(be, &net->text, 2, 1.0f));
}

static void net_release(struct constant_net *net)
{
    prx_denoiser_free(net->denoiser);
    prx_tensor_free(net->be, &net->x);
    prx_tensor_free(net->be, &net->text);
}

static void sigmas_fall_from_one_to_zero(void **state)
{
    float sigmas[8];

    (void)state;
    prx_sampler_sigmas(7, 3.0, sigmas);
    near(sigmas[0], 1.0, 0.0);
    near(sigmas[7], 0.0, 0.0);
    for (int i = 0; i < 7; i++)
        assert_true(sigmas[i] > sigmas[i + 1]);
    prx_sampler_sigmas(2, 3.0, sigmas);
    near(sigmas[1], 0.75, 1e-7);
}

/* All of the way is walked, whatever the schedule: x ends at x - v. */
static void a_constant_velocity_is_walked_whole(void **state)
{
    const struct prx_sampler_opts rows[] = {
        {.n_steps = 1, .guidance_scale = 1.0, .shift = 1.0},
        {.n_steps = 7, .guidance_scale = 4.0, .shift = 3.0},
        {.n_steps = 30, .guidance_scale = 0.0, .shift = 0.5},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct constant_net net;
        float before[N_LATENT], after[N_LATENT];
        net_init(&net, *state, 0.5f);
        OK(prx_tensor_get(net.be, &net.x, before));
        const struct prx_conditions conditions = {.text = &net.text};
        OK(prx_sample_euler(net.denoiser, &rows[i], &net.x, &conditions, &conditions,
                            NULL, NULL));
        OK(prx_tensor_get(net.be, &net.x, after));
        for (int k = 0; k < N_LATENT; k++)
            near(after[k], before[k] - 0.5, 1e-5);
        net_release(&net);
    }
}

/* The last step from sigma >= 0.05 lands on the predicted x0 itself. */
static void a_predicted_x0_is_reached(void **state)
{
    const struct prx_sampler_opts opts = {
        .n_steps = 10,
        .guidance_scale = 1.0,
        .shift = 3.0,
        .prediction = PRX_PREDICT_X0,
    };
    struct constant_net net;
    float after[N_LATENT];

    net_init(&net, *state, 0.25f);
    const struct prx_conditions conditions = {.text = &net.text};
    OK(prx_sample_euler(net.denoiser, &opts, &net.x, &conditions, NULL, NULL, NULL));
    OK(prx_tensor_get(net.be, &net.x, after));
    for (int k = 0; k < N_LATENT; k++)
        near(after[k], 0.25, 1e-5);
    net_release(&net);
}

static int stop_after_three(void *ctx, int64_t i_step)
{
    int64_t *n_steps = ctx;
    *n_steps = i_step + 1;
    return i_step == 2;
}

static void sampling_can_be_stopped(void **state)
{
    const struct prx_sampler_opts opts = {
        .n_steps = 9, .guidance_scale = 1.0, .shift = 1.0};
    const struct prx_sampler_opts impossible[] = {
        {.n_steps = 0, .guidance_scale = 1.0, .shift = 1.0},
        {.n_steps = 5, .guidance_scale = 1.0, .shift = 0.0},
        {.n_steps = 5, .guidance_scale = NAN, .shift = 1.0},
    };
    struct constant_net net;
    int64_t n_steps = 0;

    net_init(&net, *state, 0.5f);
    const struct prx_conditions conditions = {.text = &net.text};
    assert_int_equal(prx_sample_euler(net.denoiser, &opts, &net.x, &conditions, NULL,
                                      stop_after_three, &n_steps),
                     PRX_ECANCELED);
    assert_int_equal(n_steps, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(prx_sample_euler(net.denoiser, &impossible[i], &net.x,
                                          &conditions, NULL, NULL, NULL),
                         PRX_EINVAL);
    net_release(&net);
}

/* --- the objective
 * ----------------------------------------------------------------------- */

/* With the output a constant c the loss is the mean of (c - (noise - x0))^2. */
static void loss_of_a_constant_prediction(void **state)
{
    const float times[2] = {0.1f, 0.9f};
    float x0[N_LATENT], noise[N_LATENT], per_sample[2];
    double want[2] = {0.0, 0.0};
    struct prx_tensor per_sample_on_device;
    struct prx_tape *tape = NULL;
    struct prx_flow_terms terms;
    struct constant_net net;
    float loss_value = 0.0f;

    net_init(&net, *state, 0.5f);
    struct prx_batch batch = {.latent = net.x, .text = net.text};
    OK(prx_tensor_alloc(net.be, PRX_F32, 4, net.x.dims, &batch.noise));
    OK(gradcheck_fill(net.be, &batch.noise, 9, 1.0f));
    OK(prx_tensor_alloc(net.be, PRX_F32, 1, (int64_t[]){2}, &batch.t));
    OK(prx_tensor_set(net.be, &batch.t, times));
    OK(prx_tensor_alloc(net.be, PRX_F32, 1, (int64_t[]){2}, &per_sample_on_device));
    OK(prx_tape_new(net.be, &tape));

    struct prx_var *loss =
        prx_flow_loss(tape, net.denoiser, PRX_PREDICT_VELOCITY, &batch, &terms,
                      &per_sample_on_device);
    OK(prx_tape_error(tape));
    OK(prx_tensor_get(net.be, &loss->value, &loss_value));
    OK(prx_tensor_get(net.be, &per_sample_on_device, per_sample));
    OK(prx_tensor_get(net.be, &net.x, x0));
    OK(prx_tensor_get(net.be, &batch.noise, noise));
    for (int i = 0; i < N_LATENT; i++) {
        double gap = 0.5 - ((double)noise[i] - x0[i]);
        want[i / (N_LATENT / 2)] += gap * gap / (N_LATENT / 2.0);
    }
    near(per_sample[0], want[0], 1e-5);
    near(per_sample[1], want[1], 1e-5);
    near(loss_value, (want[0] + want[1]) / 2.0, 1e-5);
    assert_true(prx_tensor_same_shape(&terms.prediction->value, &net.x));

    prx_tape_free(tape);
    prx_tensor_free(net.be, &batch.noise);
    prx_tensor_free(net.be, &batch.t);
    prx_tensor_free(net.be, &per_sample_on_device);
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shift_keeps_the_ends),
        cmocka_unit_test(draws_have_their_distribution),
        cmocka_unit_test(a_draw_is_a_function_of_its_stream),
        cmocka_unit_test(a_range_next_to_empty_ends),
        cmocka_unit_test(selection_of_given_draws),
        cmocka_unit_test(sigmas_fall_from_one_to_zero),
        cmocka_unit_test(a_constant_velocity_is_walked_whole),
        cmocka_unit_test(a_predicted_x0_is_reached),
        cmocka_unit_test(sampling_can_be_stopped),
        cmocka_unit_test(loss_of_a_constant_prediction),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
