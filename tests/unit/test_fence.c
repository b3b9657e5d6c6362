/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backend "fence": who touches its memory dies, and training and sampling do not,
 * so that they would run where memory is a device's.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libdata/rng.h"
#include "tests/lib/scratch.h"
#include "train/generate.h"
#include "train/run.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* --- the fence -------------------------------------------------------------------- */

enum { N_VALUES = 1000 };

static const float zeros[N_VALUES + 16];

static struct prx_tensor new_tensor(struct prx_backend *be)
{
    struct prx_tensor t;
    assert_int_equal(prx_tensor_alloc(be, PRX_F32, 1, (int64_t[]){N_VALUES}, &t), 0);
    assert_int_equal(prx_tensor_set(be, &t, zeros), 0);
    return t;
}

static void do_nothing(struct prx_backend *be, struct prx_tensor *t)
{
    (void)be;
    (void)t;
}

static void do_read(struct prx_backend *be, struct prx_tensor *t)
{
    (void)be;
    (void)((volatile float *)t->data)[0];
}

static void do_write(struct prx_backend *be, struct prx_tensor *t)
{
    (void)be;
    ((volatile float *)t->data)[N_VALUES - 1] = 2.0F;
}

static void do_read_after_op(struct prx_backend *be, struct prx_tensor *t)
{
    if (be->ops->add(be, t, t, t) == 0)
        do_read(be, t);
}

static void do_read_after_failed_op(struct prx_backend *be, struct prx_tensor *t)
{
    if (be->ops->add(be, t, t, &(struct prx_tensor){.n_dims = 1}) == PRX_ESHAPE)
        do_read(be, t);
}

static void do_read_freed(struct prx_backend *be, struct prx_tensor *t)
{
    volatile float *data = t->data;
    prx_tensor_free(be, t);
    (void)data[0];
}

static void do_pass_host_memory(struct prx_backend *be, struct prx_tensor *t)
{
    float values[N_VALUES] = {0};
    struct prx_tensor host = *t;
    host.data = values;
    (void)!be->ops->add(be, t, t, &host);
}

static void do_pass_too_much(struct prx_backend *be, struct prx_tensor *t)
{
    struct prx_tensor more = *t;
    more.dims[0]++;
    (void)!prx_tensor_zero(be, &more);
}

static void do_copy_too_much(struct prx_backend *be, struct prx_tensor *t)
{
    (void)!be->copy_in(be, t->data, zeros, (N_VALUES + 16) * sizeof(float));
}

static void do_keep_memory(struct prx_backend *be, struct prx_tensor *t)
{
    (void)t;
    prx_backend_close(be);
}

/* The signal that a process dies of when it does @deed; 0: none. */
static int signal_of(void (*deed)(struct prx_backend *be, struct prx_tensor *t))
{
    int status = 0;

    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        struct prx_backend *be;
        (void)setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* sanitizers and cmocka have handlers */
        signal(SIGBUS, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr) || prx_backend_open("fence", 1, &be) < 0)
            _exit(1);
        struct prx_tensor t = new_tensor(be);
        deed(be, &t);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_touched(void **state)
{
    static const struct {
        const char *name;
        void (*deed)(struct prx_backend *be, struct prx_tensor *t);
        int want;
    } rows[] = {
        {"nothing", do_nothing, 0},
        {"read", do_read, SIGSEGV},
        {"write", do_write, SIGSEGV},
        {"read after an op", do_read_after_op, SIGSEGV},
        {"read after an op that failed", do_read_after_failed_op, SIGSEGV},
        {"read what is freed", do_read_freed, SIGSEGV},
        {"pass host memory to an op", do_pass_host_memory, SIGABRT},
        {"clear more than there is", do_pass_too_much, SIGABRT},
        {"copy more than there is", do_copy_too_much, SIGABRT},
        {"close before memory is freed", do_keep_memory, SIGABRT},
    };
    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        int got = signal_of(rows[i].deed);
        if (got != rows[i].want)
            print_message("%s: signal %d\n", rows[i].name, got);
        assert_int_equal(got, rows[i].want);
    }
}

static void test_memory(void **state)
{
    static const int64_t counts[] = {1, 16, 17, 1023, 1024, 1025, 100000};
    struct prx_backend *be;
    struct prx_tensor t;
    float *host;

    (void)state;
    assert_int_equal(prx_backend_open("fence", 2, &be), 0);
    assert_string_equal(be->name, "fence");
    assert_int_equal(be->n_threads, 2);
    for (size_t i = 0; i < N_OF(counts); i++) {
        size_t n = (size_t)counts[i];
        host = calloc(n, sizeof(*host));
        assert_non_null(host);
        assert_int_equal(prx_tensor_alloc(be, PRX_F32, 1, &counts[i], &t), 0);
        assert_int_equal((uintptr_t)t.data % 64, 0);
        assert_int_equal(prx_tensor_get(be, &t, host), 0);
        assert_true(isnan(host[0]) && isnan(host[n - 1]));
        for (size_t j = 0; j < n; j++)
            host[j] = (float)j;
        assert_int_equal(prx_tensor_set(be, &t, host), 0);
        assert_int_equal(be->ops->add(be, &t, &t, &t), 0);
        assert_int_equal(prx_tensor_get(be, &t, host), 0);
        for (size_t j = 0; j < n; j++)
            assert_true(host[j] == 2.0F * (float)j);
        assert_int_equal(prx_tensor_zero(be, &t), 0);
        assert_int_equal(prx_tensor_get(be, &t, host), 0);
        assert_true(host[0] == 0.0F && host[n - 1] == 0.0F);
        prx_tensor_free(be, &t);
        free(host);
    }
    assert_int_equal(prx_tensor_alloc(be, PRX_F32, 1, (int64_t[]){0}, &t), 0);
    assert_int_equal(prx_tensor_zero(be, &t), 0);
    prx_tensor_free(be, &t);
    void *memory;
    assert_int_equal(be->alloc(be, SIZE_MAX, &memory), PRX_ENOMEM);
    assert_int_equal(be->alloc(be, PTRDIFF_MAX / 2, &memory), PRX_ENOMEM);
    assert_int_equal(prx_backend_sync(be), 0);
    prx_backend_close(be);
}

/* --- training and sampling -------------------------------------------------------- */

enum { N_SAMPLES = 3,
       CHANNELS = 16,
       SIDE = 4,
       N_TOKENS = 5,
       TEXT_WIDTH = 64 };

/* Batch @k: random latents and captions, of which some tokens are absent. */
static int train_step(struct prx_trainer *trainer, int64_t k,
                      struct prx_step_report *report)
{
    float latent[N_SAMPLES * CHANNELS * SIDE * SIDE];
    float text[N_SAMPLES * N_TOKENS * TEXT_WIDTH];
    int32_t mask[N_SAMPLES * N_TOKENS];
    struct prx_loader_draw draws[N_SAMPLES];
    const struct prx_loader_batch batch = {
        .n_samples = N_SAMPLES,
        .channels = CHANNELS,
        .height = SIDE,
        .width = SIDE,
        .n_tokens = N_TOKENS,
        .text_width = TEXT_WIDTH,
        .latent = latent,
        .text = text,
        .mask = mask,
        .draws = draws,
    };
    struct prx_rng rng;

    prx_rng_init(&rng, 1, PRX_RNG_TEST, 0, (uint64_t)k);
    prx_rng_normal(&rng, latent, N_OF(latent));
    prx_rng_normal(&rng, text, N_OF(text));
    for (size_t i = 0; i < N_OF(mask); i++)
        mask[i] = prx_rng_u32(&rng) % 4 != 0;
    for (uint32_t i = 0; i < N_SAMPLES; i++)
        draws[i] = (struct prx_loader_draw){.sample = i, .epoch = (uint32_t)k};
    return prx_train_step(trainer, &batch, k, report);
}

/* What the checkpoint in @path tells of its encoders: those of this build. */
static void write_checkpoint(const char *path, const struct prx_trainer *trainer,
                             int64_t k)
{
    const struct prx_text_opts text_opts = {.width = TEXT_WIDTH, .n_tokens_max = 16};
    const struct prx_train_state state = {
        .optim = trainer->optim,
        .ema = trainer->ema,
        .position = {.step = k, .batch = N_SAMPLES, .samples = "none"},
    };
    struct prx_model_info info = {
        .step = k,
        .prediction = "flow_matching",
        .shift = 1,
        .latent_height = SIDE,
        .latent_width = SIDE,
        .sample_steps = 3,
        .sample_guidance = 2,
        .vae = "dct",
        .text = "hash",
        .text_width = TEXT_WIDTH,
        .text_tokens_max = 16,
    };
    struct prx_text_tower *tower;
    struct prx_vae *vae;

    assert_int_equal(prx_vae_open("dct", &vae), 0);
    assert_int_equal(prx_text_tower_open("hash", &text_opts, &tower), 0);
    memcpy(info.vae_fingerprint, vae->fingerprint, sizeof(vae->fingerprint));
    memcpy(info.text_fingerprint, tower->fingerprint, sizeof(tower->fingerprint));
    prx_vae_close(vae);
    prx_text_tower_close(tower);
    assert_int_equal(prx_checkpoint_write(path, trainer->denoiser, &info, &state), 0);
}

/* Train, save, resume in another trainer, train on, save as @path: its files. */
static char *train(const struct prx_recipe *recipe, const char *backend,
                   const char *path)
{
    struct prx_step_report report;
    struct prx_trainer trainer;
    struct prx_backend *be;
    int64_t k = 0;

    assert_int_equal(prx_backend_open(backend, 2, &be), 0);
    for (int part = 0; part < 2; part++) {
        assert_int_equal(prx_trainer_init(&trainer, recipe, be), 0);
        struct prx_train_state state = {.optim = trainer.optim, .ema = trainer.ema};
        if (part > 0)
            assert_int_equal(prx_checkpoint_resume(path, trainer.denoiser, &state), 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(train_step(&trainer, ++k, &report), 0);
            assert_false(report.is_skipped);
        }
        write_checkpoint(path, &trainer, k);
        prx_trainer_release(&trainer);
    }
    prx_backend_close(be);
    return prx_scratch_list(path);
}

static void sample(const char *path, const char *backend, struct prx_image *images)
{
    const struct prx_generate_job jobs[] = {{"a red cup", 0, 0}, {"", 1, 0}};
    struct prx_generate_opts opts;
    struct prx_generator gen;
    struct prx_backend *be;

    assert_int_equal(prx_backend_open(backend, 2, &be), 0);
    assert_int_equal(prx_generator_open(&gen, path, be), 0);
    prx_generate_presets(&gen, &opts);
    assert_int_equal(prx_generate(&gen, &opts, jobs, N_OF(jobs), images), 0);
    prx_generator_release(&gen);
    prx_backend_close(be);
}

/* With @extra settings, ended by NULL: the bytes and pictures of the processor. */
static void check_same_as_cpu(const char *const *extra)
{
    static const char *const sets[] = {
        "model.context_in_dim=64",
        "model.hidden_size=32",
        "model.num_heads=2",
        "model.depth=2",
        "optim.lr=2e-3",
        "optim.warmup_steps=0",
        "optim.clip_norm=0.5",
        "optim.ema_smoothing=0.9",
        "train.batch=3",
        "optim.ema_interval_steps=2",
    };
    struct prx_image images[2][2];
    struct prx_scratch scratch;
    struct prx_recipe recipe;

    prx_scratch_open(&scratch);
    assert_int_equal(prx_recipe_init(&recipe), 0);
    for (size_t i = 0; i < N_OF(sets); i++)
        assert_int_equal(prx_recipe_set(&recipe, sets[i]), 0);
    for (; *extra; extra++)
        assert_int_equal(prx_recipe_set(&recipe, *extra), 0);
    assert_int_equal(prx_recipe_resolve(&recipe), 0);
    static const enum prx_resolution_mode modes[] = {
        PRX_RESOLUTION_NONE, PRX_RESOLUTION_VEC, PRX_RESOLUTION_TOKEN};
    for (size_t i = 0; i < N_OF(modes); i++) {
        recipe.model.config.resolution_mode = modes[i];
        char *want = train(&recipe, "cpu", prx_scratch_path(&scratch, "cpu"));
        char *got = train(&recipe, "fence", prx_scratch_path(&scratch, "fence"));
        assert_non_null(strstr(want, "transformer/diffusion_pytorch_model"));
        assert_non_null(strstr(want, "ema/diffusion_pytorch_model"));
        assert_string_equal(got, want);
        free(want);
        free(got);
        sample(prx_scratch_path(&scratch, "cpu"), "cpu", images[0]);
        sample(prx_scratch_path(&scratch, "cpu"), "fence", images[1]);
        for (int j = 0; j < 2; j++) {
            const struct prx_image *image = &images[0][j];
            assert_memory_equal(images[1][j].pixels, image->pixels,
                                (size_t)image->width_px * image->height_px * 3);
            prx_image_release(&images[0][j]);
            prx_image_release(&images[1][j]);
        }
    }
    prx_recipe_release(&recipe);
    prx_scratch_close(&scratch);
}

static void test_same_as_cpu(void **state)
{
    (void)state;
    check_same_as_cpu((const char *const[]){NULL});
}

static void test_optim_same_as_cpu(void **state)
{
    (void)state;
    check_same_as_cpu((const char *const[]){
        "optim.kind=muon",
        "optim.lr_scale={\"txt_in.*\": 0, \"final_layer.*\": 0.5}",
        "precision.params=bf16",
        "train.recompute=blocks",
        NULL,
    });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_touched),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_same_as_cpu),
        cmocka_unit_test(test_optim_same_as_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
