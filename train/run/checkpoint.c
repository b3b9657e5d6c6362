/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint's life: written beside its name, named by a rename, read back.
 *
 *     .ckpt-0001000.tmp.PID  ->  ckpt-0001000  ->  .ckpt-0001000.old.PID
 *
 * A folder under its final name was whole when it got it.  It loses the name
 * before its files are removed, so a kill never leaves a half of one behind.
 */
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"
#include "train/run/checkpoint_internal.h"

#define WEIGHTS_NAME "diffusion_pytorch_model.safetensors"

/* --- writing ---------------------------------------------------------------------- */

/* What diffusers expects at the top: the parts of a PRXPipeline that are here. */
static const char model_index_json[] =
    "{\n"
    "  \"_class_name\": \"PRXPipeline\",\n"
    "  \"_diffusers_version\": \"0.36.0\",\n"
    "  \"scheduler\": [\"diffusers\", \"FlowMatchEulerDiscreteScheduler\"],\n"
    "  \"text_encoder\": [null, null],\n"
    "  \"tokenizer\": [null, null],\n"
    "  \"transformer\": [\"diffusers\", \"PRXTransformer2DModel\"],\n"
    "  \"vae\": [null, null]\n"
    "}\n";

static int put_scheduler(const char *dir, double shift)
{
    struct prx_str path = {0}, text = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/scheduler/scheduler_config.json", dir));
    PRX_GO(prx_str_printf(&text,
                          "{\n"
                          "  \"_class_name\": \"FlowMatchEulerDiscreteScheduler\",\n"
                          "  \"_diffusers_version\": \"0.36.0\",\n"
                          "  \"num_train_timesteps\": 1000,\n"
                          "  \"shift\": %.17g\n"
                          "}\n",
                          shift));
    rc = prx_file_put(path.bytes, text.bytes, text.n_bytes);
out:
    prx_str_release(&path);
    prx_str_release(&text);
    return rc;
}

/*
 * A network's folder: its config and weights (@tensors, or NULL for its own; as
 * @format says, or NULL for as they are kept).
 */
static int put_network(const char *dir, const char *name, struct prx_denoiser *denoiser,
                       const struct prx_tensor *tensors,
                       const struct prx_weight_format *format)
{
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/%s/config.json", dir, name));
    PRX_GO(prx_denoiser_config_to_json(prx_denoiser_config(denoiser), path.bytes));
    prx_str_reset(&path);
    PRX_GO(prx_str_printf(&path, "%s/%s/" WEIGHTS_NAME, dir, name));
    rc = format ? prx_params_export(store, format, path.bytes)
                : prx_params_save(store, tensors, path.bytes);
out:
    prx_str_release(&path);
    return rc;
}

/* What the state is of, so that another kind of run does not take it for its own. */
static void name_state(const struct prx_optim *optim,
                       struct prx_train_position *position)
{
    snprintf(position->optim, sizeof(position->optim), "%s",
             prx_optim_kind_name(optim->kind));
    snprintf(position->params, sizeof(position->params), "%s",
             prx_dtype_name(optim->store->dtype));
}

static int put_state(const char *dir, struct prx_denoiser *denoiser,
                     const struct prx_train_state *state)
{
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    struct prx_train_position position = state->position;
    struct prx_str path = {0};
    int rc = 0;

    position.optim_steps = state->optim->n_steps;
    position.ema_active = state->ema && state->ema->active;
    name_state(state->optim, &position);
    PRX_GO(prx_str_printf(&path, "%s/trainer/state.json", dir));
    PRX_GO(prx_train_position_write(&position, path.bytes));
    prx_str_reset(&path);
    PRX_GO(prx_str_printf(&path, "%s/trainer/moment1.safetensors", dir));
    PRX_GO(prx_params_save(store, state->optim->m, path.bytes));
    prx_str_reset(&path);
    PRX_GO(prx_str_printf(&path, "%s/trainer/moment2.safetensors", dir));
    PRX_GO(prx_params_save(store, state->optim->v, path.bytes));
    if (state->ema)
        rc = put_network(dir, "ema", denoiser, state->ema->averages, NULL);
out:
    prx_str_release(&path);
    return rc;
}

static int put_files(const char *dir, struct prx_denoiser *denoiser,
                     const struct prx_model_info *info,
                     const struct prx_train_state *state,
                     const struct prx_weight_format *format)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(put_network(dir, "transformer", denoiser, NULL, format));
    PRX_GO(put_scheduler(dir, info->shift));
    if (state)
        PRX_GO(put_state(dir, denoiser, state));
    if (*info->vae && *info->text) {
        PRX_GO(prx_str_printf(&path, "%s/prx.json", dir));
        PRX_GO(prx_model_info_write(info, path.bytes));
    }
    prx_str_reset(&path);
    PRX_GO(prx_str_printf(&path, "%s/model_index.json", dir));
    PRX_GO(prx_file_put(path.bytes, model_index_json, strlen(model_index_json)));
    rc = prx_checkpoint_manifest_write(dir);
out:
    prx_str_release(&path);
    return rc;
}

/* "FOLDER/.NAME.WHAT.PID" for "FOLDER/NAME". */
static int beside(const char *path, const char *what, struct prx_str *out)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    return prx_str_printf(out, "%.*s.%s.%s.%ld", (int)(name - path), path, name, what,
                          (long)getpid());
}

/* Take the name from the folder that has it, then remove that folder. */
int prx_checkpoint_remove(const char *path)
{
    struct prx_str old = {0};
    int rc = 0;

    PRX_GO(beside(path, "old", &old));
    PRX_GO(prx_remove_tree(old.bytes));
    if (rename(path, old.bytes) != 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    rc = prx_remove_tree(old.bytes);
out:
    prx_str_release(&old);
    return rc;
}

static int write_folder(const char *path, struct prx_denoiser *denoiser,
                        const struct prx_model_info *info,
                        const struct prx_train_state *state,
                        const struct prx_weight_format *format)
{
    struct prx_str temp = {0};
    int rc = 0;

    PRX_GO(beside(path, "tmp", &temp));
    PRX_GO(prx_remove_tree(temp.bytes));
    PRX_GO(put_files(temp.bytes, denoiser, info, state, format));
    if (access(path, F_OK) == 0)
        PRX_GO(prx_checkpoint_remove(path));
    if (rename(temp.bytes, path) != 0) {
        rc = prx_err_sys("%s", path);
        goto out;
    }
    rc = prx_sync_dir(path);
out:
    if (rc < 0 && temp.n_bytes > 0) {
        struct prx_error error;
        prx_err_save(&error);
        if (prx_remove_tree(temp.bytes) < 0)
            prx_err_clear();
        rc = prx_err_restore(&error);
    }
    prx_str_release(&temp);
    return rc;
}

int prx_checkpoint_write(const char *path, struct prx_denoiser *denoiser,
                         const struct prx_model_info *info,
                         const struct prx_train_state *state)
{
    return write_folder(path, denoiser, info, state, NULL);
}

int prx_checkpoint_export(const char *path, struct prx_denoiser *denoiser,
                          const struct prx_model_info *info,
                          const struct prx_weight_format *format)
{
    if (format->prx_names)
        return prx_err(PRX_EINVAL, "%s: diffusers' layout has diffusers' names", path);
    return write_folder(path, denoiser, info, NULL, format);
}

/* --- reading ---------------------------------------------------------------------- */

static bool has_file(const char *dir, const char *name)
{
    struct prx_str path = {0};
    bool is_there = prx_str_printf(&path, "%s/%s", dir, name) == 0 &&
                    access(path.bytes, F_OK) == 0;

    prx_str_release(&path);
    return is_there;
}

static int load_weights(const char *dir, const char *name,
                        struct prx_denoiser *denoiser, struct prx_tensor *tensors)
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/%s/" WEIGHTS_NAME, dir, name));
    rc = prx_params_load(prx_denoiser_params(denoiser), tensors, path.bytes);
out:
    prx_str_release(&path);
    return rc;
}

/* What a published PRX says of itself nowhere: diffusers' own defaults. */
static struct prx_model_info published_info(const struct prx_denoiser_config *config)
{
    return (struct prx_model_info){
        .prediction = "flow_matching",
        .shift = 3,
        .latent_height = 32,
        .latent_width = 32,
        .sample_steps = 28,
        .sample_guidance = 4,
        .text_width = config->context_in_dim,
        .text_tokens_max = 256,
    };
}

static int read_info(const char *dir, const struct prx_denoiser_config *config,
                     struct prx_model_info *info)
{
    struct prx_str path = {0};
    int rc = 0;

    *info = published_info(config);
    if (has_file(dir, "prx.json")) {
        PRX_GO(prx_str_printf(&path, "%s/prx.json", dir));
        rc = prx_model_info_read(path.bytes, info);
    }
out:
    prx_str_release(&path);
    return rc;
}

static int open_folder(const char *dir, struct prx_backend *be, bool averaged,
                       struct prx_denoiser **out, struct prx_model_info *info)
{
    const char *network =
        averaged && has_file(dir, "ema/" WEIGHTS_NAME) ? "ema" : "transformer";
    struct prx_denoiser_config config;
    struct prx_denoiser *denoiser = NULL;
    struct prx_str path = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&path, "%s/%s/config.json", dir, network));
    PRX_GO(prx_denoiser_config_from_json(path.bytes, &config));
    PRX_GO(read_info(dir, &config, info));
    PRX_GO(prx_denoiser_new(be, &config, false, &denoiser));
    PRX_GO(load_weights(dir, network, denoiser, NULL));
    *out = denoiser;
    denoiser = NULL;
out:
    prx_denoiser_free(denoiser);
    prx_str_release(&path);
    return rc;
}

int prx_checkpoint_open(const char *path, struct prx_backend *be, bool averaged,
                        struct prx_denoiser **denoiser, struct prx_model_info *info)
{
    char *newest = NULL;

    *denoiser = NULL;
    if (has_file(path, "transformer/config.json"))
        return open_folder(path, be, averaged, denoiser, info);
    if (access(path, F_OK) != 0)
        return prx_err_sys("%s", path);
    PRX_TRY(prx_checkpoint_newest(path, &newest));
    int rc = open_folder(newest, be, averaged, denoiser, info);
    free(newest);
    return rc;
}

static int check_state(const char *path, const struct prx_optim *optim,
                       const struct prx_train_position *found)
{
    struct prx_train_position own = {0};

    name_state(optim, &own);
    if (found->optim[0] == '\0' || found->params[0] == '\0')
        return prx_err(PRX_EFORMAT, "%s: made by an older version, which cannot be"
                                    " resumed",
                       path);
    if (strcmp(found->optim, own.optim) != 0)
        return prx_err(PRX_EINVAL, "%s: made with optim.kind %s, not %s", path,
                       found->optim, own.optim);
    if (strcmp(found->params, own.params) != 0)
        return prx_err(PRX_EINVAL, "%s: made with precision.params %s, not %s", path,
                       found->params, own.params);
    return 0;
}

int prx_checkpoint_resume(const char *path, struct prx_denoiser *denoiser,
                          struct prx_train_state *state)
{
    struct prx_param_store *store = prx_denoiser_params(denoiser);
    struct prx_train_position *position = &state->position;
    struct prx_str name = {0};
    int rc = 0;

    PRX_GO(prx_str_printf(&name, "%s/trainer/state.json", path));
    PRX_GO(prx_train_position_read(name.bytes, position));
    PRX_GO(check_state(path, state->optim, position));
    PRX_GO(load_weights(path, "transformer", denoiser, NULL));
    prx_str_reset(&name);
    PRX_GO(prx_str_printf(&name, "%s/trainer/moment1.safetensors", path));
    PRX_GO(prx_params_load(store, state->optim->m, name.bytes));
    prx_str_reset(&name);
    PRX_GO(prx_str_printf(&name, "%s/trainer/moment2.safetensors", path));
    PRX_GO(prx_params_load(store, state->optim->v, name.bytes));
    state->optim->n_steps = position->optim_steps;
    if (state->ema && !has_file(path, "ema/" WEIGHTS_NAME)) {
        rc = prx_err(PRX_EINVAL, "%s: has no averages of weights", path);
        goto out;
    }
    if (state->ema) {
        PRX_GO(load_weights(path, "ema", denoiser, state->ema->averages));
        state->ema->active = position->ema_active;
    }
out:
    prx_str_release(&name);
    return rc;
}
