/* SPDX-License-Identifier: Apache-2.0 */
/* The recipe's keys, and what must hold between them. */
#include "train/recipe.h"

#include <ctype.h>
#include <string.h>

#include "libdata/sample.h"
#include "train/checkpoint.h"

static const char *const resolution_names[] = {"none", "vec", "token", NULL};
static const char *const route_names[] = {"none", "tread", "sprint", NULL};
static const char *const objective_names[] = {"flow", NULL};
static const char *const image_crop_names[] = {"center", "random", "bucket", NULL};
static const char *const prediction_names[] = {"velocity", "x0", NULL};
static const char *const timestep_names[] = {"logit_normal", "uniform", NULL};
static const char *const optim_names[] = {"adamw", "muon", NULL};
static const char *const decay_names[] = {"constant", "cosine", NULL};
static const char *const dtype_names[] = {"f32", "bf16", NULL}; /* enum prx_dtype */
static const char *const recompute_names[] = {"none", "blocks", NULL};

/* Defaults are the study's baseline: PRX-1.2B at 256 pixels. */
#define AT(member) offsetof(struct prx_recipe, member)
/* clang-format off */
static const struct prx_conf_row rows[] = {
    {"model.in_channels", PRX_CONF_INT, AT(model.config.in_channels), "16",
     "channels of a latent", NULL, 1, 4096},
    {"model.patch_size", PRX_CONF_INT, AT(model.config.patch_size), "2",
     "latent cells a token covers, each way", NULL, 1, 256},
    {"model.context_in_dim", PRX_CONF_INT, AT(model.config.context_in_dim), "2304",
     "width of the text states; the hash tower takes any", NULL, 1, 65536},
    {"model.hidden_size", PRX_CONF_INT, AT(model.config.hidden_size), "1792",
     "width of the transformer", NULL, 1, 65536},
    {"model.mlp_ratio", PRX_CONF_FLOAT, AT(model.config.mlp_ratio), "3.5",
     "width of the gated MLP, as a multiple of hidden_size", NULL, 0.01, 64},
    {"model.num_heads", PRX_CONF_INT, AT(model.config.num_heads), "28",
     "attention heads", NULL, 1, 1024},
    {"model.depth", PRX_CONF_INT, AT(model.config.depth), "16",
     "transformer blocks", NULL, 1, 1024},
    {"model.axes_dim", PRX_CONF_INTS, AT(model.axes_dim), NULL,
     "widths of the rotary embedding of rows and of columns; their sum is the width"
     " of a head; null halves it", NULL, 2, 65536},
    {"model.theta", PRX_CONF_FLOAT, AT(model.config.theta), "10000",
     "base of the rotary embedding's wavelengths", NULL, 1, 1e9},
    {"model.time_factor", PRX_CONF_FLOAT, AT(model.config.time_factor), "1000",
     "timesteps are multiplied by this before they are embedded", NULL, 1e-3, 1e9},
    {"model.time_max_period", PRX_CONF_FLOAT, AT(model.config.time_max_period), "10000",
     "longest wavelength of the timestep embedding", NULL, 1, 1e9},
    {"model.bottleneck_size", PRX_CONF_INT, AT(model.config.bottleneck_size), "0",
     "width of a linear bottleneck behind the patches; 0 for none", NULL, 0, 65536},
    {"model.resolution_mode", PRX_CONF_ENUM, AT(model.config.resolution_mode), "none",
     "how the latent's size conditions the network", resolution_names, 0, 0},

    {"data.vae", PRX_CONF_STRING, AT(data.vae), "dct",
     "what made the latents; another fingerprint is refused", NULL, 0, 0},
    {"data.text", PRX_CONF_STRING, AT(data.text), "hash",
     "what made the text states; it also gives the null caption's", NULL, 0, 0},
    {"data.text_tokens", PRX_CONF_INT, AT(data.text_tokens), "0",
     "longest caption, in tokens; longer ones are cut; 0 takes the encoder's own limit",
     NULL, 0, 65536},
    {"data.sources", PRX_CONF_WEIGHTS, AT(data.sources), "{}",
     "sources to mix, each with its share of the samples that are drawn; used where"
     " the command line names none", NULL, 0, 1e6},
    {"data.captions", PRX_CONF_PHASES, AT(data.captions), "{long: 1}",
     "captions to choose from, by weight; where a sample lacks the chosen one, the"
     " first of this list that it has; with steps, the weights from that step on",
     NULL, 0, 1e6},
    {"data.caption_dropout", PRX_CONF_FLOAT, AT(data.caption_dropout), "0.1",
     "share of samples that see the null caption instead", NULL, 0, 1},
    {"data.shuffle", PRX_CONF_BOOL, AT(data.shuffle), "true",
     "take a new order each epoch; false keeps the order of the source", NULL, 0, 0},
    {"data.replacement", PRX_CONF_BOOL, AT(data.replacement), "false",
     "draw every sample from all of its source, so that there are no epochs", NULL, 0,
     0},
    {"data.window_samples", PRX_CONF_INT, AT(data.window_samples), "0",
     "shuffle through a window of so many samples, so that few shards are read at a"
     " time; 0 is no bound: all samples are shuffled as one", NULL, 0, 4e9},
    {"data.window_bytes", PRX_CONF_INT, AT(data.window_bytes), "0",
     "the same bound in bytes of what is read of the samples", NULL, 0, 1e18},
    {"data.cache_bytes", PRX_CONF_INT, AT(data.cache_bytes), "0",
     "keep all latents and text states in memory if they fit this many bytes, of each"
     " process",
     NULL, 0, 1e18},
    {"data.prefetch_bytes", PRX_CONF_INT, AT(data.prefetch_bytes), "67108864",
     "batches are read ahead of the step as long as they fit this many bytes, one"
     " always", NULL, 0, 1e15},
    {"data.image_px", PRX_CONF_INT, AT(data.image_px), "0",
     "with vae pixels: take pictures as they are stored, and crop and resize them to"
     " squares of this side, or to buckets of about that area, while training; 0 reads"
     " latents", NULL, 0, 16384},
    {"data.image_crop", PRX_CONF_ENUM, AT(data.image_crop), "center",
     "what is cut off of such a picture: as much on both sides, as it is drawn, or as"
     " little as the nearest aspect bucket asks for", image_crop_names, 0, 0},
    {"data.image_flip", PRX_CONF_FLOAT, AT(data.image_flip), "0",
     "share of such pictures that are mirrored", NULL, 0, 1},

    {"objective.kind", PRX_CONF_ENUM, AT(objective.kind), "flow",
     "flow: rectified flow", objective_names, 0, 0},
    {"objective.prediction", PRX_CONF_ENUM, AT(objective.prediction), "velocity",
     "what the network's output means: the velocity, or the clean latent x0, whose"
     " loss is still the velocity's", prediction_names, 0, 0},
    {"objective.timesteps", PRX_CONF_ENUM, AT(objective.timestep.kind), "logit_normal",
     "distribution of training timesteps", timestep_names, 0, 0},
    {"objective.shift", PRX_CONF_FLOAT, AT(objective.timestep.shift), "1",
     "timestep shift towards noise, in training and sampling", NULL, 1e-3, 1e3},
    {"objective.uniform_part", PRX_CONF_FLOAT, AT(objective.timestep.uniform_part),
     "0.1", "share of timesteps drawn uniformly instead, unshifted", NULL, 0, 1},
    {"objective.t_min", PRX_CONF_FLOAT, AT(objective.timestep.t_min), "0.001",
     "smallest timestep", NULL, 0, 1},
    {"objective.t_max", PRX_CONF_FLOAT, AT(objective.timestep.t_max), "1",
     "timesteps stay below this", NULL, 0, 1},

    {"route.kind", PRX_CONF_ENUM, AT(model.config.route.kind), "none",
     "tokens that some blocks do not see: tread puts them back behind those blocks as"
     " they were, sprint fuses what was before and behind them", route_names, 0, 0},
    {"route.start", PRX_CONF_INT, AT(model.config.route.start), "2",
     "first block, from 0, that does not see all tokens", NULL, 0, 1023},
    {"route.end", PRX_CONF_INT, AT(model.config.route.end), "12",
     "last such block", NULL, 0, 1023},
    {"route.share", PRX_CONF_FLOAT, AT(route.share), "0.5",
     "share of tokens not seen, drawn for each sample; in training only", NULL, 0, 1},
    {"route.detach", PRX_CONF_BOOL, AT(model.config.route.detach), "false",
     "let no gradient pass around the route", NULL, 0, 0},

    {"optim.kind", PRX_CONF_ENUM, AT(optim.config.kind), "adamw",
     "optimiser; muon takes the matrices of the blocks and leaves the rest to AdamW",
     optim_names, 0, 0},
    {"optim.lr", PRX_CONF_FLOAT, AT(optim.schedule.lr), "1e-4",
     "learning rate after warm-up", NULL, 0, 10},
    {"optim.beta1", PRX_CONF_FLOAT, AT(optim.config.adamw.beta1), "0.9",
     "decay of the first moment", NULL, 0, 0.999999},
    {"optim.beta2", PRX_CONF_FLOAT, AT(optim.config.adamw.beta2), "0.95",
     "decay of the second moment", NULL, 0, 0.999999},
    {"optim.eps", PRX_CONF_FLOAT, AT(optim.config.adamw.eps), "1e-15",
     "added to the root of the second moment", NULL, 0, 1},
    {"optim.weight_decay", PRX_CONF_FLOAT, AT(optim.config.adamw.weight_decay), "0",
     "decoupled weight decay of AdamW", NULL, 0, 100},
    {"optim.muon_momentum", PRX_CONF_FLOAT, AT(optim.config.muon.momentum), "0.95",
     "decay of Muon's momentum", NULL, 0, 0.999999},
    {"optim.muon_nesterov", PRX_CONF_BOOL, AT(optim.config.muon.nesterov), "true",
     "look a step ahead along Muon's momentum", NULL, 0, 0},
    {"optim.muon_weight_decay", PRX_CONF_FLOAT, AT(optim.config.muon.weight_decay), "0",
     "decoupled weight decay of Muon", NULL, 0, 100},
    {"optim.muon_steps", PRX_CONF_INT, AT(optim.config.muon.ns_steps), "5",
     "Newton-Schulz iterations that make Muon's update orthogonal", NULL, 0, 100},
    {"optim.muon_rms_scale", PRX_CONF_BOOL, AT(optim.config.muon.rms_scale), "true",
     "give Muon's updates the size of AdamW's, so that one rate serves both",
     NULL, 0, 0},
    {"optim.muon_dtype", PRX_CONF_ENUM, AT(optim.config.muon.dtype), "bf16",
     "what the iterations are rounded to; the reference runs them in bf16",
     dtype_names, 0, 0},
    {"optim.muon_adam_eps", PRX_CONF_FLOAT, AT(optim.config.muon.adam_eps), "1e-8",
     "in place of optim.eps for what Muon leaves to AdamW", NULL, 0, 1},
    {"optim.lr_scale", PRX_CONF_WEIGHTS, AT(optim.config.lr_scale), "{}",
     "factors of the learning rate, by patterns of parameter names; 0 freezes",
     NULL, 0, 1e6},
    {"optim.decay_scale", PRX_CONF_WEIGHTS, AT(optim.config.decay_scale), "{}",
     "factors of the weight decay, by patterns of parameter names; 0 exempts",
     NULL, 0, 1e6},
    {"optim.clip_norm", PRX_CONF_FLOAT, AT(optim.clip_norm), "0.2",
     "gradients are scaled down to this global norm; 0 does not clip", NULL, 0, 1e9},
    {"optim.warmup_steps", PRX_CONF_INT, AT(optim.schedule.warmup_steps), "1000",
     "steps in which the learning rate rises linearly", NULL, 0, 1e12},
    {"optim.composer_lag", PRX_CONF_BOOL, AT(optim.schedule.composer_lag), "true",
     "warm up two steps late, the first two at rate 0, as the reference does",
     NULL, 0, 0},
    {"optim.decay", PRX_CONF_ENUM, AT(optim.schedule.decay), "constant",
     "learning rate after warm-up; cosine falls to the floor at train.steps",
     decay_names, 0, 0},
    {"optim.floor", PRX_CONF_FLOAT, AT(optim.schedule.floor), "0",
     "where cosine ends, as a part of lr", NULL, 0, 1},
    {"optim.ema_smoothing", PRX_CONF_FLOAT, AT(optim.ema_smoothing), "0",
     "keep a moving average of the weights with this factor; 0 keeps none",
     NULL, 0, 0.9999999},
    {"optim.ema_interval_steps", PRX_CONF_INT, AT(optim.ema_interval_steps), "10",
     "steps between updates of the average", NULL, 1, 1e9},
    {"optim.ema_start_step", PRX_CONF_INT, AT(optim.ema_start_step), "0",
     "step at which the average begins", NULL, 0, 1e12},

    {"precision.params", PRX_CONF_ENUM, AT(precision.params), "f32",
     "how parameters and optimiser state are stored; bf16 loses small updates",
     dtype_names, 0, 0},

    {"train.steps", PRX_CONF_INT, AT(train.steps), "100000",
     "optimiser steps in all; a resumed run goes on up to this", NULL, 0, 1e12},
    {"train.batch", PRX_CONF_INT, AT(train.batch), "256",
     "samples a step, of all processes together", NULL, 1, 1e6},
    {"train.micro_batch", PRX_CONF_INT, AT(train.micro_batch), "0",
     "samples run at once; a step adds up the gradients of all its slices; 0 runs the"
     " whole batch", NULL, 0, 1e6},
    {"train.recompute", PRX_CONF_ENUM, AT(train.recompute), "none",
     "what backward runs again, to save memory (activation checkpointing); blocks"
     " keeps only the input of each transformer block", recompute_names, 0, 0},
    {"train.seed", PRX_CONF_INT, AT(train.seed), "42",
     "what every draw depends on: weights, order, noise, timesteps, captions",
     NULL, 0, 9e18},
    {"train.checkpoint_every", PRX_CONF_INT, AT(train.checkpoint_every), "10000",
     "steps between checkpoints; 0 saves at the end only", NULL, 0, 1e12},
    {"train.keep", PRX_CONF_INT, AT(train.keep), "2",
     "newest checkpoints to keep; 0 keeps all", NULL, 0, 1e9},
    {"train.log_every", PRX_CONF_INT, AT(train.log_every), "1",
     "steps a line of log.jsonl covers; its loss is their mean", NULL, 1, 1e9},
    {"train.tensorboard", PRX_CONF_BOOL, AT(train.tensorboard), "true",
     "write the numbers of log.jsonl for TensorBoard too", NULL, 0, 0},
    {"train.nonfinite_max", PRX_CONF_INT, AT(train.nonfinite_max), "10",
     "steps in a row that may be skipped for a loss or gradient that is not finite;"
     " one more ends the run", NULL, 0, 1e9},

    {"sample.size_px", PRX_CONF_INT, AT(sample.size_px), "256",
     "size of pictures a checkpoint is sampled at unless told otherwise; 0 takes that"
     " of the training samples", NULL, 0, 65536},
    {"sample.steps", PRX_CONF_INT, AT(sample.steps), "50",
     "sampling steps unless told otherwise", NULL, 1, 10000},
    {"sample.guidance", PRX_CONF_FLOAT, AT(sample.guidance), "3.5",
     "guidance scale unless told otherwise; 1 is none", NULL, 0, 1000},
    {"sample.self_guidance", PRX_CONF_BOOL, AT(sample.self_guidance), "false",
     "lead away from what the network says over its route, which tread has, instead"
     " of without a prompt", NULL, 0, 0},
    {"sample.every", PRX_CONF_INT, AT(sample.every), "0",
     "steps between grids of pictures that a run draws of its prompts, and one at its"
     " end; 0 draws none", NULL, 0, 1e12},
    {"sample.prompts", PRX_CONF_STRINGS, AT(sample.prompts), "[]",
     "what the pictures of a run's grids are to show", NULL, 0, 0},
    {"sample.per_prompt", PRX_CONF_INT, AT(sample.per_prompt), "1",
     "pictures of each prompt in a grid", NULL, 1, 64},
    {"sample.seed", PRX_CONF_INT, AT(sample.seed), "0",
     "seed of the grids' start noise, the same for each", NULL, 0, 9e18},
};
/* clang-format on */

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

const struct prx_conf_row *prx_recipe_rows(size_t *n_rows)
{
    *n_rows = N_ROWS;
    return rows;
}

int prx_recipe_init(struct prx_recipe *recipe)
{
    memset(recipe, 0, sizeof(*recipe));
    return prx_conf_init(rows, N_ROWS, recipe);
}

void prx_recipe_release(struct prx_recipe *recipe)
{
    prx_conf_release(rows, N_ROWS, recipe);
}

int prx_recipe_read(struct prx_recipe *recipe, const char *path)
{
    return prx_conf_read(rows, N_ROWS, recipe, path, prx_recipe_find);
}

int prx_recipe_set(struct prx_recipe *recipe, const char *assignment)
{
    return prx_conf_set(rows, N_ROWS, recipe, assignment);
}

int prx_recipe_format(const struct prx_recipe *recipe, struct prx_str *out)
{
    return prx_conf_format(rows, N_ROWS, recipe, out);
}

static int resolve_axes(struct prx_recipe *recipe)
{
    struct prx_denoiser_config *config = &recipe->model.config;
    struct prx_conf_ints *axes = &recipe->model.axes_dim;

    if (axes->n == 0) {
        int64_t half = config->hidden_size / config->num_heads / 2;
        *axes = (struct prx_conf_ints){.n = 2, .values = {half, half}};
    }
    if (axes->n != 2)
        return prx_err(PRX_EINVAL, "model.axes_dim: expected two widths");
    config->axes_dim[0] = axes->values[0];
    config->axes_dim[1] = axes->values[1];
    return 0;
}

/* Caption names become parts' names, NAME.text.npy. */
static int check_caption_name(const char *name)
{
    size_t n_bytes = strlen(name);

    for (size_t i = 0; i < n_bytes; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-')
            return prx_err(PRX_EINVAL, "data.captions: \"%s\" is no caption's name",
                           name);
    if (n_bytes > PRX_FIELD_NAME_BYTES_MAX / 2)
        return prx_err(PRX_EINVAL, "data.captions: %.20s... is too long", name);
    return 0;
}

static int check_captions(const struct prx_conf_phases *captions)
{
    const char *names[PRX_LOADER_CAPTIONS_MAX];

    for (int i = 0; i < captions->n; i++) {
        const struct prx_conf_weights *weights = &captions->weights[i];
        double sum = 0;
        for (int k = 0; k < weights->n; k++) {
            PRX_TRY(check_caption_name(weights->names[k]));
            sum += weights->weights[k];
        }
        if (sum <= 0)
            return prx_err(PRX_EINVAL,
                           "data.captions: no caption has a weight above 0");
    }
    return prx_caption_names(captions, names) < 0 ? PRX_EINVAL : 0;
}

int prx_caption_names(const struct prx_conf_phases *captions,
                      const char *names[PRX_LOADER_CAPTIONS_MAX])
{
    int n_names = 0;

    for (int i = 0; i < captions->n; i++) {
        const struct prx_conf_weights *weights = &captions->weights[i];
        for (int k = 0; k < weights->n; k++) {
            int i_name = 0;
            while (i_name < n_names && strcmp(names[i_name], weights->names[k]) != 0)
                i_name++;
            if (i_name < n_names)
                continue;
            if (n_names == PRX_LOADER_CAPTIONS_MAX)
                return prx_err(PRX_EINVAL, "data.captions: more than %d names",
                               PRX_LOADER_CAPTIONS_MAX);
            names[n_names++] = weights->names[k];
        }
    }
    return n_names;
}

/* Pictures are latents only where the VAE is none. */
static int check_images(const struct prx_recipe *recipe)
{
    if (recipe->data.image_px == 0 || strcmp(recipe->data.vae, "pixels") == 0)
        return 0;
    return prx_err(PRX_EINVAL,
                   "data.image_px: pictures are trained on with vae pixels, not %s",
                   recipe->data.vae);
}

int prx_recipe_resolve(struct prx_recipe *recipe)
{
    const struct prx_timestep_config *timestep = &recipe->objective.timestep;

    PRX_TRY(resolve_axes(recipe));
    PRX_TRY(prx_denoiser_config_check(&recipe->model.config));
    PRX_TRY(check_captions(&recipe->data.captions));
    if (!recipe->data.vae || !recipe->data.text)
        return prx_err(PRX_EINVAL, "data.%s: a name is missing",
                       recipe->data.vae ? "text" : "vae");
    if (strlen(recipe->data.vae) >= PRX_ENCODER_WORD_BYTES ||
        strlen(recipe->data.text) >= PRX_ENCODER_WORD_BYTES)
        return prx_err(PRX_EINVAL, "data.vae, data.text: at most %d bytes",
                       PRX_ENCODER_WORD_BYTES - 1);
    PRX_TRY(check_images(recipe));
    if (recipe->sample.self_guidance &&
        recipe->model.config.route.kind != PRX_ROUTE_TREAD)
        return prx_err(PRX_EINVAL, "sample.self_guidance: route.kind is not tread");
    if (timestep->t_min >= timestep->t_max)
        return prx_err(PRX_EINVAL, "objective.t_min: %g is not below t_max, %g",
                       timestep->t_min, timestep->t_max);
    if (recipe->sample.every > 0 && recipe->sample.prompts.n == 0)
        return prx_err(PRX_EINVAL, "sample.every: %lld, but sample.prompts is empty",
                       (long long)recipe->sample.every);
    recipe->optim.schedule.total_steps = recipe->train.steps;
    return 0;
}
