/* SPDX-License-Identifier: Apache-2.0 */
/* conf.h: values, parents, assignments, complaints with their line, formatting back. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/buf.h"
#include "libdata/conf.h"
#include "tests/lib/scratch.h"

struct conf {
    bool shuffle;
    int64_t steps;
    double lr;
    char *vae;
    int decay;
    struct prx_conf_ints axes;
    struct prx_conf_weights captions;
    struct prx_conf_strings prompts;
};

static const char *const decay_names[] = {"constant", "cosine", NULL};

#define AT(member) offsetof(struct conf, member)
/* clang-format off */
static const struct prx_conf_row rows[] = {
    {"data.shuffle", PRX_CONF_BOOL, AT(shuffle), "true", "shuffle", NULL, 0, 0},
    {"data.vae", PRX_CONF_STRING, AT(vae), "dct", "encoder", NULL, 0, 0},
    {"data.captions", PRX_CONF_WEIGHTS, AT(captions), "{long: 1}", "text", NULL, 0, 9},
    {"model.axes", PRX_CONF_INTS, AT(axes), NULL, "axes", NULL, 2, 64},
    {"train.steps", PRX_CONF_INT, AT(steps), "100", "steps", NULL, 0, 1e12},
    {"train.lr", PRX_CONF_FLOAT, AT(lr), "1e-4", "rate", NULL, 0, 1},
    {"train.decay", PRX_CONF_ENUM, AT(decay), "constant", "decay", decay_names, 0, 0},
    {"sample.prompts", PRX_CONF_STRINGS, AT(prompts), "[]", "words", NULL, 0, 0},
};
/* clang-format on */
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static struct conf fresh(void)
{
    struct conf conf;
    assert_int_equal(prx_conf_init(rows, N_ROWS, &conf), 0);
    return conf;
}

static int read_text(struct conf *conf, const char *text)
{
    struct prx_scratch scratch;
    char here[4096];

    prx_scratch_open(&scratch);
    prx_scratch_puts(&scratch, "r.yaml", text);
    /* Messages begin with the path as it was given: make that a short one. */
    assert_non_null(getcwd(here, sizeof(here)));
    assert_int_equal(chdir(scratch.root), 0);
    int rc = prx_conf_read(rows, N_ROWS, conf, "r.yaml", NULL);
    assert_int_equal(chdir(here), 0);
    prx_scratch_close(&scratch);
    return rc;
}

static void test_presets(void **state)
{
    struct conf conf = fresh();
    (void)state;

    assert_true(conf.shuffle);
    assert_string_equal(conf.vae, "dct");
    assert_int_equal(conf.steps, 100);
    assert_true(conf.lr == 1e-4);
    assert_int_equal(conf.axes.n, 0);
    assert_int_equal(conf.captions.n, 1);
    assert_string_equal(conf.captions.names[0], "long");
    prx_conf_release(rows, N_ROWS, &conf);
    prx_conf_release(rows, N_ROWS, &conf); /* twice is fine */
}

static void test_values(void **state)
{
    struct conf conf = fresh();
    (void)state;

    assert_int_equal(read_text(&conf, "# a comment\n"
                                      "data:\n"
                                      "  shuffle: false\n"
                                      "  vae: \"my: vae\"\n"
                                      "  captions: {long: 0.7, short: 3e-1}\n"
                                      "model: {axes: [16, 16]}\n"
                                      "train:\n"
                                      "  steps: 20\n"
                                      "  lr: 1e-3\n"
                                      "  decay: cosine\n"
                                      "sample:\n"
                                      "  prompts: [a red cup, \"\", 'null']\n"),
                     0);
    assert_false(conf.shuffle);
    assert_string_equal(conf.vae, "my: vae");
    assert_int_equal(conf.captions.n, 2);
    assert_string_equal(conf.captions.names[1], "short");
    assert_true(conf.captions.weights[0] == 0.7 && conf.captions.weights[1] == 0.3);
    assert_int_equal(conf.axes.n, 2);
    assert_int_equal(conf.axes.values[1], 16);
    assert_int_equal(conf.steps, 20);
    assert_int_equal(conf.decay, 1);
    assert_int_equal(conf.prompts.n, 3);
    assert_string_equal(conf.prompts.values[0], "a red cup");
    assert_string_equal(conf.prompts.values[1], "");
    assert_string_equal(conf.prompts.values[2], "null");
    assert_int_equal(read_text(&conf, "sample:\n  prompts:\n  - one\n  - two\n"), 0);
    assert_int_equal(conf.prompts.n, 2); /* replaced, not added to */
    assert_string_equal(conf.prompts.values[1], "two");
    assert_int_equal(read_text(&conf, ""), 0);
    assert_int_equal(read_text(&conf, "train:\n"), 0);
    assert_int_equal(conf.steps, 20);
    assert_int_equal(read_text(&conf, "data: {vae: null}\nmodel: {axes: ~}\n"), 0);
    assert_null(conf.vae);
    assert_int_equal(conf.axes.n, 0);
    assert_int_equal(read_text(&conf, "sample: {prompts: null}\n"), 0);
    assert_int_equal(conf.prompts.n, 0);
    prx_conf_release(rows, N_ROWS, &conf);
}

/* Every complaint: what is written, what is said. */
static const struct {
    const char *text;
    const char *message;
} complaints[] = {
    {"train:\n  steps: 1\n  stpes: 2\n",
     "r.yaml:3: train.stpes: unknown key (did you mean train.steps?)"},
    {"steps: 1\n", "r.yaml:1: steps: unknown key (did you mean train.steps?)"},
    {"trian:\n  steps: 1\n", "r.yaml:1: trian: unknown key (did you mean train?)"},
    {"zebra: 1\n", "r.yaml:1: zebra: unknown key"},
    {"train:\n  steps: 1\n  steps: 2\n", "r.yaml:3: train.steps: is given twice"},
    {"train: {}\ndata: {}\ntrain: {}\n", "r.yaml:3: train: is given twice"},
    {"train: 5\n", "r.yaml:1: train: is a section; expected keys below"},
    {"train: [1]\n", "r.yaml:1: train: is a section; expected keys below"},
    {"train:\n  steps: many\n", "r.yaml:2: train.steps: expected an integer"},
    {"train:\n  steps: 1.5\n", "r.yaml:2: train.steps: expected an integer"},
    {"train:\n  steps: 0x10\n", "r.yaml:2: train.steps: expected an integer"},
    {"train:\n  steps: {a: 1}\n", "r.yaml:2: train.steps: expected an integer"},
    {"train:\n  steps:\n", "r.yaml:2: train.steps: a value is missing"},
    {"train:\n  steps: -1\n", "r.yaml:2: train.steps: -1 is not in 0 .. 1e+12"},
    {"train:\n  steps: 99999999999999999999\n",
     "r.yaml:2: train.steps: 99999999999999999999 does not fit 64 bits"},
    {"train:\n  lr: nan\n", "r.yaml:2: train.lr: expected a number"},
    {"train:\n  lr: .inf\n", "r.yaml:2: train.lr: expected a number"},
    {"train:\n  lr: 1e999\n", "r.yaml:2: train.lr: expected a number"},
    {"train:\n  lr: 7\n", "r.yaml:2: train.lr: 7 is not in 0 .. 1"},
    {"train:\n  decay: linear\n",
     "r.yaml:2: train.decay: expected one of constant, cosine"},
    {"data:\n  shuffle: maybe\n", "r.yaml:2: data.shuffle: expected true or false"},
    {"data:\n  vae: [a]\n", "r.yaml:2: data.vae: expected text"},
    {"data:\n  vae: \"a\\0b\"\n", "r.yaml:2: data.vae: expected text"},
    {"model:\n  axes: 16\n", "r.yaml:2: model.axes: expected a list of integers"},
    {"model:\n  axes: [16, x]\n", "r.yaml:2: model.axes: expected an integer"},
    {"model:\n  axes: [2,2,2,2,2,2,2,2,2]\n",
     "r.yaml:2: model.axes: more than 8 values"},
    {"data:\n  captions: long\n",
     "r.yaml:2: data.captions: expected {name: weight, ...}"},
    {"data:\n  captions: {long: 1, long: 2}\n",
     "r.yaml:2: data.captions: long is given twice"},
    {"data:\n  captions: {long: -1}\n", "r.yaml:2: data.captions: -1 is not in 0 .. 9"},
    {"data:\n  captions: {a: 1,b: 1,c: 1,d: 1,e: 1,f: 1,g: 1,h: 1,i: 1}\n",
     "r.yaml:2: data.captions: more than 8 names"},
    {"sample:\n  prompts: a cup\n",
     "r.yaml:2: sample.prompts: expected a list of texts"},
    {"sample:\n  prompts: [a cup, ~]\n",
     "r.yaml:2: sample.prompts: expected a list of texts"},
    {"sample:\n  prompts: [[a cup]]\n",
     "r.yaml:2: sample.prompts: expected a list of texts"},
    {"sample:\n  prompts: [\"a\\0b\"]\n",
     "r.yaml:2: sample.prompts: expected a list of texts"},
    {"- a\n- b\n", "r.yaml:1: expected sections of keys"},
    {"hello\n", "r.yaml:1: expected sections of keys"},
    {"train: {steps: 1\n", "r.yaml:2: did not find expected ',' or '}'"},
    {"train:\n\tsteps: 1\n", "r.yaml:2: found character that cannot start any token"},
    {"train: {}\n---\ntrain: {}\n", "r.yaml:2: a second document begins here"},
    {"? [a]\n: 1\n", "r.yaml:1: a key must be a word"},
    {"a: &x {b: *x}\n", "r.yaml:1: a: unknown key"},
    {"train: &x {train: *x}\n", "r.yaml:1: train.train: unknown key"},
    {"extends:\n", "r.yaml:1: extends: expected the name of a file"},
    {"extends: [a]\n", "r.yaml:1: extends: expected the name of a file"},
    {"\nextends: gone.yaml\n",
     "r.yaml:2: extends: gone.yaml: No such file or directory"},
    {"extends: r.yaml\n", "r.yaml: extends r.yaml, which leads back to r.yaml"},
};

static void test_complaints(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(complaints) / sizeof(complaints[0]); i++) {
        struct conf conf = fresh();
        int rc = read_text(&conf, complaints[i].text);
        if (rc >= 0)
            print_message("row %zu was accepted: %s\n", i, complaints[i].text);
        assert_true(rc == PRX_EINVAL || rc == PRX_ENOENT);
        assert_string_equal(prx_err_message(), complaints[i].message);
        prx_conf_release(rows, N_ROWS, &conf);
    }
}

static void test_long_key(void **state)
{
    struct conf conf = fresh();
    char text[400];
    (void)state;

    memset(text, 'k', sizeof(text));
    memcpy(text + 300, ": 1\n", 5);
    assert_int_equal(read_text(&conf, text), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "...: unknown key"));
    prx_conf_release(rows, N_ROWS, &conf);
}

/* Of all words one is known, to a file that the test has made. */
static char found_path[PATH_MAX];

static int find_word(const char *word, char **out)
{
    assert_string_equal(word, "gibbon");
    return prx_strdup(found_path, out);
}

static void test_extends(void **state)
{
    struct prx_scratch scratch;
    struct conf conf = fresh();
    (void)state;

    prx_scratch_open(&scratch);
    prx_scratch_puts(&scratch, "base/a.yaml",
                     "train: {steps: 1, lr: 0.5}\ndata: {captions: {x: 1, y: 2}}\n");
    prx_scratch_puts(&scratch, "base/b.yaml", "train: {steps: 2}\nextends: a.yaml\n");
    const char *path = prx_scratch_puts(&scratch, "c.yaml",
                                        "extends: base/b.yaml\n"
                                        "data: {captions: {z: 3}}\n");
    assert_int_equal(prx_conf_read(rows, N_ROWS, &conf, path, NULL), 0);
    assert_int_equal(conf.steps, 2); /* the child's, wherever its extends stands */
    assert_true(conf.lr == 0.5);
    assert_int_equal(conf.captions.n, 1); /* replaced, not merged */
    assert_string_equal(conf.captions.names[0], "z");

    /* A bare word is looked up. */
    snprintf(found_path, sizeof(found_path), "%s",
             prx_scratch_puts(&scratch, "far/gibbon.yaml", "train: {steps: 77}\n"));
    path = prx_scratch_puts(&scratch, "word.yaml", "extends: gibbon\n");
    assert_int_equal(prx_conf_read(rows, N_ROWS, &conf, path, find_word), 0);
    assert_int_equal(conf.steps, 77);

    /* A circle of three, and a fault in a parent. */
    prx_scratch_puts(&scratch, "base/a.yaml", "extends: ../c.yaml\n");
    path = prx_scratch_path(&scratch, "c.yaml");
    assert_int_equal(prx_conf_read(rows, N_ROWS, &conf, path, NULL), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "which leads back to"));
    prx_scratch_puts(&scratch, "base/a.yaml", "train:\n  stesp: 1\n");
    path = prx_scratch_path(&scratch, "c.yaml");
    assert_int_equal(prx_conf_read(rows, N_ROWS, &conf, path, NULL), PRX_EINVAL);
    assert_non_null(
        strstr(prx_err_message(), "base/a.yaml:2: train.stesp: unknown key"));

    /* A ladder of parents ends somewhere. */
    for (int i = 0; i < 20; i++) {
        char name[32], text[64];
        snprintf(name, sizeof(name), "n%d.yaml", i);
        snprintf(text, sizeof(text), "extends: n%d.yaml\n", i + 1);
        prx_scratch_puts(&scratch, name, text);
    }
    prx_scratch_puts(&scratch, "n20.yaml", "train: {steps: 3}\n");
    path = prx_scratch_path(&scratch, "n0.yaml");
    assert_int_equal(prx_conf_read(rows, N_ROWS, &conf, path, NULL), PRX_EINVAL);
    path = prx_scratch_path(&scratch, "n5.yaml");
    assert_int_equal(prx_conf_read(rows, N_ROWS, &conf, path, NULL), 0);
    assert_int_equal(conf.steps, 3);
    prx_conf_release(rows, N_ROWS, &conf);
    prx_scratch_close(&scratch);
}

/* Weights that change: one phase, or several by rising steps. */
static void test_phases(void **state)
{
    static const struct prx_conf_row row[] = {
        {"captions", PRX_CONF_PHASES, 0, "{long: 1}", "text", NULL, 0, 9}};
    static const struct {
        const char *assignment;
        const char *message; /* NULL: accepted, and written as it came */
    } sets[] = {
        {"captions={long: 0.7, short: 0.3}", NULL},
        {"captions={0: {long: 1}, 20000: {long: 0.7, short: 0.3}}", NULL},
        {"captions={}", NULL},
        {"captions={5: {long: 1}}", "--set: captions: the first step must be 0"},
        {"captions={0: {a: 1}, 9: {b: 1}, 9: {c: 1}}",
         "--set: captions: expected {0: {name: weight, ...}, STEP: {...}},"
         " by rising steps"},
        {"captions={0: {a: 1}, b: 2}",
         "--set: captions: expected {0: {name: weight, ...}, STEP: {...}},"
         " by rising steps"},
        {"captions={0: {a: 1}, 7: 2}",
         "--set: captions: expected {name: weight, ...}"},
        {"captions={0: {a: 10}}", "--set: captions: 10 is not in 0 .. 9"},
        {"captions={0: {},1: {},2: {},3: {},4: {},5: {},6: {},7: {},8: {}}",
         "--set: captions: more than 8 steps"},
        {"captions=long", "--set: captions: expected {name: weight, ...}"},
    };
    struct prx_conf_phases phases;
    (void)state;

    assert_int_equal(prx_conf_init(row, 1, &phases), 0);
    assert_int_equal(phases.n, 1);
    assert_string_equal(phases.weights[0].names[0], "long");
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        struct prx_str text = {0};
        int rc = prx_conf_set(row, 1, &phases, sets[i].assignment);
        assert_int_equal(rc, sets[i].message ? PRX_EINVAL : 0);
        if (sets[i].message) {
            assert_string_equal(prx_err_message(), sets[i].message);
            continue;
        }
        assert_int_equal(prx_conf_format_value(&row[0], &phases, &text), 0);
        assert_string_equal(text.bytes, strchr(sets[i].assignment, '=') + 1);
        prx_str_release(&text);
    }
    prx_conf_release(row, 1, &phases);
}

static void test_set(void **state)
{
    static const struct {
        const char *assignment;
        const char *message; /* NULL: accepted */
    } sets[] = {
        {"train.steps=7", NULL},
        {"data.captions={long: 1, short: 2}", NULL},
        {"model.axes=[4, 8]", NULL},
        {"sample.prompts=[\"a, b\", c d]", NULL},
        {"sample.prompts=a", "--set: sample.prompts: expected a list of texts"},
        {"data.vae=", NULL},
        {"data.vae=a=b", NULL},
        {"train.steps", "--set: train.steps: expected KEY=VALUE"},
        {"train.stpes=7",
         "--set: train.stpes: unknown key (did you mean train.steps?)"},
        {"train=7", "--set: train: is a section; name a key below it"},
        {"train.steps=x", "--set: train.steps: expected an integer"},
        {"train.steps=", "--set: train.steps: a value is missing"},
        {"model.axes=[4", "--set: did not find expected ',' or ']'"},
        {"=7", "--set: : unknown key"},
    };
    struct conf conf = fresh();
    (void)state;

    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        int rc = prx_conf_set(rows, N_ROWS, &conf, sets[i].assignment);
        assert_int_equal(rc, sets[i].message ? PRX_EINVAL : 0);
        if (sets[i].message)
            assert_string_equal(prx_err_message(), sets[i].message);
    }
    /* What was refused has changed nothing. */
    assert_int_equal(conf.steps, 7);
    assert_int_equal(conf.axes.values[1], 8);
    assert_int_equal(conf.captions.n, 2);
    assert_int_equal(conf.prompts.n, 2);
    assert_string_equal(conf.prompts.values[0], "a, b");
    assert_string_equal(conf.prompts.values[1], "c d");
    assert_string_equal(conf.vae, "a=b");
    prx_conf_release(rows, N_ROWS, &conf);
}

static void test_format(void **state)
{
    /* Text that YAML would read as something else must come back as it was. */
    static const char *const texts[] = {"dct", "null", "true", "1e3",
                                        "", "~", "a: b", "x #y",
                                        "\"q\"", "back\\slash", "line\nbreak", "-",
                                        "*a", "caf\xc3\xa9", " lead", "no",
                                        "\xc2\x85 \xc2\x80",
                                        "\xe2\x80\xa8,\xe2\x80\xa9",
                                        "\xef\xbb\xbf", "\xef\xbf\xbe\xef\xbf\xbf",
                                        "\xe7\x8c\xab \xf0\x9f\x90\xb1", "]", "\x7f\t"};
    (void)state;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct conf conf = fresh(), again = fresh();
        struct prx_str text = {0}, second = {0};
        free(conf.vae);
        assert_int_equal(prx_strdup(texts[i], &conf.vae), 0);
        conf.lr = 1.0 / 3;
        conf.steps = INT64_C(999999999999);
        assert_int_equal(
            prx_conf_set(rows, N_ROWS, &conf, "data.captions={\"0x1\": 0.1}"), 0);
        assert_int_equal(prx_conf_set(rows, N_ROWS, &conf, "sample.prompts=[x, y]"), 0);
        free(conf.prompts.values[1]);
        assert_int_equal(prx_strdup(texts[i], &conf.prompts.values[1]), 0);
        assert_int_equal(prx_conf_format(rows, N_ROWS, &conf, &text), 0);
        assert_int_equal(read_text(&again, text.bytes), 0);
        assert_string_equal(again.vae, texts[i]);
        assert_int_equal(again.prompts.n, 2);
        assert_string_equal(again.prompts.values[1], texts[i]);
        assert_true(again.lr == conf.lr);
        assert_string_equal(again.captions.names[0], "0x1");
        assert_int_equal(prx_conf_format(rows, N_ROWS, &again, &second), 0);
        assert_string_equal(text.bytes, second.bytes);
        prx_str_release(&text);
        prx_str_release(&second);
        prx_conf_release(rows, N_ROWS, &conf);
        prx_conf_release(rows, N_ROWS, &again);
    }
}

static void test_format_layout(void **state)
{
    struct conf conf = fresh();
    struct prx_str text = {0};
    (void)state;

    free(conf.vae);
    conf.vae = NULL;
    assert_int_equal(prx_conf_format(rows, N_ROWS, &conf, &text), 0);
    assert_string_equal(text.bytes, "data:\n"
                                    "  shuffle: true\n"
                                    "  vae: null\n"
                                    "  captions: {long: 1}\n"
                                    "model:\n"
                                    "  axes: []\n"
                                    "train:\n"
                                    "  steps: 100\n"
                                    "  lr: 0.0001\n"
                                    "  decay: constant\n"
                                    "sample:\n"
                                    "  prompts: []\n");
    prx_str_release(&text);
    prx_conf_release(rows, N_ROWS, &conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_long_key),
        cmocka_unit_test(test_extends),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_format_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
