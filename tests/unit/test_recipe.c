/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipe.h: the table, the shipped recipes, what is refused, and that the manual
 * says what the table says.
 *
 * PRX_BLESS=1 in the environment writes the manual's list anew.
 */
#include "train/recipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/outfile.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define MANUAL      "man/prx-recipe.5"

/* Every row can be printed: a default that parses, a sentence that fits its place. */
static void test_table(void **state)
{
    size_t n_rows;
    const struct prx_conf_row *rows = prx_recipe_rows(&n_rows);
    struct prx_recipe recipe;
    (void)state;

    assert_int_equal(prx_recipe_init(&recipe), 0);
    assert_int_equal(prx_recipe_resolve(&recipe), 0);
    for (size_t i = 0; i < n_rows; i++) {
        size_t n_section = strcspn(rows[i].key, ".");
        assert_int_equal(rows[i].key[n_section], '.');
        assert_non_null(rows[i].help);
        assert_false(rows[i].help[strlen(rows[i].help) - 1] == '.');
        assert_true((rows[i].type == PRX_CONF_ENUM) == (rows[i].choices != NULL));
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(rows[i].key, rows[j].key);
            assert_int_not_equal(rows[i].offset, rows[j].offset);
            /* Sections stand together, or the printed file would open one twice. */
            if (strncmp(rows[i].key, rows[j].key, n_section + 1) == 0)
                assert_int_equal(strncmp(rows[i].key, rows[i - 1].key, n_section + 1),
                                 0);
        }
    }
    prx_recipe_release(&recipe);
}

/* The networks of the family, by the names of their recipes. */
static void test_networks(void **state)
{
    static const struct {
        const char *name;
        int64_t n_params;
    } networks[] = {
        {"baseline", 1170691648},
        {"prx_small", 1170691648},
        {"prx_base", 6985046080},
        {"prx_dcae_small", 1170576928},
        {"prx_flux2", 1170921088},
        {"prx_jit_32_small", 1177215744},
        {"nano", 5218816},
        {"prx_jit_nano", 5403904},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++) {
        struct prx_recipe recipe;
        int64_t n_params = 0;
        char *path = NULL;

        assert_int_equal(prx_recipe_find(networks[i].name, &path), 0);
        assert_int_equal(prx_recipe_init(&recipe), 0);
        assert_int_equal(prx_recipe_read(&recipe, path), 0);
        assert_int_equal(prx_recipe_resolve(&recipe), 0);
        assert_int_equal(prx_denoiser_count(&recipe.model.config, &n_params), 0);
        if (n_params != networks[i].n_params)
            fail_msg("%s has %lld parameters", networks[i].name, (long long)n_params);
        prx_recipe_release(&recipe);
        free(path);
    }
}

/* The baseline is the study's, number by number. */
static void test_baseline(void **state)
{
    struct prx_recipe recipe, preset;
    struct prx_recipe_budget budget;
    (void)state;

    assert_int_equal(prx_recipe_init(&recipe), 0);
    assert_int_equal(prx_recipe_read(&recipe, "manifests/recipes/baseline.yaml"), 0);
    assert_int_equal(prx_recipe_resolve(&recipe), 0);
    assert_int_equal(prx_recipe_budget(&recipe, 8, 256, &budget), 0);
    assert_int_equal(budget.n_params, 1170691648);
    assert_int_equal(budget.n_image_tokens, 256);
    assert_true(budget.step_flops > 3e14 && budget.step_flops < 4e14);
    assert_true(recipe.optim.schedule.lr == 1e-4);
    assert_true(recipe.optim.config.adamw.beta1 == 0.9 &&
                recipe.optim.config.adamw.beta2 == 0.95);
    assert_true(recipe.optim.config.adamw.eps == 1e-15 &&
                recipe.optim.config.adamw.weight_decay == 0);
    assert_true(recipe.optim.clip_norm == 0.2);
    assert_int_equal(recipe.optim.schedule.warmup_steps, 1000);
    assert_true(recipe.optim.schedule.composer_lag);
    assert_int_equal(recipe.optim.schedule.decay, PRX_LR_CONSTANT);
    assert_true(recipe.optim.ema_smoothing == 0);
    assert_int_equal(recipe.train.batch, 256);
    assert_int_equal(recipe.train.steps, 100000);
    assert_int_equal(recipe.train.seed, 42);
    assert_int_equal(recipe.train.checkpoint_every, 10000);
    assert_int_equal(recipe.objective.timestep.kind, PRX_TIMESTEP_LOGIT_NORMAL);
    assert_true(recipe.objective.timestep.shift == 1);
    assert_true(recipe.objective.timestep.uniform_part == 0.1);
    assert_true(recipe.objective.timestep.t_min == 0.001);
    assert_true(recipe.objective.timestep.t_max == 1);
    assert_true(recipe.data.caption_dropout == 0.1);
    assert_int_equal(recipe.data.captions.n, 1);
    assert_string_equal(recipe.data.captions.weights[0].names[0], "long");

    /* Defaults are the baseline's, but for the encoders, which a build may lack. */
    struct prx_str own = {0}, defaults = {0};
    assert_int_equal(prx_recipe_init(&preset), 0);
    assert_int_equal(prx_recipe_set(&preset, "data.vae=flux1"), 0);
    assert_int_equal(prx_recipe_set(&preset, "data.text=t5gemma-2b"), 0);
    assert_int_equal(prx_recipe_set(&preset, "data.text_tokens=256"), 0);
    assert_int_equal(prx_recipe_resolve(&preset), 0);
    assert_int_equal(prx_recipe_format(&recipe, &own), 0);
    assert_int_equal(prx_recipe_format(&preset, &defaults), 0);
    assert_string_equal(own.bytes, defaults.bytes);
    prx_str_release(&own);
    prx_str_release(&defaults);
    prx_recipe_release(&preset);
    prx_recipe_release(&recipe);
}

static void test_nano(void **state)
{
    struct prx_scratch scratch;
    struct prx_recipe recipe, again;
    struct prx_recipe_budget budget;
    struct prx_str text = {0}, second = {0};
    char *path = NULL;
    (void)state;

    assert_int_equal(prx_recipe_find("nano", &path), 0);
    assert_int_equal(prx_recipe_init(&recipe), 0);
    assert_int_equal(prx_recipe_read(&recipe, path), 0);
    assert_int_equal(prx_recipe_resolve(&recipe), 0);
    assert_int_equal(recipe.model.config.hidden_size, 192);
    assert_int_equal(recipe.model.config.axes_dim[0], 16);
    assert_int_equal(prx_recipe_budget(&recipe, 8, 128, &budget), 0);
    assert_int_equal(budget.n_params, 5218816);
    assert_true(budget.recompute_flops == 0);
    assert_int_equal(prx_recipe_set(&recipe, "train.recompute=blocks"), 0);
    double step_flops = budget.step_flops;
    assert_int_equal(prx_recipe_budget(&recipe, 8, 128, &budget), 0);
    assert_true(budget.step_flops == step_flops);
    /* Blocks are most of the network, and are run four times instead of three. */
    assert_true(budget.recompute_flops > 0.3 * step_flops &&
                budget.recompute_flops < step_flops / 3);

    /* What is printed is the same recipe. */
    prx_scratch_open(&scratch);
    assert_int_equal(prx_recipe_format(&recipe, &text), 0);
    assert_int_equal(prx_recipe_init(&again), 0);
    assert_int_equal(
        prx_recipe_read(&again, prx_scratch_puts(&scratch, "again.yaml", text.bytes)),
        0);
    assert_int_equal(prx_recipe_resolve(&again), 0);
    assert_int_equal(prx_recipe_format(&again, &second), 0);
    assert_string_equal(text.bytes, second.bytes);
    prx_scratch_close(&scratch);
    prx_str_release(&text);
    prx_str_release(&second);
    prx_recipe_release(&again);
    prx_recipe_release(&recipe);
    free(path);
}

/* Patterns keep their order and their letters, through a file and back. */
static void test_groups(void **state)
{
    static const char *const sets[] = {
        "optim.kind=muon",
        "optim.muon_dtype=f32",
        "precision.params=bf16",
        "optim.lr_scale={\"final_layer.*\": 0.5, \"blocks.[01].*\": 0, '*': 2}",
        "optim.decay_scale={\"*.bias\": 0, \"*norm*\": 0, blocks.?.up_proj.weight: 3}",
    };
    struct prx_scratch scratch;
    struct prx_recipe recipe, again;
    struct prx_str text = {0}, second = {0};
    (void)state;

    assert_int_equal(prx_recipe_init(&recipe), 0);
    for (size_t i = 0; i < N_OF(sets); i++)
        assert_int_equal(prx_recipe_set(&recipe, sets[i]), 0);
    assert_int_equal(prx_recipe_resolve(&recipe), 0);
    assert_int_equal(prx_recipe_format(&recipe, &text), 0);
    prx_scratch_open(&scratch);
    assert_int_equal(prx_recipe_init(&again), 0);
    assert_int_equal(
        prx_recipe_read(&again, prx_scratch_puts(&scratch, "again.yaml", text.bytes)),
        0);
    assert_int_equal(prx_recipe_format(&again, &second), 0);
    assert_string_equal(text.bytes, second.bytes);

    const struct prx_optim_config *config = &again.optim.config;
    assert_int_equal(config->kind, PRX_OPTIM_MUON);
    assert_int_equal(config->muon.dtype, PRX_F32);
    assert_int_equal(again.precision.params, PRX_BF16);
    assert_int_equal(config->lr_scale.n, 3);
    assert_string_equal(config->lr_scale.names[1], "blocks.[01].*");
    assert_true(config->lr_scale.weights[0] == 0.5);
    assert_string_equal(config->decay_scale.names[2], "blocks.?.up_proj.weight");
    assert_true(config->decay_scale.weights[2] == 3);
    prx_scratch_close(&scratch);
    prx_str_release(&text);
    prx_str_release(&second);
    prx_recipe_release(&again);
    prx_recipe_release(&recipe);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *set;
        const char *message; /* a part of it */
    } cases[] = {
        {"model.num_heads=5", "hidden_size"},
        {"model.axes_dim=[32, 30]", "axes"},
        {"model.axes_dim=[32]", "model.axes_dim: expected two widths"},
        {"data.captions={}", "data.captions: no caption has a weight above 0"},
        {"data.captions={long: 0}", "data.captions: no caption has a weight above 0"},
        {"data.captions={a/b: 1}", "data.captions: \"a/b\" is no caption's name"},
        {"data.captions={\"..\": 1}", "data.captions: \"..\" is no caption's name"},
        {"data.vae=", "data.vae: a name is missing"},
        {"data.text=", "data.text: a name is missing"},
        {"sample.every=5", "sample.every: 5, but sample.prompts is empty"},
        {"objective.t_min=1", "objective.t_min: 1 is not below t_max, 1"},
    };
    (void)state;

    for (size_t i = 0; i < N_OF(cases); i++) {
        struct prx_recipe recipe;
        assert_int_equal(prx_recipe_init(&recipe), 0);
        assert_int_equal(prx_recipe_set(&recipe, cases[i].set), 0);
        assert_int_equal(prx_recipe_resolve(&recipe), PRX_EINVAL);
        if (!strstr(prx_err_message(), cases[i].message))
            print_message("%s: %s\n", cases[i].set, prx_err_message());
        assert_non_null(strstr(prx_err_message(), cases[i].message));
        prx_recipe_release(&recipe);
    }
}

static void test_find(void **state)
{
    char *path = NULL;
    (void)state;

    assert_int_equal(prx_recipe_find("some/where.yaml", &path), 0);
    assert_string_equal(path, "some/where.yaml");
    free(path);
    assert_int_equal(prx_recipe_find("nothing-of-that-name", &path), PRX_ENOENT);
    assert_null(path);
}

/* --- the manual ----------------------------------------------------------------- */

static const char begin_mark[] = ".\\\" Keys: written by tests/unit/test_recipe.c.\n";
static const char end_mark[] = ".\\\" End of keys.\n";

static void test_manual(void **state)
{
    size_t n_rows;
    const struct prx_conf_row *rows = prx_recipe_rows(&n_rows);
    struct prx_str want = {0};
    struct prx_buf *page = NULL;
    (void)state;

    assert_int_equal(prx_file_get(MANUAL, 1 << 20, &page), 0);
    char *text = (char *)page->bytes;
    char *begin = strstr(text, begin_mark), *end = strstr(text, end_mark);
    assert_true(begin && end && begin < end);
    begin += strlen(begin_mark);
    assert_int_equal(prx_str_add(&want, text, (size_t)(begin - text)), 0);
    assert_int_equal(prx_conf_format_mdoc(rows, n_rows, &want), 0);
    assert_int_equal(prx_str_puts(&want, end), 0);
    if (getenv("PRX_BLESS"))
        assert_int_equal(prx_file_put(MANUAL, want.bytes, want.n_bytes), 0);
    else
        assert_string_equal(text, want.bytes);
    prx_str_release(&want);
    prx_buf_unref(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_baseline),
        cmocka_unit_test(test_nano),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_manual),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
