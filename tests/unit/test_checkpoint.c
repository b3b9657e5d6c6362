/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.h: written and read back bit by bit; damage found; hostile configs. */
#include "train/checkpoint.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/log.h"
#include "libdata/outfile.h"
#include "libdata/safetensors.h"
#include "tests/lib/scratch.h"

/* Of a config, up to the padding before its route. */
#define CONFIG_BYTES                                      \
 (offsetof(struct prx_denoiser_config, resolution_mode) + \
  sizeof(enum prx_resolution_mode))

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct prx_denoiser_config tiny = {
    .in_channels = 2,
    .patch_size = 2,
    .context_in_dim = 8,
    .hidden_size = 16,
    .mlp_ratio = 2,
    .num_heads = 2,
    .depth = 2,
    .axes_dim = {4, 4},
    .theta = 10000,
    .time_factor = 1000,
    .time_max_period = 10000,
};

static const struct prx_model_info tiny_info = {
    .step = 5,
    .prediction = "flow_matching",
    .shift = 1.5,
    .latent_height = 4,
    .latent_width = 6,
    .sample_steps = 20,
    .sample_guidance = 3.5,
    .vae = "dct",
    .vae_fingerprint = "0123456789abcdef0123456789abcdef",
    .text = "hash",
    .text_fingerprint = "fedcba9876543210fedcba9876543210",
    .text_width = 8,
    .text_tokens_max = 128,
};

/* A network with state that is different in every element. */
struct net {
    struct prx_backend *be;
    struct prx_denoiser *denoiser;
    struct prx_param_store *store;
    struct prx_train_state state;
};

static void fill(struct net *net, struct prx_tensor *tensor, float from)
{
    size_t n = (size_t)prx_tensor_count(tensor);
    float *values = calloc(n, sizeof(*values));
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = from + (float)i * 0.37f;
    assert_int_equal(prx_tensor_set(net->be, tensor, values), 0);
    free(values);
}

static void net_open(struct net *net, float from)
{
    const struct prx_optim_config config = {.adamw = {0.9, 0.95, 1e-15, 0}};

    *net = (struct net){0};
    assert_int_equal(prx_backend_open("ref", 1, &net->be), 0);
    assert_int_equal(prx_denoiser_new(net->be, &tiny, true, &net->denoiser), 0);
    net->store = prx_denoiser_params(net->denoiser);
    assert_int_equal(prx_optim_new(net->store, &config, &net->state.optim), 0);
    assert_int_equal(prx_ema_new(net->store, 0.99, 10, 0, &net->state.ema), 0);
    for (size_t i = 0; i < net->store->n_params; i++) {
        fill(net, &net->store->params[i]->value, from + (float)i);
        fill(net, &net->state.optim->m[i], from + (float)i + 0.125f);
        fill(net, &net->state.optim->v[i], from + (float)i + 0.25f);
        fill(net, &net->state.ema->averages[i], from + (float)i + 0.5f);
    }
    net->state.optim->n_steps = 4;
    net->state.ema->active = from > 0;
    net->state.position = (struct prx_train_position){
        .step = 5,
        .n_nonfinite = 1,
        .batch = 16,
        .seed = 42,
        .samples = "00112233445566778899aabbccddeeff",
    };
}

static void net_close(struct net *net)
{
    prx_ema_free(net->state.ema);
    prx_optim_free(net->state.optim);
    prx_denoiser_free(net->denoiser);
    prx_backend_close(net->be);
}

static void assert_same_tensor(struct prx_backend *be, const struct prx_tensor *a,
                               const struct prx_tensor *b)
{
    size_t n_bytes = prx_tensor_bytes(a);
    void *left = malloc(n_bytes), *right = malloc(n_bytes);
    assert_true(left && right);
    assert_int_equal(prx_tensor_get(be, a, left), 0);
    assert_int_equal(prx_tensor_get(be, b, right), 0);
    assert_memory_equal(left, right, n_bytes);
    free(left);
    free(right);
}

struct fixture {
    struct prx_scratch scratch;
    struct net net;
    char *path; /* of the checkpoint */
};

static int open_fixture(void **state)
{
    static struct fixture fixture;

    prx_scratch_open(&fixture.scratch);
    net_open(&fixture.net, 1);
    assert_int_equal(
        prx_strdup(prx_scratch_path(&fixture.scratch, "ckpt-0000005"), &fixture.path),
        0);
    assert_int_equal(prx_checkpoint_write(fixture.path, fixture.net.denoiser,
                                          &tiny_info, &fixture.net.state),
                     0);
    *state = &fixture;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *fixture = *state;

    free(fixture->path);
    net_close(&fixture->net);
    prx_scratch_close(&fixture->scratch);
    return 0;
}

/* --- round trips ---------------------------------------------------------------- */

static void test_resume(void **state)
{
    struct fixture *fixture = *state;
    struct net other;

    net_open(&other, -7);
    other.state.position = (struct prx_train_position){0};
    other.state.optim->n_steps = 0;
    assert_int_equal(prx_checkpoint_resume(fixture->path, other.denoiser, &other.state),
                     0);
    for (size_t i = 0; i < other.store->n_params; i++) {
        const struct net *net = &fixture->net;
        assert_same_tensor(other.be, &net->store->params[i]->value,
                           &other.store->params[i]->value);
        assert_same_tensor(other.be, &net->state.optim->m[i], &other.state.optim->m[i]);
        assert_same_tensor(other.be, &net->state.optim->v[i], &other.state.optim->v[i]);
        assert_same_tensor(other.be, &net->state.ema->averages[i],
                           &other.state.ema->averages[i]);
    }
    assert_int_equal(other.state.optim->n_steps, 4);
    assert_true(other.state.ema->active);
    assert_int_equal(other.state.position.step, 5);
    assert_int_equal(other.state.position.n_nonfinite, 1);
    assert_int_equal(other.state.position.batch, 16);
    assert_int_equal(other.state.position.seed, 42);
    assert_string_equal(other.state.position.samples,
                        fixture->net.state.position.samples);
    net_close(&other);
}

static void test_open(void **state)
{
    struct fixture *fixture = *state;
    struct net *net = &fixture->net;
    struct prx_denoiser *denoiser = NULL;
    struct prx_model_info info;

    /* The weights or their averages; by the checkpoint, or by the run. */
    for (int averaged = 0; averaged < 2; averaged++) {
        const char *path = averaged ? fixture->scratch.root : fixture->path;
        assert_int_equal(prx_checkpoint_open(path, net->be, averaged, &denoiser, &info),
                         0);
        assert_memory_equal(&info, &tiny_info, sizeof(info));
        assert_memory_equal(prx_denoiser_config(denoiser), &tiny, CONFIG_BYTES);
        const struct prx_param_store *store = prx_denoiser_params(denoiser);
        for (size_t i = 0; i < store->n_params; i++)
            assert_same_tensor(net->be, &store->params[i]->value,
                               averaged ? &net->state.ema->averages[i]
                                        : &net->store->params[i]->value);
        prx_denoiser_free(denoiser);
    }
    assert_int_equal(prx_checkpoint_open(prx_scratch_path(&fixture->scratch, "gone"),
                                         net->be, false, &denoiser, &info),
                     PRX_ENOENT);
    assert_null(denoiser);
}

/* A folder of diffusers has neither prx.json nor ema/ nor a manifest. */
static void test_published(void **state)
{
    static const char *const extras[] = {"prx.json", "ema", "manifest.json", "trainer"};
    struct fixture *fixture = *state;
    struct prx_denoiser *denoiser = NULL;
    struct prx_model_info info;

    for (size_t i = 0; i < N_OF(extras); i++) {
        char name[64];
        snprintf(name, sizeof(name), "ckpt-0000005/%s", extras[i]);
        assert_int_equal(prx_remove_tree(prx_scratch_path(&fixture->scratch, name)), 0);
    }
    assert_int_equal(
        prx_checkpoint_open(fixture->path, fixture->net.be, false, &denoiser, &info),
        0);
    assert_string_equal(info.prediction, "flow_matching");
    assert_true(info.shift == 3 && info.sample_guidance == 4);
    assert_int_equal(info.text_width, 8);
    prx_denoiser_free(denoiser);
}

/* The names of PRX's own checkpoints are understood, and strictly checked. */
static void test_names(void **state)
{
    struct fixture *fixture = *state;
    struct net *net = &fixture->net;
    const char *path = prx_scratch_path(&fixture->scratch, "own.safetensors");
    struct prx_st_tensor *list = calloc(net->store->n_params, sizeof(*list));
    char(*names)[256] = calloc(net->store->n_params, sizeof(*names));
    struct net other;

    assert_true(list && names);
    for (size_t i = 0; i < net->store->n_params; i++) {
        const struct prx_param *param = net->store->params[i];
        assert_int_equal(prx_param_name_to_prx(param->name, names[i], sizeof(names[i])),
                         0);
        list[i] = (struct prx_st_tensor){
            .name = names[i],
            .type = PRX_ST_F32,
            .n_dims = param->value.n_dims,
            .n_bytes = prx_tensor_bytes(&param->value),
            .bytes = param->value.data, /* of "ref": host memory */
        };
        memcpy(list[i].dims, param->value.dims, sizeof(int64_t) * PRX_DIMS_MAX);
    }
    net_open(&other, -7);
    assert_int_equal(prx_st_write(path, list, net->store->n_params, NULL), 0);
    assert_int_equal(prx_params_load(other.store, NULL, path), 0);
    for (size_t i = 0; i < net->store->n_params; i++)
        assert_same_tensor(net->be, &net->store->params[i]->value,
                           &other.store->params[i]->value);

    static const struct {
        const char *name; /* instead of the first; NULL: the first is left out */
        const char *message;
    } cases[] = {
        {NULL, "is missing"},
        {"what_is_this", "what_is_this is no parameter of this network"},
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        list[0].name = cases[i].name;
        size_t skip = cases[i].name ? 0 : 1;
        assert_int_equal(
            prx_st_write(path, list + skip, net->store->n_params - skip, NULL), 0);
        assert_int_equal(prx_params_load(other.store, NULL, path), PRX_ESHAPE);
        assert_non_null(strstr(prx_err_message(), cases[i].message));
    }
    list[0].name = names[0];
    int64_t swap = list[0].dims[0];
    list[0].dims[0] = list[0].dims[1];
    list[0].dims[1] = swap;
    assert_int_equal(prx_st_write(path, list, net->store->n_params, NULL), 0);
    assert_int_equal(prx_params_load(other.store, NULL, path), PRX_ESHAPE);
    assert_non_null(strstr(prx_err_message(), "has another shape than"));
    net_close(&other);
    free(list);
    free(names);
}

/* --- whole or not --------------------------------------------------------------- */

static void damage(const char *path)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -3, SEEK_END), 0);
    int c = fgetc(file);
    assert_int_equal(fseek(file, -3, SEEK_END), 0);
    assert_int_not_equal(fputc(c ^ 1, file), EOF);
    assert_int_equal(fclose(file), 0);
}

/* One bit, one byte, one file: any of them, and the older checkpoint is taken. */
static void test_newest(void **state)
{
    static const char *const files[] = {
        "model_index.json",
        "prx.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "ema/config.json",
        "ema/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "trainer/state.json",
        "trainer/moment1.safetensors",
        "trainer/moment2.safetensors",
        "manifest.json",
    };
    enum { FLIPPED,
           SHORTER,
           GONE,
           N_WAYS };
    struct fixture *fixture = *state;
    char *newer = NULL, *newest = NULL;

    assert_int_equal(prx_checkpoint_path(fixture->scratch.root, 12345678, &newer), 0);
    assert_non_null(strstr(newer, "/ckpt-12345678"));
    for (size_t i = 0; i < N_OF(files); i++) {
        for (int way = FLIPPED; way < N_WAYS; way++) {
            assert_int_equal(prx_checkpoint_write(newer, fixture->net.denoiser,
                                                  &tiny_info, &fixture->net.state),
                             0);
            assert_int_equal(prx_checkpoint_newest(fixture->scratch.root, &newest), 0);
            assert_string_equal(newest, newer);
            free(newest);

            char name[128];
            struct stat status;
            snprintf(name, sizeof(name), "ckpt-12345678/%s", files[i]);
            const char *path = prx_scratch_path(&fixture->scratch, name);
            assert_int_equal(stat(path, &status), 0);
            if (way == FLIPPED)
                damage(path);
            else if (way == SHORTER)
                assert_int_equal(truncate(path, status.st_size - 1), 0);
            else
                assert_int_equal(unlink(path), 0);
            assert_true(prx_checkpoint_check(newer) < 0);
            assert_int_equal(prx_checkpoint_newest(fixture->scratch.root, &newest), 0);
            assert_string_equal(newest, fixture->path);
            free(newest);
        }
    }
    assert_int_equal(prx_checkpoint_remove_all(fixture->scratch.root), 0);
    assert_int_equal(prx_checkpoint_newest(fixture->scratch.root, &newest), PRX_ENOENT);
    free(newer);
}

static int count_files(const char *dir)
{
    DIR *list = opendir(dir);
    int n = 0;
    assert_non_null(list);
    for (const struct dirent *at; (at = readdir(list)) != NULL;)
        n += strcmp(at->d_name, ".") != 0 && strcmp(at->d_name, "..") != 0;
    closedir(list);
    return n;
}

static void test_prune(void **state)
{
    struct fixture *fixture = *state;
    const char *root = fixture->scratch.root;

    for (int64_t step = 10; step <= 40; step += 10) {
        char *path = NULL;
        assert_int_equal(prx_checkpoint_path(root, step, &path), 0);
        assert_int_equal(
            prx_checkpoint_write(path, fixture->net.denoiser, &tiny_info, NULL), 0);
        free(path);
    }
    /* What is not ours stays; what a kill left goes. */
    prx_scratch_puts(&fixture->scratch, "ckpt-best/note", "mine");
    prx_scratch_puts(&fixture->scratch, "ckpt-12/note", "mine");
    prx_scratch_puts(&fixture->scratch, ".ckpt-0000050.tmp.1/transformer/x", "torn");
    prx_scratch_puts(&fixture->scratch, ".ckpt-0000001.old.1/transformer/x", "torn");
    assert_int_equal(prx_checkpoint_prune(root, 0), 0);
    assert_int_equal(count_files(root), 5 + 2);
    assert_int_equal(prx_checkpoint_prune(root, 2), 0);
    assert_int_equal(count_files(root), 2 + 2);
    assert_int_equal(access(prx_scratch_path(&fixture->scratch, "ckpt-0000030"), F_OK),
                     0);
    assert_int_equal(access(prx_scratch_path(&fixture->scratch, "ckpt-0000040"), F_OK),
                     0);
}

/* --- config.json, prx.json ------------------------------------------------------ */

static void test_config(void **state)
{
    static const struct prx_denoiser_config small = {16,
                                                     2,
                                                     2304,
                                                     1792,
                                                     3.5,
                                                     28,
                                                     16,
                                                     {32, 32},
                                                     10000,
                                                     1000,
                                                     10000,
                                                     0,
                                                     PRX_RESOLUTION_NONE,
                                                     {PRX_ROUTE_NONE, 0, 0, false}};
    struct fixture *fixture = *state;
    struct prx_denoiser_config config;
    const char *path = prx_scratch_path(&fixture->scratch, "config.json");

    /* diffusers' defaults are prx_small. */
    prx_scratch_puts(&fixture->scratch, "config.json", "{}");
    assert_int_equal(prx_denoiser_config_from_json(path, &config), 0);
    assert_memory_equal(&config, &small, CONFIG_BYTES);

    for (int mode = PRX_RESOLUTION_NONE; mode <= PRX_RESOLUTION_TOKEN; mode++) {
        struct prx_denoiser_config odd = small;
        odd.mlp_ratio = 2.6666666666666665;
        odd.bottleneck_size = 256;
        odd.resolution_mode = (enum prx_resolution_mode)mode;
        assert_int_equal(prx_denoiser_config_to_json(&odd, path), 0);
        assert_int_equal(prx_denoiser_config_from_json(path, &config), 0);
        assert_memory_equal(&config, &odd, CONFIG_BYTES);
    }

    for (int kind = PRX_ROUTE_NONE; kind <= PRX_ROUTE_SPRINT; kind++) {
        struct prx_denoiser_config routed = small;
        routed.route =
            (struct prx_route){(enum prx_route_kind)kind, kind, 3 * kind, kind == 2};
        assert_int_equal(prx_denoiser_config_to_json(&routed, path), 0);
        assert_int_equal(prx_denoiser_config_from_json(path, &config), 0);
        assert_int_equal(config.route.kind, kind);
        assert_int_equal(config.route.start, kind);
        assert_int_equal(config.route.end, 3 * kind);
        assert_true(config.route.detach == (kind == 2));
    }

    static const char *const hostile[] = {
        "",
        "[]",
        "{\"depth\": \"16\"}",
        "{\"depth\": 1e3}",
        "{\"depth\": -1}",
        "{\"hidden_size\": 9223372036854775807}",
        "{\"hidden_size\": 99999999999999999999}",
        "{\"num_heads\": 0}",
        "{\"mlp_ratio\": 1e308}",
        "{\"mlp_ratio\": null, \"axes_dim\": [32]}",
        "{\"axes_dim\": 32}",
        "{\"axes_dim\": [32, \"x\"]}",
        "{\"bottleneck_size\": 1.5}",
        "{\"route\": \"tread\"}",
        "{\"route\": {\"kind\": \"tread\", \"start\": 0, \"end\": 2}}",
        "{\"route\": {\"kind\": \"thread\", \"start\": 0, \"end\": 2,"
        " \"detach\": false}}",
        "{\"route\": {\"kind\": \"sprint\", \"start\": 0, \"end\": 16,"
        " \"detach\": false}}",
        "{\"_class_name\": \"FluxTransformer2DModel\"}",
    };
    for (size_t i = 0; i < N_OF(hostile); i++) {
        prx_scratch_puts(&fixture->scratch, "config.json", hostile[i]);
        path = prx_scratch_path(&fixture->scratch, "config.json");
        int rc = prx_denoiser_config_from_json(path, &config);
        if (rc != PRX_ECORRUPT && rc != PRX_EFORMAT)
            print_message("%s: %d\n", hostile[i], rc);
        assert_true(rc == PRX_ECORRUPT || rc == PRX_EFORMAT);
        assert_non_null(strstr(prx_err_message(), "config.json"));
    }
}

static void test_info(void **state)
{
    static const struct {
        const char *member;
        const char *value;
    } hostile[] = {
        {"\"vae\": \"dct\"", "\"vae\": 5"},
        {"\"vae\": \"dct\"", "\"vea\": \"dct\""},
        {"\"shift\": 1.5", "\"shift\": 0"},
        {"\"latent_width\": 6", "\"latent_width\": -6"},
        {"\"text_fingerprint\": \"fedc", "\"text_fingerprint\": \"0123456789fedc"},
    };
    struct fixture *fixture = *state;
    struct prx_model_info info;
    struct prx_buf *bytes = NULL;

    const char *path = prx_scratch_path(&fixture->scratch, "ckpt-0000005/prx.json");
    assert_int_equal(prx_file_get(path, 1 << 16, &bytes), 0);
    const char *text = (const char *)bytes->bytes;
    for (size_t i = 0; i < N_OF(hostile); i++) {
        struct prx_str changed = {0};
        const char *at = strstr(text, hostile[i].member);
        assert_non_null(at);
        assert_int_equal(prx_str_add(&changed, text, (size_t)(at - text)), 0);
        assert_int_equal(prx_str_puts(&changed, hostile[i].value), 0);
        assert_int_equal(prx_str_puts(&changed, at + strlen(hostile[i].member)), 0);
        path = prx_scratch_puts(&fixture->scratch, "prx.json", changed.bytes);
        assert_int_equal(prx_model_info_read(path, &info), PRX_ECORRUPT);
        prx_str_release(&changed);
    }
    prx_buf_unref(bytes);
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(test_resume),
        ROW(test_open),
        ROW(test_published),
        ROW(test_names),
        ROW(test_newest),
        ROW(test_prune),
        ROW(test_config),
        ROW(test_info),
    };
    prx_log_init("test_checkpoint", PRX_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
