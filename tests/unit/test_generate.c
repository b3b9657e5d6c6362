/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h: pictures of a small model with random weights, written to disk first. */
#include "train/generate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/outfile.h"

#define SIDE_PX 32

static char folder[64];
static struct prx_backend *be;

static struct prx_denoiser_config config = {
    .in_channels = 16,
    .patch_size = 2,
    .context_in_dim = 64,
    .hidden_size = 32,
    .mlp_ratio = 2,
    .num_heads = 2,
    .depth = 1,
    .axes_dim = {8, 8},
    .theta = 10000,
    .time_factor = 1000,
    .time_max_period = 10000,
};

/* A checkpoint below the folder, of weights @scale wide, after a change by @spoil. */
static void write_checkpoint(const char *name, float scale,
                             void (*spoil)(struct prx_model_info *info))
{
    struct prx_model_info info = {
        .step = 7,
        .prediction = "flow_matching",
        .shift = 1,
        .latent_height = SIDE_PX / 8,
        .latent_width = SIDE_PX / 8,
        .sample_steps = 3,
        .sample_guidance = 2,
        .vae = "dct",
        .text = "hash",
        .text_width = 64,
        .text_tokens_max = 16,
    };
    const struct prx_text_opts text_opts = {64, 16};
    struct prx_text_tower *tower;
    struct prx_denoiser *denoiser;
    struct prx_vae *vae;
    char path[128];

    assert_int_equal(prx_vae_open("dct", &vae), 0);
    assert_int_equal(prx_text_tower_open("hash", &text_opts, &tower), 0);
    memcpy(info.vae_fingerprint, vae->fingerprint, sizeof(vae->fingerprint));
    memcpy(info.text_fingerprint, tower->fingerprint, sizeof(tower->fingerprint));
    prx_vae_close(vae);
    prx_text_tower_close(tower);
    if (spoil)
        spoil(&info);

    assert_int_equal(prx_denoiser_new(be, &config, false, &denoiser), 0);
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    for (size_t i = 0; i < store->n_params; i++) {
        struct prx_tensor *value = &store->params[i]->value;
        size_t n = (size_t)prx_tensor_count(value);
        float *values = malloc(n * sizeof(*values));
        struct prx_rng rng;
        assert_non_null(values);
        prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, i);
        prx_rng_normal(&rng, values, n);
        for (size_t j = 0; j < n; j++)
            values[j] *= scale;
        assert_int_equal(prx_tensor_set(be, value, values), 0);
        free(values);
    }
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(prx_checkpoint_write(path, denoiser, &info, NULL), 0);
    prx_denoiser_free(denoiser);
}

static int open_generator(const char *name, struct prx_generator *gen)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return prx_generator_open(gen, path, be);
}

static int open_all(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/prx-test-generate-%ld", (long)getpid());
    if (prx_mkdirs(folder) < 0 || prx_backend_open("cpu", 2, &be) < 0)
        return -1;
    write_checkpoint("ckpt", 0.15F, NULL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    prx_backend_close(be);
    return prx_remove_tree(folder);
}

static void test_presets(void **state)
{
    struct prx_generate_opts opts;
    struct prx_generator gen;

    (void)state;
    assert_int_equal(open_generator("ckpt", &gen), 0);
    prx_generate_presets(&gen, &opts);
    assert_int_equal(gen.step_px, 16);
    assert_int_equal(gen.info.step, 7);
    assert_int_equal(opts.width_px, SIDE_PX);
    assert_int_equal(opts.height_px, SIDE_PX);
    assert_int_equal(opts.sampler.n_steps, 3);
    assert_int_equal(opts.sampler.prediction, PRX_PREDICT_VELOCITY);
    prx_generator_release(&gen);
    prx_generator_release(&gen);
}

/* The largest difference of two pictures' levels. */
static int difference(const struct prx_image *a, const struct prx_image *b)
{
    int largest = 0;
    assert_int_equal(a->width_px, b->width_px);
    assert_int_equal(a->height_px, b->height_px);
    for (size_t i = 0; i < (size_t)a->width_px * (size_t)a->height_px * 3; i++) {
        int d = abs(a->pixels[i] - b->pixels[i]);
        largest = d > largest ? d : largest;
    }
    return largest;
}

/* A picture is a function of prompt, numbers and seed, not of its batch. */
static void test_draws(void **state)
{
    static const struct prx_generate_job jobs[] = {
        {"a red cup", 0, 0},
        {"a blue cup, seen from far above in the morning", 1, 0},
        {"a red cup", 0, 1},
        {"a red cup", 1, 0},
        {"", 0, 0},
    };
    enum { N = sizeof(jobs) / sizeof(jobs[0]) };
    struct prx_image together[N], alone;
    struct prx_generate_opts opts;
    struct prx_generator gen;

    (void)state;
    assert_int_equal(open_generator("ckpt", &gen), 0);
    prx_generate_presets(&gen, &opts);
    assert_int_equal(prx_generate(&gen, &opts, jobs, N, together), 0);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(prx_generate(&gen, &opts, &jobs[i], 1, &alone), 0);
        assert_true(difference(&together[i], &alone) <= 1);
        prx_image_release(&alone);
        for (size_t j = 0; j < i; j++)
            assert_true(difference(&together[i], &together[j]) > 8);
    }
    opts.seed = 1;
    assert_int_equal(prx_generate(&gen, &opts, jobs, 1, &alone), 0);
    assert_true(difference(&together[0], &alone) > 8);
    prx_image_release(&alone);
    opts.seed = 0;
    opts.sampler.guidance_scale = 1;
    assert_int_equal(prx_generate(&gen, &opts, jobs, 1, &alone), 0);
    assert_true(difference(&together[0], &alone) > 8);
    prx_image_release(&alone);
    for (size_t i = 0; i < N; i++)
        prx_image_release(&together[i]);
    prx_generator_release(&gen);
}

struct order {
    size_t n_seen;
    struct prx_image kept;
};

static int on_picture(void *ctx, const struct prx_generate_job *job,
                      struct prx_image *image)
{
    struct order *order = ctx;
    assert_int_equal(job->i_prompt, order->n_seen / 3);
    assert_int_equal(job->i_image, order->n_seen % 3);
    assert_int_equal(image->width_px, 48);
    assert_int_equal(image->height_px, 16);
    if (order->n_seen++ == 4) {
        order->kept = *image;
        *image = (struct prx_image){0};
    }
    return order->n_seen == 6 ? prx_err(PRX_EIO, "enough") : 0;
}

static int stop_at_once(void *ctx, int64_t i_step)
{
    (void)ctx;
    (void)i_step;
    return 1;
}

static void test_all(void **state)
{
    static const char *const prompts[] = {"one", "two", "three"};
    struct order order = {0};
    struct prx_generate_opts opts;
    struct prx_generator gen;

    (void)state;
    assert_int_equal(open_generator("ckpt", &gen), 0);
    prx_generate_presets(&gen, &opts);
    opts.width_px = 48;
    opts.height_px = 16;
    int rc = prx_generate_all(&gen, &opts, prompts, 3, 3, 4, on_picture, &order);
    assert_int_equal(rc, PRX_EIO);
    assert_int_equal(order.n_seen, 6);
    assert_non_null(order.kept.pixels);
    prx_image_release(&order.kept);

    opts.on_step = stop_at_once;
    rc = prx_generate_all(&gen, &opts, prompts, 1, 1, 4, on_picture, &order);
    assert_int_equal(rc, PRX_ECANCELED);
    prx_generator_release(&gen);
}

static void guide_by_route(struct prx_model_info *info)
{
    info->self_guidance = true;
    info->route_share = 0.5;
}

/* Self-guidance needs no other prompt: at scale 1 it is the prompt's picture, and
 * beyond it another than that of the usual guidance. */
static void test_self_guidance(void **state)
{
    const struct prx_generate_job job = {"a red cup", 3, 1};
    const char *const names[] = {"ckpt", "tread"};
    struct prx_image images[2][2];

    (void)state;
    config.route = (struct prx_route){PRX_ROUTE_TREAD, 0, 0, false};
    write_checkpoint("tread", 0.15F, guide_by_route);
    config.route = (struct prx_route){0};
    for (int i = 0; i < 2; i++) {
        struct prx_generate_opts opts;
        struct prx_generator gen;
        assert_int_equal(open_generator(names[i], &gen), 0);
        prx_generate_presets(&gen, &opts);
        for (int scale = 1; scale <= 2; scale++) {
            opts.sampler.guidance_scale = scale;
            assert_int_equal(prx_generate(&gen, &opts, &job, 1, &images[i][scale - 1]),
                             0);
        }
        prx_generator_release(&gen);
    }
    assert_int_equal(difference(&images[0][0], &images[1][0]), 0);
    assert_true(difference(&images[1][0], &images[1][1]) > 8);
    assert_true(difference(&images[0][1], &images[1][1]) > 8);
    for (int i = 0; i < 4; i++)
        prx_image_release(&images[i / 2][i % 2]);
}

static void spoil_vae(struct prx_model_info *info)
{
    info->vae_fingerprint[0] ^= 1;
}

static void spoil_text(struct prx_model_info *info)
{
    info->text_tokens_max = 17;
}

static void spoil_name(struct prx_model_info *info)
{
    snprintf(info->vae, sizeof(info->vae), "flux");
}

static void test_refused(void **state)
{
    static const struct {
        const char *name;
        void (*spoil)(struct prx_model_info *info);
        const char *says;
    } rows[] = {
        {"vae", spoil_vae, "trained with VAE dct of fingerprint"},
        {"text", spoil_text, "trained with text tower hash of fingerprint"},
        {"name", spoil_name, "no VAE 'flux'"},
    };
    static const int64_t sizes[][2] = {{8, 16}, {16, 40}, {0, 16}, {16, 1 << 20}};
    const struct prx_generate_job job = {"x", 3, 5};
    struct prx_generate_opts opts;
    struct prx_generator gen;
    struct prx_image image;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        write_checkpoint(rows[i].name, 0.1F, rows[i].spoil);
        assert_int_equal(open_generator(rows[i].name, &gen), PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), rows[i].says));
    }
    assert_int_equal(open_generator("nowhere", &gen), PRX_ENOENT);

    assert_int_equal(open_generator("ckpt", &gen), 0);
    prx_generate_presets(&gen, &opts);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        opts.width_px = sizes[i][0];
        opts.height_px = sizes[i][1];
        assert_int_equal(prx_generate(&gen, &opts, &job, 1, &image), PRX_EINVAL);
    }
    opts.width_px = opts.height_px = SIDE_PX;
    gen.vae->decode = NULL;
    assert_int_equal(prx_generate(&gen, &opts, &job, 1, &image), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "VAE dct: this build cannot decode"));
    prx_generator_release(&gen);

    write_checkpoint("infinite", 1e30F, NULL);
    assert_int_equal(open_generator("infinite", &gen), 0);
    prx_generate_presets(&gen, &opts);
    assert_int_equal(prx_generate(&gen, &opts, &job, 1, &image), PRX_ENONFINITE);
    assert_non_null(strstr(prx_err_message(), "picture 5 of prompt 3"));
    prx_generator_release(&gen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_self_guidance),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
