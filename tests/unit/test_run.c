/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.h: a tiny network learns, and is the same network however often the run was
 * stopped on the way.
 */
#include "train/run.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/log.h"
#include "libdata/outfile.h"
#include "tests/lib/run_set.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

struct fixture {
    struct prx_scratch scratch;
    struct prx_recipe recipe;
    char *set;
};

static void set(struct fixture *fixture, const char *assignment)
{
    assert_int_equal(prx_recipe_set(&fixture->recipe, assignment), 0);
}

static int open_fixture(void **state)
{
    static const char *const sets[] = {
        "model.context_in_dim=16",
        "model.hidden_size=32",
        "model.num_heads=2",
        "model.depth=2",
        "optim.lr=2e-3",
        "optim.warmup_steps=3",
        "optim.clip_norm=1",
        "optim.composer_lag=false",
        "optim.ema_smoothing=0.9",
        "train.steps=12",
        "optim.ema_interval_steps=2",
        "train.batch=4",
        "train.checkpoint_every=5",
        "train.keep=0",
    };
    static struct fixture fixture;

    prx_scratch_open(&fixture.scratch);
    prx_run_set_write(prx_scratch_path(&fixture.scratch, "set.tar"));
    assert_int_equal(
        prx_strdup(prx_scratch_path(&fixture.scratch, "set.tar"), &fixture.set), 0);
    assert_int_equal(prx_recipe_init(&fixture.recipe), 0);
    for (size_t i = 0; i < N_OF(sets); i++)
        set(&fixture, sets[i]);
    *state = &fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;

    prx_recipe_release(&fixture->recipe);
    free(fixture->set);
    prx_scratch_close(&fixture->scratch);
    return 0;
}

/* Train in folder @name; how: flags of prx_run_opts. */
static int run(struct fixture *fixture, const char *name, bool resume, bool overwrite,
               bool (*is_stopped)(void *), struct prx_run_result *result)
{
    const char *const sources[] = {fixture->set};
    char *dir;
    assert_int_equal(prx_strdup(prx_scratch_path(&fixture->scratch, name), &dir), 0);
    assert_int_equal(prx_recipe_resolve(&fixture->recipe), 0);
    const struct prx_run_opts opts = {
        .recipe = &fixture->recipe,
        .sources = sources,
        .n_sources = 1,
        .run_dir = dir,
        .resume = resume,
        .overwrite = overwrite,
        .backend = "auto",
        .n_threads = 2,
        .progress = PRX_METER_NEVER,
        .is_stopped = is_stopped,
    };
    int rc = prx_run(&opts, result);
    free(dir);
    return rc;
}

/* Every file of a checkpoint with its hash. */
static char *list_checkpoint(struct fixture *fixture, const char *name)
{
    return prx_scratch_list(prx_scratch_path(&fixture->scratch, name));
}

/* The log without what depends on the clock. */
static char *read_losses(struct fixture *fixture, const char *name)
{
    struct prx_str out = {0};
    FILE *file = fopen(prx_scratch_path(&fixture->scratch, name), "r");
    char line[1024];

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        char *end = strstr(line, ", \"samples_per_s\"");
        assert_non_null(end);
        assert_int_equal(prx_str_add(&out, line, (size_t)(end - line)), 0);
        assert_int_equal(prx_str_puts(&out, "\n"), 0);
    }
    fclose(file);
    return out.bytes;
}

static void test_learns(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    set(fixture, "train.steps=300");
    set(fixture, "train.log_every=50");
    set(fixture, "train.checkpoint_every=0");
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), 0);
    assert_int_equal(result.n_steps, 300);
    assert_int_equal(result.n_samples, RUN_SET_N_SAMPLES);
    assert_int_equal(result.n_skipped, 0);
    /* Noise and data are of unit variance, so knowing nothing costs 2. */
    char *losses = read_losses(fixture, "run/log.jsonl");
    double first = strtod(strstr(losses, "\"loss\": ") + 8, NULL);
    assert_true(first > 1.6 && first < 2.2);
    if (result.loss >= 0.8 * first)
        print_message("loss %g after %g\n", result.loss, first);
    assert_true(result.loss < 0.8 * first);
    free(losses);
}

/* Stop by a changed step count, go on: the same bytes, wherever the stop was. */
static void test_resume_is_exact(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    assert_int_equal(run(fixture, "whole", false, false, NULL, &result), 0);
    char *want = list_checkpoint(fixture, "whole/ckpt-0000012");
    char *want_losses = read_losses(fixture, "whole/log.jsonl");
    /* 3: about the edge of the epoch's 11 samples in batches of 4; 5: saved anyway. */
    static const int stops[] = {1, 3, 5, 11};
    for (size_t i = 0; i < N_OF(stops); i++) {
        char name[32], path[64], steps[32];
        int stop = stops[i];
        snprintf(name, sizeof(name), "run%d", stop);
        snprintf(steps, sizeof(steps), "train.steps=%d", stop);
        set(fixture, steps);
        assert_int_equal(run(fixture, name, false, false, NULL, &result), 0);
        assert_int_equal(result.n_steps, stop);
        set(fixture, "train.steps=12");
        assert_int_equal(run(fixture, name, true, false, NULL, &result), 0);
        assert_int_equal(result.n_steps, 12);
        snprintf(path, sizeof(path), "%s/ckpt-0000012", name);
        char *got = list_checkpoint(fixture, path);
        assert_string_equal(got, want);
        free(got);
        snprintf(path, sizeof(path), "%s/log.jsonl", name);
        got = read_losses(fixture, path);
        assert_string_equal(got, want_losses);
        free(got);
    }
    free(want);
    free(want_losses);
}

/* In slices, and with blocks run twice: learns, resumes; recomputing costs no bit. */
static void test_memory_is_saved(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    set(fixture, "train.micro_batch=3");
    assert_int_equal(run(fixture, "whole", false, false, NULL, &result), 0);
    set(fixture, "train.recompute=blocks");
    set(fixture, "train.steps=5");
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), 0);
    set(fixture, "train.steps=12");
    assert_int_equal(run(fixture, "run", true, false, NULL, &result), 0);
    assert_int_equal(result.n_steps, 12);
    char *want = list_checkpoint(fixture, "whole/ckpt-0000012");
    char *got = list_checkpoint(fixture, "run/ckpt-0000012");
    assert_string_equal(got, want);
    free(want);
    free(got);
    want = read_losses(fixture, "whole/log.jsonl");
    got = read_losses(fixture, "run/log.jsonl");
    assert_string_equal(got, want);
    free(want);
    free(got);
}

/* Muon, groups, and state of half the bytes go on as if never stopped. */
static void test_optim_resumes(void **state)
{
    static const char *const sets[] = {
        "optim.kind=muon",
        "optim.lr_scale={\"img_in.*\": 0, \"blocks.1.*\": 0.5}",
        "optim.decay_scale={\"*.bias\": 0}",
        "optim.weight_decay=0.1",
        "precision.params=bf16",
        "train.micro_batch=3",
    };
    struct fixture *fixture = *state;
    struct prx_run_result result;

    for (size_t i = 0; i < N_OF(sets); i++)
        set(fixture, sets[i]);
    assert_int_equal(run(fixture, "whole", false, false, NULL, &result), 0);
    set(fixture, "train.steps=5");
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), 0);
    set(fixture, "train.steps=12");
    assert_int_equal(run(fixture, "run", true, false, NULL, &result), 0);
    assert_int_equal(result.n_steps, 12);
    char *want = list_checkpoint(fixture, "whole/ckpt-0000012");
    char *got = list_checkpoint(fixture, "run/ckpt-0000012");
    assert_string_equal(got, want);
    free(want);
    free(got);
}

/* A newest checkpoint that is damaged is passed over, and its steps taken again. */
static void test_resume_past_damage(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    assert_int_equal(run(fixture, "run", false, false, NULL, &result), 0);
    char *want = list_checkpoint(fixture, "run/ckpt-0000012");
    char *want_losses = read_losses(fixture, "run/log.jsonl");
    assert_int_equal(
        truncate(prx_scratch_path(&fixture->scratch,
                                  "run/ckpt-0000012/trainer/moment2.safetensors"),
                 100),
        0);
    /* The log may be torn too. */
    FILE *log = fopen(prx_scratch_path(&fixture->scratch, "run/log.jsonl"), "a");
    assert_true(log && fputs("{\"step\": 13, \"lo", log) >= 0 && fclose(log) == 0);
    assert_int_equal(run(fixture, "run", true, false, NULL, &result), 0);
    char *got = list_checkpoint(fixture, "run/ckpt-0000012");
    char *got_losses = read_losses(fixture, "run/log.jsonl");
    assert_string_equal(got, want);
    assert_string_equal(got_losses, want_losses);
    free(want);
    free(want_losses);
    free(got);
    free(got_losses);
}

static bool always(void *ctx)
{
    (void)ctx;
    return true;
}

static void test_stop(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    /* Stopped while listing: nothing to save, and nothing in the way of another try. */
    assert_int_equal(run(fixture, "run", false, false, always, &result), PRX_ECANCELED);
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), 0);
    assert_int_equal(result.n_steps, 12);
}

static void test_folder(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;
    int lock_fd, other_fd;

    set(fixture, "train.steps=2");
    prx_scratch_puts(&fixture->scratch, "run/my-notes.txt", "mine");
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "is not empty"));
    assert_int_equal(run(fixture, "run", false, true, NULL, &result), 0);
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), PRX_EEXIST);
    assert_int_equal(run(fixture, "run", false, true, NULL, &result), 0);
    /* Another's file is never removed. */
    const char *path = prx_scratch_path(&fixture->scratch, "run/my-notes.txt");
    assert_int_equal(access(path, F_OK), 0);

    path = prx_scratch_path(&fixture->scratch, "run");
    assert_int_equal(prx_run_dir_open(path, true, false, &lock_fd), 0);
    assert_int_equal(prx_run_dir_open(path, true, false, &other_fd), PRX_EEXIST);
    assert_non_null(strstr(prx_err_message(), "another process trains here"));
    close(lock_fd);
    assert_int_equal(prx_run_dir_open(path, true, false, &lock_fd), 0);
    close(lock_fd);
}

/* What a checkpoint cannot be continued with. */
static void test_other_run(void **state)
{
    static const struct {
        const char *set, *back, *message;
    } cases[] = {
        {"train.batch=3", "train.batch=4", "made with train.batch 4, not 3"},
        {"train.seed=43", "train.seed=42", "made with train.seed 42, not 43"},
        {"model.hidden_size=64", "model.hidden_size=32", "has another shape than"},
        {"model.depth=3", "model.depth=2", "is missing"},
        {"optim.kind=muon", "optim.kind=adamw",
         "ckpt-0000002: made with optim.kind adamw, not muon"},
        {"precision.params=bf16", "precision.params=f32",
         "ckpt-0000002: made with precision.params f32, not bf16"},
        {"optim.lr_scale={nothing.*: 0}", "optim.lr_scale={}",
         "optim.lr_scale: \"nothing.*\" matches no parameter"},
    };
    struct fixture *fixture = *state;
    struct prx_run_result result;

    set(fixture, "train.steps=2");
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), 0);
    set(fixture, "train.steps=4");
    for (size_t i = 0; i < N_OF(cases); i++) {
        set(fixture, cases[i].set);
        set(fixture, "model.axes_dim=null");
        assert_true(run(fixture, "run", true, false, NULL, &result) < 0);
        if (!strstr(prx_err_message(), cases[i].message))
            print_message("%s\n", prx_err_message());
        assert_non_null(strstr(prx_err_message(), cases[i].message));
        set(fixture, cases[i].back);
    }
    set(fixture, "model.axes_dim=null");
    assert_int_equal(run(fixture, "run", true, false, NULL, &result), 0);
}

/* A rate that blows the weights up: steps are skipped, then the run ends, and no
 * checkpoint holds a number that is not finite. */
static void test_nonfinite(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;
    struct prx_denoiser *denoiser;
    struct prx_model_info info;
    struct prx_backend *be;

    set(fixture, "optim.lr=10");
    set(fixture, "optim.warmup_steps=0");
    set(fixture, "optim.weight_decay=100");     /* p *= 1 - 1000, every step */
    set(fixture, "sample.prompts=[a red cup]"); /* no picture is no reason to end */
    set(fixture, "sample.every=1");
    set(fixture, "sample.size_px=32");
    set(fixture, "sample.steps=2");
    set(fixture, "train.nonfinite_max=3");
    set(fixture, "train.checkpoint_every=1");
    set(fixture, "train.keep=1");
    set(fixture, "train.steps=200");
    assert_int_equal(run(fixture, "run", false, false, NULL, &result), PRX_ENONFINITE);
    assert_non_null(
        strstr(prx_err_message(), "no finite loss and gradient in 4 steps in a row"));
    assert_int_equal(result.n_skipped, 4);
    assert_int_equal(prx_backend_open("ref", 1, &be), 0);
    assert_int_equal(prx_checkpoint_open(prx_scratch_path(&fixture->scratch, "run"), be,
                                         true, &denoiser, &info),
                     0);
    const struct prx_param_store *store = prx_denoiser_params(denoiser);
    for (size_t i = 0; i < store->n_params; i++) {
        const struct prx_tensor *value = &store->params[i]->value;
        for (int64_t j = 0; j < prx_tensor_count(value); j++)
            assert_true(isfinite(((const float *)value->data)[j]));
    }
    prx_denoiser_free(denoiser);
    prx_backend_close(be);
}

/* --- numbers --------------------------------------------------------------------- */

static void test_note(void **state)
{
    struct prx_runlog_line line = {
        .report.loss = 0.53126,
        .n_samples = 16,
        .n_tokens = 2048,
        .step_s = 0.5,
        .data_wait_s = 0.01,
        .flops = 75.5e9,
        .peak_flop_per_s = 260e9,
    };
    struct prx_scalar scalars[PRX_RUNLOG_N_SCALARS];
    char note[160];
    (void)state;

    prx_runlog_format_note(&line, note, sizeof(note));
    assert_string_equal(note, "loss 0.5313  32.0 samples/s  4096 tokens/s  151 GFLOP/s"
                              " (58% of peak)  wait 2%");
    prx_runlog_scalars(&line, scalars);
    for (size_t i = 0; i < PRX_RUNLOG_N_SCALARS; i++)
        if (strcmp(scalars[i].tag, "peak_share") == 0)
            assert_true(fabs(scalars[i].value - 151.0 / 260) < 1e-12);
    line.peak_flop_per_s = 0;
    prx_runlog_format_note(&line, note, sizeof(note));
    assert_string_equal(note, "loss 0.5313  32.0 samples/s  4096 tokens/s  151 GFLOP/s"
                              "  wait 2%");
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(test_learns),
        ROW(test_resume_is_exact),
        ROW(test_memory_is_saved),
        ROW(test_optim_resumes),
        ROW(test_resume_past_damage),
        ROW(test_stop),
        ROW(test_folder),
        ROW(test_other_run),
        ROW(test_nonfinite),
        cmocka_unit_test(test_note),
    };
    prx_log_init("test_run", PRX_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
