/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of every optimiser and dtype: read back by their like, by no other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/lib/gradcheck.h"
#include "tests/lib/scratch.h"
#include "train/checkpoint.h"

#define OK(expr)                      \
 do {                                 \
  if ((expr) < 0)                     \
   fail_msg("%s", prx_err_message()); \
 } while (0)

static const struct prx_denoiser_config tiny = {
    .in_channels = 2,
    .patch_size = 2,
    .context_in_dim = 8,
    .hidden_size = 16,
    .mlp_ratio = 2,
    .num_heads = 2,
    .depth = 1,
    .axes_dim = {4, 4},
    .theta = 10000,
    .time_factor = 1000,
    .time_max_period = 10000,
};

static const struct prx_model_info info = {
    .prediction = "flow_matching",
    .shift = 1,
    .latent_height = 4,
    .latent_width = 4,
    .sample_steps = 20,
    .sample_guidance = 3.5,
    .vae = "dct",
    .text = "hash",
    .text_width = 8,
    .text_tokens_max = 128,
};

/* A network with state of its own numbers. */
struct net {
    struct prx_backend *be;
    struct prx_denoiser *denoiser;
    struct prx_param_store *store;
    struct prx_train_state state;
};

/* Numbers of @seed in @tensor, whatever it is stored as. */
static void fill(struct net *net, struct prx_tensor *tensor, uint64_t seed)
{
    struct prx_tensor wide;

    if (tensor->n_dims == 0)
        return;
    OK(prx_tensor_alloc(net->be, PRX_F32, tensor->n_dims, tensor->dims, &wide));
    OK(gradcheck_fill(net->be, &wide, seed, 1.0f));
    OK(net->be->ops->cast(net->be, tensor, &wide));
    prx_tensor_free(net->be, &wide);
}

static void net_open(struct net *net, enum prx_dtype dtype, enum prx_optim_kind kind,
                     uint64_t seed)
{
    const struct prx_optim_config config = {.kind = (int)kind};

    *net = (struct net){.state.position = {.step = 5, .batch = 16, .samples = "none"}};
    OK(prx_backend_open("ref", 1, &net->be));
    OK(prx_denoiser_new(net->be, &tiny, true, &net->denoiser));
    net->store = prx_denoiser_params(net->denoiser);
    OK(prx_param_store_cast(net->store, dtype));
    OK(prx_optim_new(net->store, &config, &net->state.optim));
    OK(prx_ema_new(net->store, 0.99, 10, 0, &net->state.ema));
    for (size_t i = 0; i < net->store->n_params; i++) {
        fill(net, &net->store->params[i]->value, seed + i);
        fill(net, &net->state.optim->m[i], seed + 100 + i);
        fill(net, &net->state.optim->v[i], seed + 200 + i);
        fill(net, &net->state.ema->averages[i], seed + 300 + i);
    }
    net->state.optim->n_steps = (int64_t)seed;
}

static void net_close(struct net *net)
{
    prx_ema_free(net->state.ema);
    prx_optim_free(net->state.optim);
    prx_denoiser_free(net->denoiser);
    prx_backend_close(net->be);
}

/* One dtype, one shape, one set of bits; nothing is like nothing. */
static void same(const struct prx_tensor *a, const struct prx_tensor *b)
{
    assert_int_equal(a->dtype, b->dtype);
    assert_true(prx_tensor_same_shape(a, b));
    if (a->data)
        assert_memory_equal(a->data, b->data, prx_tensor_bytes(a)); /* of "ref" */
}

struct kind {
    enum prx_dtype dtype;
    enum prx_optim_kind optim;
};

static const struct kind kinds[] = {
    {PRX_F32, PRX_OPTIM_ADAMW},
    {PRX_F32, PRX_OPTIM_MUON},
    {PRX_BF16, PRX_OPTIM_ADAMW},
    {PRX_BF16, PRX_OPTIM_MUON},
};

enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void check_resumed(const struct net *got, const struct net *want)
{
    assert_int_equal(got->state.optim->n_steps, want->state.optim->n_steps);
    for (size_t i = 0; i < want->store->n_params; i++) {
        same(&got->store->params[i]->value, &want->store->params[i]->value);
        same(&got->state.optim->m[i], &want->state.optim->m[i]);
        same(&got->state.optim->v[i], &want->state.optim->v[i]);
        same(&got->state.ema->averages[i], &want->state.ema->averages[i]);
        assert_int_equal(got->state.ema->averages[i].dtype, PRX_F32);
    }
}

/* Written by one kind and resumed by each. */
static void resumed_by_its_like(void **state)
{
    struct prx_scratch scratch;
    (void)state;

    prx_scratch_open(&scratch);
    const char *path = prx_scratch_path(&scratch, "ckpt-0000005");
    for (int i = 0; i < N_KINDS; i++) {
        struct net net;
        net_open(&net, kinds[i].dtype, kinds[i].optim, 1);
        OK(prx_checkpoint_write(path, net.denoiser, &info, &net.state));
        for (int j = 0; j < N_KINDS; j++) {
            struct net other;
            net_open(&other, kinds[j].dtype, kinds[j].optim, 1000);
            int rc = prx_checkpoint_resume(path, other.denoiser, &other.state);
            assert_int_equal(rc, i == j ? 0 : PRX_EINVAL);
            if (i == j) {
                check_resumed(&other, &net);
            } else {
                bool by_optim = kinds[i].optim != kinds[j].optim;
                assert_non_null(strstr(prx_err_message(),
                                       by_optim ? "ckpt-0000005: made with optim.kind "
                                                : "made with precision.params "));
                /* Refused before anything was read over. */
                struct net again;
                net_open(&again, kinds[j].dtype, kinds[j].optim, 1000);
                check_resumed(&other, &again);
                net_close(&again);
            }
            net_close(&other);
        }
        net_close(&net);
    }
    prx_scratch_close(&scratch);
}

static void older_versions_are_told(void **state)
{
    struct prx_scratch scratch;
    struct net net;
    (void)state;

    prx_scratch_open(&scratch);
    net_open(&net, PRX_F32, PRX_OPTIM_ADAMW, 1);
    const char *path = prx_scratch_path(&scratch, "ckpt-0000005");
    OK(prx_checkpoint_write(path, net.denoiser, &info, &net.state));
    prx_scratch_puts(&scratch, "ckpt-0000005/trainer/state.json",
                     "{\"step\": 5, \"optim_steps\": 4, \"n_nonfinite\": 0,"
                     " \"ema_active\": false, \"batch\": 16, \"seed\": 42,"
                     " \"samples\": \"none\"}");
    assert_int_equal(prx_checkpoint_resume(path, net.denoiser, &net.state),
                     PRX_EFORMAT);
    assert_non_null(strstr(prx_err_message(), "made by an older version"));
    net_close(&net);
    prx_scratch_close(&scratch);
}

/* Weights alone go from either dtype to either, and take the bytes of their own. */
static void weights_are_converted(void **state)
{
    struct prx_scratch scratch;
    (void)state;

    prx_scratch_open(&scratch);
    const char *path = prx_scratch_path(&scratch, "weights.safetensors");
    for (int i = 0; i < 4; i++) {
        enum prx_dtype from = i & 1 ? PRX_BF16 : PRX_F32;
        enum prx_dtype to = i & 2 ? PRX_BF16 : PRX_F32;
        struct net net, other;
        struct stat status;
        net_open(&net, from, PRX_OPTIM_ADAMW, 1);
        net_open(&other, to, PRX_OPTIM_ADAMW, 1000);
        OK(prx_params_save(net.store, NULL, path));
        assert_int_equal(stat(path, &status), 0);
        int64_t n_bytes =
            prx_param_store_count(net.store) * (int64_t)prx_dtype_bytes(from);
        assert_in_range(status.st_size, n_bytes, n_bytes + 8192); /* and a header */
        OK(prx_params_load(other.store, NULL, path));
        OK(prx_param_store_cast(net.store, to));
        for (size_t k = 0; k < net.store->n_params; k++)
            same(&other.store->params[k]->value, &net.store->params[k]->value);
        net_close(&net);
        net_close(&other);
    }
    prx_scratch_close(&scratch);
}

/* A moment that its parameter does not have, and one that is not there. */
static void moments_are_strict(void **state)
{
    struct prx_scratch scratch;
    struct net adamw, muon;
    (void)state;

    prx_scratch_open(&scratch);
    const char *path = prx_scratch_path(&scratch, "moment2.safetensors");
    net_open(&adamw, PRX_F32, PRX_OPTIM_ADAMW, 1);
    net_open(&muon, PRX_F32, PRX_OPTIM_MUON, 1);
    OK(prx_params_save(adamw.store, adamw.state.optim->v, path));
    assert_int_equal(prx_params_load(muon.store, muon.state.optim->v, path),
                     PRX_ESHAPE);
    assert_non_null(strstr(prx_err_message(), "weight is not expected"));
    OK(prx_params_save(muon.store, muon.state.optim->v, path));
    OK(prx_params_load(muon.store, muon.state.optim->v, path));
    assert_int_equal(prx_params_load(adamw.store, adamw.state.optim->v, path),
                     PRX_ESHAPE);
    assert_non_null(strstr(prx_err_message(), "weight is missing"));
    net_close(&adamw);
    net_close(&muon);
    prx_scratch_close(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resumed_by_its_like),
        cmocka_unit_test(older_versions_are_told),
        cmocka_unit_test(weights_are_converted),
        cmocka_unit_test(moments_are_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
