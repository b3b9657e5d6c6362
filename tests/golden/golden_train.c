/* SPDX-License-Identifier: Apache-2.0 */
/* adamw_steps, muon_steps, muon_split, grad_clip, ema, lr_warmup, train_steps. */
#include "tests/golden/golden.h"

#include "train/objective.h"
#include "train/optim.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES 256
#define STEPS_MAX  100000

static int read_steps(const struct golden_case *golden, int64_t *out)
{
    PRX_TRY(golden_integer(golden, "steps", out));
    if (*out < 1 || *out > STEPS_MAX)
        return prx_err(PRX_EINVAL, "config.steps is not 1 to %d", STEPS_MAX);
    return 0;
}

/* A parameter for every tensor PREFIX*, named by what follows; values read. */
static int store_of(struct golden_case *golden, const char *prefix, bool train,
                    struct prx_param_store *store)
{
    size_t n_prefix = strlen(prefix);

    prx_param_store_init(store, golden->be, train);
    for (size_t i = 0; i < golden->file.n_tensors; i++) {
        const struct prx_st_tensor *tensor = &golden->file.tensors[i];
        struct prx_param *param = NULL;
        if (strncmp(tensor->name, prefix, n_prefix) != 0)
            continue;
        if (tensor->type != PRX_ST_F32)
            return prx_err(PRX_EFORMAT, "%s is not F32", tensor->name);
        PRX_TRY(prx_param_store_add(store, tensor->name + n_prefix, tensor->n_dims,
                                    tensor->dims, &param));
        PRX_TRY(prx_tensor_set(golden->be, &param->value, tensor->bytes));
    }
    if (store->n_params == 0)
        return prx_err(PRX_ENOENT, "no tensor %s*", prefix);
    return 0;
}

static int set_from(struct golden_case *golden, struct prx_tensor *tensor,
                    const char *prefix, int64_t k, const char *name)
{
    const struct prx_st_tensor *source = NULL;
    char full[NAME_BYTES];

    snprintf(full, sizeof(full), "%s%lld.%s", prefix, (long long)k, name);
    PRX_TRY(golden_input(golden, &source, "%s", full));
    if (source->type != PRX_ST_F32 || source->n_bytes != prx_tensor_bytes(tensor))
        return prx_err(PRX_ESHAPE, "%s does not fit its parameter", full);
    return prx_tensor_set(golden->be, tensor, source->bytes);
}

/* --- adamw_steps, muon_steps -------------------------------------------------- */

static int adamw_config(const struct golden_case *golden, struct prx_optim_config *out)
{
    *out = (struct prx_optim_config){.kind = PRX_OPTIM_ADAMW};
    PRX_TRY(golden_element(golden, "betas", 0, &out->adamw.beta1));
    PRX_TRY(golden_element(golden, "betas", 1, &out->adamw.beta2));
    PRX_TRY(golden_number(golden, "eps", &out->adamw.eps));
    return golden_number(golden, "weight_decay", &out->adamw.weight_decay);
}

static int optim_steps(struct golden_case *golden, struct prx_param_store *store,
                       struct prx_optim *optim)
{
    int64_t n_steps = 0;
    double lr = 0.0;

    PRX_TRY(read_steps(golden, &n_steps));
    PRX_TRY(golden_number(golden, "lr", &lr));
    for (int64_t k = 1; k <= n_steps; k++) {
        for (size_t i = 0; i < store->n_params; i++)
            PRX_TRY(set_from(golden, &store->params[i]->grad, "in.g", k,
                             store->params[i]->name));
        PRX_TRY(prx_optim_step(optim, lr, 1.0));
        for (size_t i = 0; i < store->n_params; i++)
            PRX_TRY(golden_put_device(golden, &store->params[i]->value, "out.p%lld.%s",
                                      (long long)k, store->params[i]->name));
    }
    for (size_t i = 0; i < store->n_params; i++) {
        const char *name = store->params[i]->name;
        PRX_TRY(golden_put_device(golden, &optim->m[i], "out.m.%s", name));
        if (optim->v[i].data)
            PRX_TRY(golden_put_device(golden, &optim->v[i], "out.v.%s", name));
    }
    return 0;
}

static int run_optim(struct golden_case *golden, const struct prx_optim_config *config)
{
    struct prx_param_store store = {0};
    struct prx_optim *optim = NULL;
    int rc = 0;

    PRX_GO(store_of(golden, "w.", true, &store));
    PRX_GO(prx_optim_new(&store, config, &optim));
    rc = optim_steps(golden, &store, optim);
out:
    prx_optim_free(optim);
    prx_param_store_release(&store);
    return rc;
}

static int run_adamw_steps(struct golden_case *golden)
{
    struct prx_optim_config config;

    PRX_TRY(adamw_config(golden, &config));
    return run_optim(golden, &config);
}

static int is_true(const struct golden_case *golden, const char *key, bool *out)
{
    const json_t *value =
        json_object_get(json_object_get(golden->root, "config"), key);

    if (!json_is_boolean(value))
        return prx_err(PRX_ENOENT, "config.%s is not true or false", key);
    *out = json_is_true(value);
    return 0;
}

/* One word of two, by its number. */
static int which(const struct golden_case *golden, const char *key,
                 const char *const words[2], int *out)
{
    const char *word = golden_text(golden, key);

    for (*out = 0; *out < 2; ++*out)
        if (strcmp(word, words[*out]) == 0)
            return 0;
    return prx_err(PRX_EINVAL, "config.%s is neither %s nor %s", key, words[0],
                   words[1]);
}

static int muon_config(const struct golden_case *golden, struct prx_optim_config *out)
{
    static const char *const dtypes[] = {"float32", "bfloat16"};
    static const char *const eps_modes[] = {"add", "clamp"};
    struct prx_muon_config *muon = &out->muon;

    *out = (struct prx_optim_config){.kind = PRX_OPTIM_MUON};
    muon->filter = ""; /* every matrix, whatever its name */
    PRX_TRY(golden_number(golden, "momentum", &muon->momentum));
    PRX_TRY(is_true(golden, "nesterov", &muon->nesterov));
    PRX_TRY(golden_integer(golden, "ns_steps", &muon->ns_steps));
    PRX_TRY(golden_number(golden, "weight_decay", &muon->weight_decay));
    PRX_TRY(is_true(golden, "rms_scale", &muon->rms_scale));
    PRX_TRY(which(golden, "ns_dtype", dtypes, &muon->dtype));
    return which(golden, "ns_eps_mode", eps_modes, &muon->eps_mode);
}

static int run_muon_steps(struct golden_case *golden)
{
    struct prx_optim_config config;

    PRX_TRY(muon_config(golden, &config));
    return run_optim(golden, &config);
}

/* --- muon_split ------------------------------------------------------------------- */

static int run_muon_split(struct golden_case *golden)
{
    const json_t *config = json_object_get(golden->root, "config");
    const json_t *names = json_object_get(config, "names");
    const json_t *shapes = json_object_get(config, "shapes");
    const char *filter = golden_text(golden, "muon_name_filter");
    int64_t n = (int64_t)json_array_size(names);
    int32_t *is_muon = NULL;

    if (n == 0 || json_array_size(shapes) != (size_t)n)
        return prx_err(PRX_EINVAL, "config.shapes are not one a name");
    PRX_TRY(golden_alloc(golden, (size_t)n, sizeof(*is_muon), &is_muon));
    for (int64_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        size_t n_dims = json_array_size(json_array_get(shapes, (size_t)i));
        is_muon[i] = prx_muon_takes(name ? name : "", (int)n_dims, filter);
    }
    return golden_put(golden, "out.is_muon", PRX_ST_I32, 1, &n, is_muon);
}

/* --- grad_clip ------------------------------------------------------------------ */

/* Scaling belongs to the optimiser's op; here it is shown by itself. */
static int put_clipped(struct golden_case *golden, const struct prx_param *param,
                       double factor)
{
    struct prx_backend *be = golden->be;
    struct prx_tensor scaled;

    PRX_TRY(
        golden_device(golden, PRX_F32, param->grad.n_dims, param->grad.dims, &scaled));
    PRX_TRY(be->ops->axpby(be, &scaled, (float)factor, &param->grad, 0.0f));
    return golden_put_device(golden, &scaled, "out.g.%s", param->name);
}

static int run_grad_clip(struct golden_case *golden)
{
    struct prx_param_store store = {0};
    double max_norm = 0.0;
    double norm = 0.0;
    int rc = 0;

    PRX_GO(golden_number(golden, "max_norm", &max_norm));
    PRX_GO(store_of(golden, "in.g.", true, &store));
    for (size_t i = 0; i < store.n_params; i++)
        PRX_GO(golden->be->ops->axpby(golden->be, &store.params[i]->grad, 1.0f,
                                      &store.params[i]->value, 0.0f));
    PRX_GO(prx_grad_norm(&store, &norm));
    PRX_GO(golden_put_numbers(golden, "out.total_norm", &norm, 1));
    for (size_t i = 0; i < store.n_params; i++)
        PRX_GO(put_clipped(golden, store.params[i], prx_clip_factor(norm, max_norm)));
out:
    prx_param_store_release(&store);
    return rc;
}

/* --- ema -------------------------------------------------------------------------- */

static int ema_steps(struct golden_case *golden, struct prx_param_store *store,
                     struct prx_ema *ema, int64_t n_steps)
{
    int32_t *active = NULL;

    PRX_TRY(golden_alloc(golden, (size_t)n_steps, sizeof(*active), &active));
    for (int64_t k = 1; k <= n_steps; k++) {
        for (size_t i = 0; i < store->n_params; i++)
            PRX_TRY(set_from(golden, &store->params[i]->value, "in.w", k,
                             store->params[i]->name));
        PRX_TRY(prx_ema_step(ema, k));
        active[k - 1] = ema->active;
    }
    for (size_t i = 0; i < store->n_params; i++)
        PRX_TRY(golden_put_device(golden, &ema->averages[i], "out.ema.%s",
                                  store->params[i]->name));
    return golden_put(golden, "out.active", PRX_ST_I32, 1, &n_steps, active);
}

static int run_ema(struct golden_case *golden)
{
    struct prx_param_store store = {0};
    struct prx_ema *ema = NULL;
    int64_t n_steps = 0, interval = 0, start = 0;
    double smoothing = 0.0;
    int rc = 0;

    PRX_GO(read_steps(golden, &n_steps));
    PRX_GO(golden_number(golden, "smoothing", &smoothing));
    PRX_GO(golden_integer(golden, "update_interval", &interval));
    PRX_GO(golden_integer(golden, "ema_start", &start));
    PRX_GO(store_of(golden, "w.", false, &store));
    PRX_GO(prx_ema_new(&store, smoothing, interval, start, &ema));
    rc = ema_steps(golden, &store, ema, n_steps);
out:
    prx_ema_free(ema);
    prx_param_store_release(&store);
    return rc;
}

/* --- lr_warmup ---------------------------------------------------------------------
 */

static int schedule_of(const struct golden_case *golden, struct prx_lr_schedule *out)
{
    *out = (struct prx_lr_schedule){.decay = PRX_LR_CONSTANT, .composer_lag = true};
    PRX_TRY(golden_number(golden, "lr", &out->lr));
    return golden_integer(golden, "t_warmup", &out->warmup_steps);
}

static int run_lr_warmup(struct golden_case *golden)
{
    struct prx_lr_schedule schedule;
    int64_t n_steps = 0;
    double *rates = NULL;

    PRX_TRY(schedule_of(golden, &schedule));
    PRX_TRY(read_steps(golden, &n_steps));
    PRX_TRY(golden_alloc(golden, (size_t)n_steps, sizeof(*rates), &rates));
    for (int64_t k = 1; k <= n_steps; k++)
        rates[k - 1] = prx_lr_at(&schedule, k);
    return golden_put_numbers(golden, "out.lr", rates, n_steps);
}

/* --- train_steps -------------------------------------------------------------------
 */

static int train_step(struct golden_case *golden, struct prx_denoiser *denoiser,
                      struct prx_tape *tape, int64_t k, double *loss_out, double *norm)
{
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    long long i_batch = k;
    enum prx_prediction kind = PRX_PREDICT_VELOCITY;
    struct prx_batch batch = {0};
    float loss_value = 0.0f;

    PRX_TRY(golden_prediction(golden, &kind));
    PRX_TRY(golden_upload(golden, &batch.latent, "in.b%lld.latent", i_batch));
    PRX_TRY(golden_upload(golden, &batch.noise, "in.b%lld.noise", i_batch));
    PRX_TRY(golden_upload(golden, &batch.t, "in.b%lld.timestep", i_batch));
    PRX_TRY(golden_upload(golden, &batch.text, "in.b%lld.text", i_batch));
    PRX_TRY(golden_upload(golden, &batch.mask, "in.b%lld.text_mask", i_batch));
    struct prx_var *loss = prx_flow_loss(tape, denoiser, kind, &batch, NULL, NULL);
    PRX_TRY(prx_tape_error(tape));
    PRX_TRY(prx_param_store_zero_grad(store));
    PRX_TRY(prx_tape_backward(tape, loss, 1.0f));
    PRX_TRY(prx_tensor_get(golden->be, &loss->value, &loss_value));
    *loss_out = loss_value;
    PRX_TRY(prx_grad_norm(store, norm));
    return prx_tape_reset(tape);
}

static int train_steps(struct golden_case *golden, struct prx_denoiser *denoiser,
                       struct prx_tape *tape, struct prx_optim *optim)
{
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    struct prx_lr_schedule schedule;
    int64_t n_steps = 0;
    double max_norm = 0.0;
    double *losses = NULL;
    double *norms = NULL;
    char name[NAME_BYTES];

    PRX_TRY(read_steps(golden, &n_steps));
    PRX_TRY(schedule_of(golden, &schedule));
    PRX_TRY(golden_number(golden, "max_grad_norm", &max_norm));
    PRX_TRY(golden_alloc(golden, (size_t)n_steps, sizeof(*losses), &losses));
    PRX_TRY(golden_alloc(golden, (size_t)n_steps, sizeof(*norms), &norms));
    for (int64_t k = 1; k <= n_steps; k++) {
        double *norm = &norms[k - 1];
        PRX_TRY(train_step(golden, denoiser, tape, k, &losses[k - 1], norm));
        PRX_TRY(prx_optim_step(optim, prx_lr_at(&schedule, k),
                               prx_clip_factor(*norm, max_norm)));
    }
    PRX_TRY(golden_put_numbers(golden, "out.loss", losses, n_steps));
    PRX_TRY(golden_put_numbers(golden, "out.grad_norm", norms, n_steps));
    for (size_t i = 0; i < store->n_params; i++) {
        PRX_TRY(golden_param_name(golden, store->params[i], name, sizeof(name)));
        PRX_TRY(golden_put_device(golden, &store->params[i]->value, "out.w.%s", name));
    }
    return 0;
}

static int train_config(const struct golden_case *golden, struct prx_optim_config *out)
{
    static const char *const optimizers[] = {"adamw", "muon"};
    int kind = 0;

    PRX_TRY(adamw_config(golden, out));
    PRX_TRY(which(golden, "optimizer", optimizers, &kind));
    if (kind == 0)
        return 0;
    out->kind = PRX_OPTIM_MUON;
    out->adamw.weight_decay = 0.0;
    out->muon = (struct prx_muon_config){
        .nesterov = true, .ns_steps = 5, .rms_scale = true, .dtype = PRX_F32};
    PRX_TRY(golden_number(golden, "momentum", &out->muon.momentum));
    return golden_number(golden, "adam_eps", &out->muon.adam_eps);
}

static int run_train_steps(struct golden_case *golden)
{
    struct prx_optim_config config;
    struct prx_denoiser *denoiser = NULL;
    struct prx_optim *optim = NULL;
    struct prx_tape *tape = NULL;
    int rc = 0;

    if (golden_is_todo(golden))
        return GOLDEN_TODO;
    PRX_GO(train_config(golden, &config));
    PRX_GO(golden_model(golden, true, &denoiser));
    PRX_GO(prx_optim_new(prx_denoiser_params(denoiser), &config, &optim));
    PRX_GO(prx_tape_new(golden->be, &tape));
    rc = train_steps(golden, denoiser, tape, optim);
out:
    prx_tape_free(tape);
    prx_optim_free(optim);
    prx_denoiser_free(denoiser);
    return rc;
}

const struct golden_op golden_train_ops[] = {
    {"adamw_steps", run_adamw_steps},
    {"muon_steps", run_muon_steps},
    {"muon_split", run_muon_split},
    {"grad_clip", run_grad_clip},
    {"ema", run_ema},
    {"lr_warmup", run_lr_warmup},
    {"train_steps", run_train_steps},
    {NULL, NULL},
};
