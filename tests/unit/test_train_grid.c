/* SPDX-License-Identifier: Apache-2.0 */
/* run.h, its pictures: they are those of the network, and change no bit of it. */
#include "train/run.h"

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
#include "train/run/train_internal.h"
#include "train/sheet.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

struct fixture {
    struct prx_scratch scratch;
    struct prx_recipe recipe;
    char *set; /* word of the samples */
};

static const char *path_of(struct fixture *fixture, const char *name)
{
    return prx_scratch_path(&fixture->scratch, name);
}

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
        "optim.lr=2e-2",
        "optim.warmup_steps=0",
        "optim.composer_lag=false",
        "optim.ema_smoothing=0.9",
        "optim.ema_interval_steps=1",
        "train.steps=12",
        "train.batch=4",
        "train.checkpoint_every=0",
        "sample.prompts=[a red cup, \"\", a cat]",
        "sample.every=5",
        "sample.per_prompt=2",
        "sample.size_px=32",
        "sample.steps=3",
        "sample.seed=7",
    };
    static struct fixture fixture;

    prx_scratch_open(&fixture.scratch);
    assert_int_equal(prx_strdup(path_of(&fixture, "set.tar"), &fixture.set), 0);
    prx_run_set_write(fixture.set);
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

enum how { BEGIN,
           RESUME,
           OVERWRITE };

/* Train in folder @name. */
static int train(struct fixture *fixture, const char *name, enum how how,
                 bool (*is_stopped)(void *ctx), struct prx_run_result *result)
{
    const char *const sources[] = {fixture->set};
    char *dir;

    assert_int_equal(prx_strdup(path_of(fixture, name), &dir), 0);
    assert_int_equal(prx_recipe_resolve(&fixture->recipe), 0);
    const struct prx_run_opts opts = {
        .recipe = &fixture->recipe,
        .sources = sources,
        .n_sources = 1,
        .run_dir = dir,
        .resume = how == RESUME,
        .overwrite = how == OVERWRITE,
        .backend = "auto",
        .n_threads = 2,
        .progress = PRX_METER_NEVER,
        .is_stopped = is_stopped,
    };
    int rc = prx_run(&opts, result);
    free(dir);
    return rc;
}

static void assert_same_files(struct fixture *fixture, const char *got_name,
                              const char *want_name)
{
    char *got = prx_scratch_list(path_of(fixture, got_name));
    char *want = prx_scratch_list(path_of(fixture, want_name));

    assert_string_equal(got, want);
    free(got);
    free(want);
}

static bool is_there(struct fixture *fixture, const char *name)
{
    return access(path_of(fixture, name), F_OK) == 0;
}

/* --- what is drawn ---------------------------------------------------------------- */

static int on_picture(void *ctx, const struct prx_generate_job *job,
                      struct prx_image *image)
{
    prx_sheet_put(ctx, job, image);
    return 0;
}

/* The sheet that the network of @gen draws. */
static void draw_sheet(struct fixture *fixture, struct prx_generator *gen,
                       struct prx_image *out)
{
    const struct prx_conf_strings *prompts = &fixture->recipe.sample.prompts;
    struct prx_sheet sheet = {
        .labels = (const char *const *)prompts->values,
        .n_prompts = prompts->n,
        .n_images = 2,
    };
    struct prx_generate_opts opts;

    prx_generate_presets(gen, &opts);
    opts.seed = 7;
    assert_int_equal(prx_sheet_init(&sheet), 0);
    assert_int_equal(prx_generate_all(gen, &opts, sheet.labels, prompts->n, 2, 4,
                                      on_picture, &sheet),
                     0);
    assert_int_equal(prx_sheet_draw(&sheet, out), 0);
    prx_sheet_release(&sheet);
}

/* The same of run @name's checkpoint, which has averages where the run had. */
static void draw_checkpoint(struct fixture *fixture, const char *name,
                            struct prx_image *out)
{
    struct prx_generator gen;
    struct prx_backend *be;

    assert_int_equal(prx_backend_open("auto", 2, &be), 0);
    assert_int_equal(prx_generator_open(&gen, path_of(fixture, name), be), 0);
    draw_sheet(fixture, &gen, out);
    prx_generator_release(&gen);
    prx_backend_close(be);
}

static void read_picture(struct fixture *fixture, const char *name,
                         struct prx_image *out)
{
    struct prx_buf *png;

    assert_int_equal(prx_file_get(path_of(fixture, name), 1 << 24, &png), 0);
    *out = (struct prx_image){0};
    assert_int_equal(prx_image_decode(out, NULL, png->bytes, png->n_bytes, NULL), 0);
    prx_buf_unref(png);
}

static bool is_same_picture(const struct prx_image *a, const struct prx_image *b)
{
    return a->width_px == b->width_px && a->height_px == b->height_px &&
           memcmp(a->pixels, b->pixels,
                  (size_t)a->width_px * (size_t)a->height_px * 3) == 0;
}

/* Pictures are those that prx-sample makes of the checkpoint: of averages, or not. */
static void test_draws_what_is_trained(void **state)
{
    static const char *const averages[] = {
        "optim.ema_smoothing=0.9",
        "optim.ema_start_step=99", /* not active at the end */
        "optim.ema_smoothing=0",
        "objective.prediction=x0",
    };
    struct fixture *fixture = *state;
    struct prx_image got, want, first = {0};
    struct prx_run_result result;

    for (size_t i = 0; i < N_OF(averages); i++) {
        char name[32], file[64];
        snprintf(name, sizeof(name), "run%zu", i);
        snprintf(file, sizeof(file), "run%zu/samples/step-0000012.png", i);
        set(fixture, averages[i]);
        assert_int_equal(train(fixture, name, BEGIN, NULL, &result), 0);
        read_picture(fixture, file, &got);
        if (i != 1) { /* a checkpoint holds averages even where they do not count */
            draw_checkpoint(fixture, name, &want);
            assert_true(is_same_picture(&got, &want));
            prx_image_release(&want);
        }
        if (i == 0)
            first = got;
        else
            assert_false(is_same_picture(&got, &first));
        if (i > 0)
            prx_image_release(&got);
    }
    assert_same_files(fixture, "run1/samples", "run2/samples");
    prx_image_release(&first);
}

static void test_changes_no_bit(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result, drawn;

    assert_int_equal(train(fixture, "drawn", BEGIN, NULL, &drawn), 0);
    assert_true(is_there(fixture, "drawn/samples/step-0000005.png"));
    assert_true(is_there(fixture, "drawn/samples/step-0000010.png"));
    set(fixture, "sample.every=0");
    assert_int_equal(train(fixture, "plain", BEGIN, NULL, &result), 0);
    assert_false(is_there(fixture, "plain/samples"));
    assert_same_files(fixture, "drawn/ckpt-0000012", "plain/ckpt-0000012");
    assert_true(drawn.loss == result.loss);
}

/* --- going on, stopping, failing ---------------------------------------------- */

/* Resumed, pictures are drawn again to the same bytes; --overwrite removes them. */
static void test_resume(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    assert_int_equal(train(fixture, "whole", BEGIN, NULL, &result), 0);
    set(fixture, "train.steps=7");
    assert_int_equal(train(fixture, "run", BEGIN, NULL, &result), 0);
    /* That was an end, and is none any more. */
    assert_int_equal(unlink(path_of(fixture, "run/samples/step-0000007.png")), 0);
    prx_scratch_puts(&fixture->scratch, "run/samples/step-0000010.png", "older");
    set(fixture, "train.steps=12");
    assert_int_equal(train(fixture, "run", RESUME, NULL, &result), 0);
    assert_same_files(fixture, "run/samples", "whole/samples");

    set(fixture, "sample.every=0");
    set(fixture, "train.steps=2");
    assert_int_equal(train(fixture, "run", OVERWRITE, NULL, &result), 0);
    assert_false(is_there(fixture, "run/samples"));
}

static const char *log_path;

/* Whether step 3 is logged; asked while listing, before each step, while drawing. */
static bool has_logged(void *ctx)
{
    struct prx_buf *log = NULL;
    (void)ctx;

    if (prx_file_get(log_path, 1 << 20, &log) < 0)
        return false;
    bool is_there = strstr((const char *)log->bytes, "\"step\": 3,");
    prx_buf_unref(log);
    return is_there;
}

/*
 * Stopped while it draws, the run saves weights as weights, not the averages; going on,
 * it draws first.
 */
static void test_stop(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    set(fixture, "sample.every=3");
    log_path = path_of(fixture, "run/log.jsonl");
    assert_int_equal(train(fixture, "run", BEGIN, has_logged, &result), PRX_ECANCELED);
    assert_non_null(strstr(prx_err_message(), "stopped after step 3;"));
    assert_false(is_there(fixture, "run/samples"));
    set(fixture, "train.steps=3");
    assert_int_equal(train(fixture, "whole", BEGIN, NULL, &result), 0);
    assert_same_files(fixture, "run/ckpt-0000003", "whole/ckpt-0000003");
    assert_int_equal(train(fixture, "run", RESUME, NULL, &result), 0);
    assert_same_files(fixture, "run/samples", "whole/samples");
    assert_true(is_there(fixture, "run/samples/step-0000003.png"));
}

/* A size that cannot be is refused before the first step. */
static void test_refused(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    set(fixture, "sample.size_px=40");
    assert_int_equal(train(fixture, "run", BEGIN, NULL, &result), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "sample.size_px: 40 x 40 pixels"));
    assert_int_equal(result.n_steps, 0);
}

/* A picture that cannot be kept ends the run. */
static void test_no_place(void **state)
{
    struct fixture *fixture = *state;
    struct prx_run_result result;

    prx_scratch_puts(&fixture->scratch, "run/samples/step-0000005.png/file", "");
    assert_int_equal(train(fixture, "run", RESUME, NULL, &result), PRX_EIO);
    assert_non_null(strstr(prx_err_message(), "step-0000005.png"));
    assert_int_equal(result.n_steps, 5);
}

/* A build that can encode but not decode trains, and draws nothing. */
static void test_no_decoder(void **state)
{
    struct fixture *fixture = *state;
    const struct prx_run_opts opts = {.recipe = &fixture->recipe, .run_dir = "none"};
    struct prx_model_info info = {.prediction = "flow_matching"};
    struct prx_train_data data;
    struct prx_train_grid grid;
    struct prx_trainer trainer;
    struct prx_backend *be;

    assert_int_equal(prx_recipe_resolve(&fixture->recipe), 0);
    assert_int_equal(prx_backend_open("plan", 1, &be), 0);
    assert_int_equal(prx_train_data_init(&data, &fixture->recipe), 0);
    assert_int_equal(prx_trainer_init(&trainer, &fixture->recipe, be), 0);
    data.vae->decode = NULL;
    assert_int_equal(prx_train_grid_init(&grid, &opts, &data, &trainer, &info), 0);
    assert_int_equal(prx_train_grid_step(&grid, 5, NULL), 0);
    assert_false(grid.is_open);
    prx_train_grid_release(&grid);
    prx_trainer_release(&trainer);
    prx_train_data_release(&data);
    prx_backend_close(be);
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(test_draws_what_is_trained),
        ROW(test_changes_no_bit),
        ROW(test_resume),
        ROW(test_stop),
        ROW(test_refused),
        ROW(test_no_place),
        ROW(test_no_decoder),
    };
    prx_log_init("test_train_grid", PRX_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
