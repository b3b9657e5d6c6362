/* SPDX-License-Identifier: Apache-2.0 */
/* Token routing in the denoiser: who sees what, and where gradients go. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"
#include "tests/lib/tiny_denoiser.h"
#include "train/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

static const struct prx_route tread = {PRX_ROUTE_TREAD, 1, 2, false};
static const struct prx_route tread_detached = {PRX_ROUTE_TREAD, 1, 2, true};
static const struct prx_route sprint = {PRX_ROUTE_SPRINT, 1, 2, false};
static const int32_t some[] = {0, 2, 5, 1, 2, 4};
static const int32_t all[] = {0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5};

struct fixture {
    struct prx_tiny tiny;
    struct prx_tape *tape;
};

static void setup(struct fixture *fixture, struct prx_backend *be,
                  const struct prx_route *route, const int32_t *visible,
                  int64_t n_visible)
{
    struct prx_denoiser_config config = prx_tiny_config;

    config.depth = 4;
    if (route)
        config.route = *route;
    prx_tiny_init(&fixture->tiny, be, &config, 3, NULL);
    if (visible)
        prx_tiny_route(&fixture->tiny, visible, n_visible);
    OK(prx_tape_new(be, &fixture->tape));
}

static void teardown(struct fixture *fixture)
{
    prx_tape_free(fixture->tape);
    prx_tiny_release(&fixture->tiny);
}

static void predict(struct fixture *fixture, bool train, float out[PRX_TINY_LATENT])
{
    struct prx_tape *tape = fixture->tape;
    const struct prx_batch *batch = &fixture->tiny.batch;

    prx_tape_train(tape, train);
    struct prx_var *y = prx_denoiser_forward(
        fixture->tiny.denoiser, tape, prx_tape_input(tape, &batch->latent, false),
        &batch->t, &batch->text, NULL, &batch->visible);
    OK(prx_tape_error(tape));
    OK(prx_tensor_get(fixture->tiny.be, &y->value, out));
    OK(prx_tape_reset(tape));
}

static size_t get_grads(struct fixture *fixture, bool recompute, float *out, size_t cap)
{
    struct prx_param_store *store = prx_denoiser_params(fixture->tiny.denoiser);
    struct prx_tape *tape = fixture->tape;

    prx_tape_train(tape, true);
    prx_tape_recompute(tape, recompute);
    OK(prx_param_store_zero_grad(store));
    OK(prx_tape_backward(tape, prx_tiny_loss(&fixture->tiny, tape), 1.0f));
    OK(prx_tape_reset(tape));
    return gradcheck_get(store, out, cap);
}

static float norm_of(struct fixture *fixture, const char *name)
{
    struct prx_param *param =
        prx_param_store_find(prx_denoiser_params(fixture->tiny.denoiser), name);
    float values[512];
    float sum = 0;

    assert_non_null(param);
    assert_true(prx_tensor_count(&param->grad) <= 512);
    OK(prx_tensor_get(fixture->tiny.be, &param->grad, values));
    for (int64_t i = 0; i < prx_tensor_count(&param->grad); i++)
        sum += values[i] * values[i];
    return sum;
}

/* --- values ----------------------------------------------------------------------- */

static void a_route_for_all_is_none(void **state)
{
    float want[PRX_TINY_LATENT], got[PRX_TINY_LATENT];
    struct fixture fixture;

    setup(&fixture, *state, NULL, NULL, 0);
    predict(&fixture, true, want);
    teardown(&fixture);
    const struct {
        const int32_t *visible;
        int64_t n_visible;
    } rows[] = {{NULL, 0}, {all, PRX_TINY_TOKENS}};
    for (size_t i = 0; i < 2; i++) {
        setup(&fixture, *state, &tread, rows[i].visible, rows[i].n_visible);
        for (int train = 0; train < 2; train++) {
            predict(&fixture, train, got);
            assert_memory_equal(got, want, sizeof(got));
        }
        teardown(&fixture);
    }
}

static void forward_only_is_the_same(void **state)
{
    const struct {
        const struct prx_route *route;
        const int32_t *visible;
    } rows[] = {{&tread, some}, {&sprint, some}, {&sprint, NULL}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        float trained[PRX_TINY_LATENT], got[PRX_TINY_LATENT];
        struct fixture fixture;
        setup(&fixture, *state, rows[i].route, rows[i].visible, 3);
        predict(&fixture, true, trained);
        predict(&fixture, false, got);
        assert_memory_equal(got, trained, sizeof(got));
        teardown(&fixture);
    }
}

/* SPRINT fuses whether or not it routes: naming all tokens is naming none. */
static void sprint_always_fuses(void **state)
{
    float named[PRX_TINY_LATENT], unnamed[PRX_TINY_LATENT], without[PRX_TINY_LATENT];
    struct fixture fixture;

    setup(&fixture, *state, &sprint, all, PRX_TINY_TOKENS);
    predict(&fixture, true, named);
    teardown(&fixture);
    setup(&fixture, *state, &sprint, NULL, 0);
    predict(&fixture, true, unnamed);
    teardown(&fixture);
    setup(&fixture, *state, NULL, NULL, 0);
    predict(&fixture, true, without);
    teardown(&fixture);
    assert_memory_equal(named, unnamed, sizeof(named));
    assert_memory_not_equal(named, without, sizeof(named));
}

/* --- gradients -------------------------------------------------------------------- */

static void recomputing_changes_no_bit(void **state)
{
    static float plainly[16384], again[16384];
    const struct prx_route *routes[] = {&tread, &tread_detached, &sprint};

    for (size_t i = 0; i < 3; i++) {
        struct fixture fixture;
        setup(&fixture, *state, routes[i], some, 3);
        size_t n_bytes = get_grads(&fixture, false, plainly, 16384);
        assert_int_equal(get_grads(&fixture, true, again, 16384), n_bytes);
        assert_memory_equal(again, plainly, n_bytes);
        teardown(&fixture);
    }
}

/* Where all pass the route, what is detached is nothing. */
static void detaching_cuts_the_way_around(void **state)
{
    static float attached[16384], detached[16384];
    const int64_t n_visible[] = {PRX_TINY_TOKENS, 3};

    for (size_t i = 0; i < 2; i++) {
        const int32_t *visible = n_visible[i] == 3 ? some : all;
        struct fixture fixture;
        setup(&fixture, *state, &tread, visible, n_visible[i]);
        size_t n_bytes = get_grads(&fixture, false, attached, 16384);
        float into_start = norm_of(&fixture, "blocks.0.down_proj.weight");
        float behind = norm_of(&fixture, "blocks.3.down_proj.weight");
        teardown(&fixture);
        setup(&fixture, *state, &tread_detached, visible, n_visible[i]);
        get_grads(&fixture, false, detached, 16384);
        if (n_visible[i] == PRX_TINY_TOKENS) {
            assert_memory_equal(detached, attached, n_bytes);
        } else {
            assert_true(norm_of(&fixture, "blocks.0.down_proj.weight") != into_start);
            assert_true(norm_of(&fixture, "blocks.3.down_proj.weight") == behind);
        }
        teardown(&fixture);
    }
}

static void the_mask_token_learns_where_it_stands(void **state)
{
    static float grads[16384];
    struct fixture fixture;

    setup(&fixture, *state, &sprint, some, 3);
    get_grads(&fixture, false, grads, 16384);
    assert_true(norm_of(&fixture, "sprint_mask_token") > 0);
    teardown(&fixture);
    setup(&fixture, *state, &sprint, NULL, 0);
    get_grads(&fixture, false, grads, 16384);
    assert_true(norm_of(&fixture, "sprint_mask_token") == 0);
    assert_true(norm_of(&fixture, "sprint_fuse.weight") > 0);
    teardown(&fixture);
}

/* --- config and sampling ---------------------------------------------------------- */

static void impossible_routes(void **state)
{
    static const struct prx_route rows[] = {
        {PRX_ROUTE_TREAD, -1, 2, false},
        {PRX_ROUTE_TREAD, 2, 1, false},
        {PRX_ROUTE_SPRINT, 1, 4, false},
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct prx_denoiser_config config = prx_tiny_config;
        config.depth = 4;
        config.route = rows[i];
        assert_int_equal(prx_denoiser_config_check(&config), PRX_EINVAL);
    }
    struct prx_denoiser_config config = prx_tiny_config;
    config.depth = 4;
    int64_t n_plain, n_sprint;
    OK(prx_denoiser_count(&config, &n_plain));
    config.route = sprint;
    OK(prx_denoiser_count(&config, &n_sprint));
    assert_int_equal(n_sprint - n_plain, 12 * 24 + 12 + 12);
}

/* Self-guidance: away from what the routed tokens alone say. */
static void self_guidance_is_linear_in_its_scale(void **state)
{
    float x[3][PRX_TINY_LATENT];
    struct fixture fixture;

    for (int i = 0; i < 3; i++) {
        const struct prx_sampler_opts opts = {
            .n_steps = 1, .guidance_scale = i, .shift = 1.0};
        setup(&fixture, *state, &tread, some, 3);
        struct prx_batch *batch = &fixture.tiny.batch;
        const struct prx_conditions full = {.text = &batch->text};
        const struct prx_conditions routed = {.text = &batch->text,
                                              .visible = &batch->visible};
        OK(prx_sample_euler(fixture.tiny.denoiser, &opts, &batch->noise, &full, &routed,
                            NULL, NULL));
        OK(prx_tensor_get(fixture.tiny.be, &batch->noise, x[i]));
        teardown(&fixture);
    }
    assert_memory_not_equal(x[0], x[1], sizeof(x[0]));
    for (int k = 0; k < PRX_TINY_LATENT; k++)
        assert_float_equal(x[2][k] - x[1][k], x[1][k] - x[0][k], 1e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_route_for_all_is_none),
        cmocka_unit_test(forward_only_is_the_same),
        cmocka_unit_test(sprint_always_fuses),
        cmocka_unit_test(recomputing_changes_no_bit),
        cmocka_unit_test(detaching_cuts_the_way_around),
        cmocka_unit_test(the_mask_token_learns_where_it_stands),
        cmocka_unit_test(impossible_routes),
        cmocka_unit_test(self_guidance_is_linear_in_its_scale),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
