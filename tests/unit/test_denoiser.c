/* SPDX-License-Identifier: Apache-2.0 */
/* The denoiser: its parameters, its start values, its gradient, its memory. */
#include "tests/lib/backends.h"
#include "tests/lib/gradcheck.h"
#include "tests/lib/tiny_denoiser.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

/* --- counts -------------------------------------------------------------------- */

static void count_is_what_is_allocated(void **state)
{
    struct prx_backend *be = *state;
    const enum prx_resolution_mode modes[] = {PRX_RESOLUTION_NONE, PRX_RESOLUTION_VEC,
                                              PRX_RESOLUTION_TOKEN};
    for (size_t i = 0; i < 6; i++) {
        struct prx_denoiser_config config = prx_tiny_config;
        struct prx_denoiser *denoiser = NULL;
        int64_t count = 0;
        config.resolution_mode = modes[i % 3];
        config.bottleneck_size = i < 3 ? 0 : 7;
        OK(prx_denoiser_new(be, &config, false, &denoiser));
        OK(prx_denoiser_count(&config, &count));
        assert_int_equal(count, prx_param_store_count(prx_denoiser_params(denoiser)));
        prx_denoiser_free(denoiser);
    }
}

/* --- configs --------------------------------------------------------------------- */

static void impossible_configs(void **state)
{
    struct prx_denoiser_config rows[16];
    size_t n = sizeof(rows) / sizeof(rows[0]);
    struct prx_denoiser *denoiser = NULL;
    int64_t count;

    for (size_t i = 0; i < n; i++)
        rows[i] = prx_tiny_config;
    rows[0].in_channels = 0;
    rows[1].patch_size = -1;
    rows[2].in_channels = INT64_MAX;
    rows[3].patch_size = INT64_MAX;
    rows[4].hidden_size = INT64_MAX;
    rows[5].num_heads = 5;
    rows[6].num_heads = 0;
    rows[7].axes_dim[0] = 3;
    rows[8].axes_dim[0] = 4;
    rows[9].axes_dim[0] = -2;
    rows[10].depth = 0;
    rows[11].mlp_ratio = 0.01;
    rows[12].mlp_ratio = (double)NAN;
    rows[13].theta = 0.0;
    rows[14].bottleneck_size = -1;
    rows[15].context_in_dim = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(prx_denoiser_config_check(&rows[i]), PRX_EINVAL);
        assert_int_equal(prx_denoiser_count(&rows[i], &count), PRX_EINVAL);
        assert_int_equal(prx_denoiser_new(*state, &rows[i], false, &denoiser),
                         PRX_EINVAL);
        assert_null(denoiser);
    }
    assert_int_equal(prx_denoiser_config_check(&prx_tiny_config), 0);
}

/* --- names ------------------------------------------------------------------------ */

static void names_of_both_forms(void **state)
{
    static const struct {
        const char *prx;
        const char *diffusers;
    } rows[] = {
        {"blocks.0.img_qkv_proj.weight", "blocks.0.attention.img_qkv_proj.weight"},
        {"blocks.15.txt_kv_proj.weight", "blocks.15.attention.txt_kv_proj.weight"},
        {"blocks.3.attn_out.weight", "blocks.3.attention.to_out.0.weight"},
        {"blocks.3.qk_norm.query_norm.scale", "blocks.3.attention.norm_q.weight"},
        {"blocks.3.qk_norm.key_norm.scale", "blocks.3.attention.norm_k.weight"},
        {"blocks.3.k_norm.scale", "blocks.3.attention.norm_added_k.weight"},
        {"blocks.3.modulation.lin.bias", "blocks.3.modulation.lin.bias"},
        {"blocks.3.gate_proj.weight", "blocks.3.gate_proj.weight"},
        {"img_in.0.weight", "img_in.0.weight"},
        {"final_layer.adaLN_modulation.1.bias", "final_layer.adaLN_modulation.1.bias"},
    };
    static const char *const old[][2] = {
        {"blocks.3.qk_norm.query_norm.weight", "blocks.3.attention.norm_q.weight"},
        {"blocks.3.qk_norm.key_norm.weight", "blocks.3.attention.norm_k.weight"},
        {"blocks.3.k_norm.weight", "blocks.3.attention.norm_added_k.weight"},
        /* Not parameters of a block, whatever they look like. */
        {"blocks.x.attn_out.weight", "blocks.x.attn_out.weight"},
        {"blocks.3.attn_out.weight.more", "blocks.3.attn_out.weight.more"},
        {"blocks..attn_out.weight", "blocks..attn_out.weight"},
        {"", ""},
    };
    char name[64];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        OK(prx_param_name_from_prx(rows[i].prx, name, sizeof(name)));
        assert_string_equal(name, rows[i].diffusers);
        OK(prx_param_name_from_prx(rows[i].diffusers, name, sizeof(name)));
        assert_string_equal(name, rows[i].diffusers);
        OK(prx_param_name_to_prx(rows[i].diffusers, name, sizeof(name)));
        assert_string_equal(name, rows[i].prx);
    }
    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++) {
        OK(prx_param_name_from_prx(old[i][0], name, sizeof(name)));
        assert_string_equal(name, old[i][1]);
    }
    assert_int_equal(prx_param_name_to_prx(rows[0].diffusers, name, 10), PRX_EINVAL);
}

/* --- start values ------------------------------------------------------------------
 */

static void read_param(struct prx_denoiser *denoiser, const char *name, float *out,
                       int64_t count)
{
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    struct prx_param *param = prx_param_store_find(store, name);
    assert_non_null(param);
    assert_int_equal(prx_tensor_count(&param->value), count);
    OK(prx_tensor_get(store->be, &param->value, out));
}

static void start_values(void **state)
{
    struct prx_denoiser *a = NULL, *b = NULL;
    float x[72 * 12], y[72 * 12];
    float largest = 0.0f;

    OK(prx_denoiser_new(*state, &prx_tiny_config, false, &a));
    OK(prx_denoiser_new(*state, &prx_tiny_config, false, &b));
    OK(prx_denoiser_init(a, 7));
    OK(prx_denoiser_init(b, 7));
    read_param(a, "blocks.1.attention.img_qkv_proj.weight", x, 36 * 12);
    read_param(b, "blocks.1.attention.img_qkv_proj.weight", y, 36 * 12);
    assert_memory_equal(x, y, 36 * 12 * sizeof(float));
    for (int i = 0; i < 36 * 12; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    assert_true(largest <= 1.0f / sqrtf(12.0f) && largest > 0.95f / sqrtf(12.0f));

    read_param(a, "blocks.0.attention.img_qkv_proj.weight", y, 36 * 12);
    assert_memory_not_equal(x, y, 36 * 12 * sizeof(float));
    OK(prx_denoiser_init(b, 8));
    read_param(b, "blocks.1.attention.img_qkv_proj.weight", y, 36 * 12);
    assert_memory_not_equal(x, y, 36 * 12 * sizeof(float));

    /* A bias has the bound of its layer's fan-in, not of its own length. */
    read_param(a, "img_in.bias", x, 12);
    for (int i = 0; i < 12; i++)
        assert_true(x[i] != 0.0f && fabsf(x[i]) <= 1.0f / sqrtf(12.0f));
    read_param(a, "blocks.0.attention.norm_q.weight", x, 6);
    for (int i = 0; i < 6; i++)
        assert_true(x[i] == 1.0f);
    read_param(a, "blocks.0.modulation.lin.weight", x, 72 * 12);
    for (int i = 0; i < 72 * 12; i++)
        assert_true(x[i] == 0.0f);
    prx_denoiser_free(a);
    prx_denoiser_free(b);
}

/* --- forward and gradient ------------------------------------------------------------
 */

static void gradient_is_the_slope(void **state)
{
    static const int32_t masks[][6] = {
        {1, 1, 1, 1, 0, 0},
        {0, 1, 1, 0, 0, 1},
        {0, 0, 0, 1, 1, 1},
    };
    static const int32_t visible[] = {0, 2, 5, 1, 2, 4}; /* of 6 tokens a sample */
    const struct {
        enum prx_resolution_mode mode;
        int64_t bottleneck;
        int64_t n_text;
        const int32_t *mask;
        enum prx_prediction prediction;
        struct prx_route route;
        bool is_routed;
    } rows[] = {
        {.n_text = 3},
        {.n_text = 3, .mask = masks[0]},
        {.n_text = 3, .bottleneck = 5, .mask = masks[1]},
        {.n_text = 3, .mask = masks[2]},
        {.n_text = 3, .mode = PRX_RESOLUTION_VEC, .mask = masks[1]},
        {.n_text = 3, .mode = PRX_RESOLUTION_TOKEN},
        {.n_text = 3, .bottleneck = 5, .mode = PRX_RESOLUTION_TOKEN, .mask = masks[2]},
        {.n_text = 0},
        {.n_text = 0, .mode = PRX_RESOLUTION_TOKEN},
        {.n_text = 3, .prediction = PRX_PREDICT_X0},
        {.n_text = 3, .route = {PRX_ROUTE_TREAD, 0, 1, false}, .is_routed = true},
        {.n_text = 3, .route = {PRX_ROUTE_TREAD, 1, 1, false}, .is_routed = true},
        {.n_text = 3, .route = {PRX_ROUTE_SPRINT, 0, 0, false}, .is_routed = true},
        {.n_text = 3, .route = {PRX_ROUTE_SPRINT, 1, 1, false}},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prx_denoiser_config config = prx_tiny_config;
        struct prx_tiny fixture;
        const char *name = "";
        double worst = 0.0;

        config.resolution_mode = rows[i].mode;
        config.bottleneck_size = rows[i].bottleneck;
        config.route = rows[i].route;
        prx_tiny_init(&fixture, *state, &config, rows[i].n_text, rows[i].mask);
        fixture.prediction = rows[i].prediction;
        if (rows[i].is_routed)
            prx_tiny_route(&fixture, visible, 3);
        OK(gradcheck_run(prx_denoiser_params(fixture.denoiser), prx_tiny_loss, &fixture,
                         &worst, &name));
        if (!(worst < 1e-2))
            fail_msg("row %zu: gradient of %s is off by %g", i, name, worst);
        prx_tiny_release(&fixture);
    }
}

static void backward_accumulates(void **state)
{
    struct prx_param_store *store;
    struct prx_tape *tape = NULL;
    struct prx_tiny fixture;
    float once[36 * 12], twice[36 * 12];

    prx_tiny_init(&fixture, *state, &prx_tiny_config, 3, NULL);
    store = prx_denoiser_params(fixture.denoiser);
    struct prx_param *param =
        prx_param_store_find(store, "blocks.0.attention.img_qkv_proj.weight");
    OK(prx_tape_new(fixture.be, &tape));
    for (int i = 0; i < 2; i++) {
        OK(prx_tape_backward(tape, prx_tiny_loss(&fixture, tape), 0.5f));
        OK(prx_tensor_get(fixture.be, &param->grad, i == 0 ? once : twice));
        OK(prx_tape_reset(tape));
    }
    for (int i = 0; i < 36 * 12; i++)
        assert_true(fabsf(twice[i] - 2.0f * once[i]) <=
                    1e-6f * fabsf(twice[i]) + 1e-9f);
    prx_tape_free(tape);
    prx_tiny_release(&fixture);
}

static size_t peak_of_forward(struct prx_backend *be, int64_t depth, bool train,
                              float *out)
{
    struct prx_denoiser_config config = prx_tiny_config;
    struct prx_tape *tape = NULL;
    struct prx_tiny fixture;

    config.depth = depth;
    prx_tiny_init(&fixture, be, &config, 3, NULL);
    OK(prx_tape_new(be, &tape));
    prx_tape_train(tape, train);
    struct prx_var *y = prx_denoiser_forward(
        fixture.denoiser, tape, prx_tape_input(tape, &fixture.batch.latent, false),
        &fixture.batch.t, &fixture.batch.text, NULL, NULL);
    OK(prx_tape_error(tape));
    OK(prx_tensor_get(be, &y->value, out));
    size_t peak_bytes = prx_arena_peak_bytes(prx_tape_arena(tape));
    prx_tape_free(tape);
    prx_tiny_release(&fixture);
    return peak_bytes;
}

static void forward_only_memory_does_not_grow_with_depth(void **state)
{
    float shallow[2 * 3 * 4 * 6], deep[2 * 3 * 4 * 6], trained[2 * 3 * 4 * 6];

    assert_int_equal(peak_of_forward(*state, 2, false, shallow),
                     peak_of_forward(*state, 9, false, deep));
    assert_true(peak_of_forward(*state, 9, true, trained) >
                3 * peak_of_forward(*state, 9, false, deep));
    assert_memory_equal(trained, deep, sizeof(deep));
    assert_memory_not_equal(shallow, deep, sizeof(deep));
}

static void wrong_inputs_are_refused(void **state)
{
    struct prx_tape *tape = NULL;
    struct prx_tiny fixture;
    struct prx_batch bad;

    prx_tiny_init(&fixture, *state, &prx_tiny_config, 3,
                  (const int32_t[]){1, 1, 1, 1, 1, 1});
    OK(prx_tape_new(*state, &tape));
    for (int i = 0; i < 7; i++) {
        bad = fixture.batch;
        switch (i) {
        case 0: /* channels and columns exchanged */
            bad.latent = bad.noise =
                prx_tensor_view(&bad.latent, 4, (int64_t[]){2, 6, 4, 3});
            break;
        case 1: /* rows that the patch does not divide */
            bad.latent = bad.noise =
                prx_tensor_view(&bad.latent, 4, (int64_t[]){2, 3, 3, 8});
            break;
        case 2:
            bad.text = prx_tensor_view(&bad.text, 3, (int64_t[]){2, 5, 3});
            break;
        case 3:
            bad.mask = prx_tensor_view(&bad.mask, 2, (int64_t[]){3, 2});
            break;
        case 4:
            bad.visible = prx_tensor_view(&bad.mask, 2, (int64_t[]){3, 2});
            break;
        case 5: /* more than there are */
            bad.visible = bad.mask;
            bad.visible.dims[1] = 7;
            break;
        default:
            bad.t.dims[0] = 1;
        }
        assert_null(
            prx_flow_loss(tape, fixture.denoiser, PRX_PREDICT_X0, &bad, NULL, NULL));
        assert_int_equal(prx_tape_error(tape), PRX_ESHAPE);
        OK(prx_tape_reset(tape));
    }
    assert_non_null(prx_flow_loss(tape, fixture.denoiser, PRX_PREDICT_X0,
                                  &fixture.batch, NULL, NULL));
    prx_tape_free(tape);
    prx_tiny_release(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(count_is_what_is_allocated),
        cmocka_unit_test(impossible_configs),
        cmocka_unit_test(names_of_both_forms),
        cmocka_unit_test(start_values),
        cmocka_unit_test(gradient_is_the_slope),
        cmocka_unit_test(backward_accumulates),
        cmocka_unit_test(forward_only_memory_does_not_grow_with_depth),
        cmocka_unit_test(wrong_inputs_are_refused),
    };
    return cmocka_run_group_tests_name("ref", tests, prx_open_ref, prx_close_backend) +
           cmocka_run_group_tests_name("cpu", tests, prx_open_cpu, prx_close_backend);
}
