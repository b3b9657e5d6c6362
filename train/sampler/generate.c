/* SPDX-License-Identifier: Apache-2.0 */
/* From prompts to pictures: states, noise, Euler steps, decoding. */
#include "train/generate.h"
#include "train/route.h"

#include <stdlib.h>
#include <string.h>

/* No size a picture can have overflows the products below. */
#define SIDE_PX_MAX 65536

static int check_fingerprint(const char *path, const char *kind, const char *name,
                             const char *wanted, const char *got)
{
    if (strcmp(wanted, got) == 0)
        return 0;
    return prx_err(PRX_EINVAL,
                   "%s: trained with %s %s of fingerprint %s, but this build's has %s",
                   path, kind, name, wanted, got);
}

/* Whether all that @gen names goes together; @path is for the message. */
static int join_encoders(struct prx_generator *gen, const char *path)
{
    const struct prx_denoiser_config *config = prx_denoiser_config(gen->denoiser);

    if (gen->vae->channels != config->in_channels ||
        gen->tower->width != config->context_in_dim)
        return prx_err(PRX_EINVAL, "%s: its encoders do not fit its network", path);
    gen->step_px = gen->vae->downsample * config->patch_size;
    return 0;
}

static int open_encoders(struct prx_generator *gen, const char *path)
{
    const struct prx_model_info *info = &gen->info;
    const struct prx_text_opts text_opts = {info->text_width, info->text_tokens_max};

    if (!*info->vae || !*info->text)
        return prx_err(PRX_EINVAL, "%s: no prx.json that names its VAE and text tower",
                       path);
    PRX_TRY(prx_vae_open(info->vae, &gen->vae));
    PRX_TRY(check_fingerprint(path, "VAE", info->vae, info->vae_fingerprint,
                              gen->vae->fingerprint));
    PRX_TRY(prx_text_tower_open(info->text, &text_opts, &gen->tower));
    PRX_TRY(check_fingerprint(path, "text tower", info->text, info->text_fingerprint,
                              gen->tower->fingerprint));
    return join_encoders(gen, path);
}

static size_t count_states(const struct prx_generator *gen)
{
    return (size_t)gen->tower->n_tokens_max * (size_t)gen->tower->width;
}

static int encode_null(struct prx_generator *gen)
{
    gen->null_states = malloc(count_states(gen) * sizeof(float));
    if (!gen->null_states)
        return prx_err_nomem("text states");
    int n_tokens = gen->tower->encode(gen->tower, "", gen->null_states);
    gen->n_null_tokens = n_tokens;
    return n_tokens < 0 ? n_tokens : 0;
}

int prx_generator_open(struct prx_generator *gen, const char *path,
                       struct prx_backend *be)
{
    int rc = 0;

    *gen = (struct prx_generator){.be = be};
    PRX_GO(prx_checkpoint_open(path, be, true, &gen->denoiser, &gen->info));
    PRX_GO(prx_prediction_find(gen->info.prediction, &gen->prediction));
    PRX_GO(open_encoders(gen, path));
    PRX_GO(encode_null(gen));
    return 0;
out:
    prx_generator_release(gen);
    return rc;
}

int prx_generator_borrow(struct prx_generator *gen, struct prx_denoiser *denoiser,
                         const struct prx_model_info *info, struct prx_vae *vae,
                         struct prx_text_tower *tower)
{
    int rc = 0;

    *gen = (struct prx_generator){
        .be = prx_denoiser_params(denoiser)->be,
        .denoiser = denoiser,
        .is_borrowed = true,
        .info = *info,
        .vae = vae,
        .tower = tower,
    };
    PRX_GO(prx_prediction_find(gen->info.prediction, &gen->prediction));
    PRX_GO(join_encoders(gen, "the network in training"));
    PRX_GO(encode_null(gen));
    return 0;
out:
    prx_generator_release(gen);
    return rc;
}

void prx_generator_release(struct prx_generator *gen)
{
    if (!gen->is_borrowed) {
        prx_denoiser_free(gen->denoiser);
        prx_vae_close(gen->vae);
        prx_text_tower_close(gen->tower);
    }
    free(gen->null_states);
    *gen = (struct prx_generator){0};
}

void prx_generate_presets(const struct prx_generator *gen,
                          struct prx_generate_opts *opts)
{
    const struct prx_model_info *info = &gen->info;
    *opts = (struct prx_generate_opts){
        .sampler = {.n_steps = info->sample_steps,
                    .guidance_scale = info->sample_guidance,
                    .shift = info->shift,
                    .prediction = gen->prediction},
        .width_px = info->latent_width * gen->vae->downsample,
        .height_px = info->latent_height * gen->vae->downsample,
    };
}

/* What one batch needs; host arrays have the shapes of the tensors. */
struct batch {
    struct prx_tensor x;       // [B, C, H, W]
    struct prx_tensor text;    // [B, L, X]
    struct prx_tensor mask;    // [B, L] i32
    struct prx_tensor uncond;  // [B, LU, X]
    struct prx_tensor visible; // [B, NV] i32
    float *host_x;
    float *host_text;
    int32_t *host_mask;
    int32_t *host_visible;
};

static void release_batch(struct prx_backend *be, struct batch *batch)
{
    prx_tensor_free(be, &batch->x);
    prx_tensor_free(be, &batch->text);
    prx_tensor_free(be, &batch->mask);
    prx_tensor_free(be, &batch->uncond);
    prx_tensor_free(be, &batch->visible);
    free(batch->host_x);
    free(batch->host_text);
    free(batch->host_mask);
    free(batch->host_visible);
}

static int put_noise(const struct prx_generator *gen,
                     const struct prx_generate_opts *opts,
                     const struct prx_generate_job *jobs, int64_t n_jobs,
                     struct batch *batch)
{
    const int64_t f = gen->vae->downsample;
    const int64_t dims[4] = {n_jobs, gen->vae->channels, opts->height_px / f,
                             opts->width_px / f};
    struct prx_rng rng;

    PRX_TRY(prx_tensor_alloc(gen->be, PRX_F32, 4, dims, &batch->x));
    size_t n_values = (size_t)(prx_tensor_count(&batch->x) / n_jobs);
    batch->host_x = malloc(prx_tensor_bytes(&batch->x));
    if (!batch->host_x)
        return prx_err_nomem("start noise");
    for (int64_t b = 0; b < n_jobs; b++) {
        prx_rng_init(&rng, opts->seed, PRX_RNG_SAMPLER, jobs[b].i_image,
                     jobs[b].i_prompt);
        prx_rng_normal(&rng, batch->host_x + (size_t)b * n_values, n_values);
    }
    return prx_tensor_set(gen->be, &batch->x, batch->host_x);
}

/* Encode every prompt, then close the ranks: L is the longest one's length. */
static int put_prompts(const struct prx_generator *gen,
                       const struct prx_generate_job *jobs, int64_t n_jobs,
                       struct batch *batch)
{
    const struct prx_text_tower *tower = gen->tower;
    const size_t n_max = count_states(gen), width = (size_t)tower->width;
    int64_t n_longest = 0;

    batch->host_text = calloc((size_t)n_jobs, n_max * sizeof(float));
    batch->host_mask = calloc((size_t)(n_jobs * tower->n_tokens_max), sizeof(int32_t));
    if (!batch->host_text || !batch->host_mask)
        return prx_err_nomem("text states");
    for (int64_t b = 0; b < n_jobs; b++) {
        float *states = batch->host_text + (size_t)b * n_max;
        int n_tokens = tower->encode(tower, jobs[b].prompt, states);
        PRX_TRY(n_tokens);
        memset(states + (size_t)n_tokens * width, 0,
               (n_max - (size_t)n_tokens * width) * sizeof(float));
        for (int64_t l = 0; l < n_tokens; l++)
            batch->host_mask[b * tower->n_tokens_max + l] = 1;
        n_longest = n_tokens > n_longest ? n_tokens : n_longest;
    }
    for (int64_t b = 0; b < n_jobs; b++) {
        memmove(batch->host_text + (size_t)(b * n_longest) * width,
                batch->host_text + (size_t)b * n_max,
                (size_t)n_longest * width * sizeof(float));
        memmove(batch->host_mask + b * n_longest,
                batch->host_mask + b * tower->n_tokens_max,
                (size_t)n_longest * sizeof(int32_t));
    }
    const int64_t dims[3] = {n_jobs, n_longest, tower->width};
    PRX_TRY(prx_tensor_alloc(gen->be, PRX_F32, 3, dims, &batch->text));
    PRX_TRY(prx_tensor_alloc(gen->be, PRX_I32, 2, dims, &batch->mask));
    PRX_TRY(prx_tensor_set(gen->be, &batch->text, batch->host_text));
    return prx_tensor_set(gen->be, &batch->mask, batch->host_mask);
}

/* The null caption's states, once for each job. */
static int put_nulls(const struct prx_generator *gen, int64_t n_jobs,
                     struct batch *batch)
{
    const int64_t dims[3] = {n_jobs, gen->n_null_tokens, gen->tower->width};
    const size_t n_values = (size_t)(dims[1] * dims[2]);

    for (size_t b = 0; b < (size_t)n_jobs; b++)
        memcpy(batch->host_text + b * n_values, gen->null_states,
               n_values * sizeof(float));
    PRX_TRY(prx_tensor_alloc(gen->be, PRX_F32, 3, dims, &batch->uncond));
    return prx_tensor_set(gen->be, &batch->uncond, batch->host_text);
}

/* The tokens that self-guidance's weaker pass sees, the same in all steps. */
static int put_visible(const struct prx_generator *gen,
                       const struct prx_generate_opts *opts,
                       const struct prx_generate_job *jobs, int64_t n_jobs,
                       struct batch *batch)
{
    int64_t n_tokens = opts->height_px / gen->step_px * (opts->width_px / gen->step_px);
    double share = gen->info.route_share;
    const int64_t dims[2] = {n_jobs, prx_route_n_visible(n_tokens, share)};
    struct prx_rng rng;

    PRX_TRY(prx_tensor_alloc(gen->be, PRX_I32, 2, dims, &batch->visible));
    batch->host_visible = malloc(prx_tensor_bytes(&batch->visible) + 1);
    if (!batch->host_visible)
        return prx_err_nomem("a route");
    for (int64_t b = 0; b < n_jobs; b++) {
        prx_rng_init(&rng, opts->seed, PRX_RNG_ROUTE, jobs[b].i_image,
                     jobs[b].i_prompt);
        PRX_TRY(prx_route_draw(&rng, n_tokens, share,
                               batch->host_visible + b * dims[1]));
    }
    return prx_tensor_set(gen->be, &batch->visible, batch->host_visible);
}

/* What guidance leads away from: no prompt, or the prompt over the route. */
static int put_weaker(const struct prx_generator *gen,
                      const struct prx_generate_opts *opts,
                      const struct prx_generate_job *jobs, int64_t n_jobs,
                      struct batch *batch, struct prx_conditions *out)
{
    if (!gen->info.self_guidance) {
        *out = (struct prx_conditions){.text = &batch->uncond};
        return put_nulls(gen, n_jobs, batch);
    }
    *out = (struct prx_conditions){
        .text = &batch->text, .mask = &batch->mask, .visible = &batch->visible};
    return put_visible(gen, opts, jobs, n_jobs, batch);
}

static int decode(const struct prx_generator *gen, const struct prx_generate_job *jobs,
                  int64_t n_jobs, struct batch *batch, struct prx_image *images)
{
    PRX_TRY(prx_tensor_get(gen->be, &batch->x, batch->host_x));
    const int64_t *dims = batch->x.dims;
    for (int64_t b = 0; b < n_jobs; b++) {
        const float *latent = batch->host_x + b * dims[1] * dims[2] * dims[3];
        int rc = gen->vae->decode(gen->vae, latent, dims[2], dims[3], &images[b]);
        if (rc < 0) {
            for (int64_t i = 0; i < b; i++)
                prx_image_release(&images[i]);
            return prx_err_frame(rc, "picture %u of prompt %llu", jobs[b].i_image,
                                 (unsigned long long)jobs[b].i_prompt);
        }
    }
    return 0;
}

int prx_generate_check(const struct prx_generator *gen,
                       const struct prx_generate_opts *opts)
{
    if (opts->width_px <= 0 || opts->height_px <= 0 || opts->width_px > SIDE_PX_MAX ||
        opts->height_px > SIDE_PX_MAX || opts->width_px % gen->step_px != 0 ||
        opts->height_px % gen->step_px != 0)
        return prx_err(PRX_EINVAL,
                       "%lld x %lld pixels, sides that %lld does not divide",
                       (long long)opts->width_px, (long long)opts->height_px,
                       (long long)gen->step_px);
    if (!gen->vae->decode)
        return prx_err(PRX_EINVAL, "VAE %s: this build cannot decode its latents",
                       gen->vae->name);
    return 0;
}

int prx_generate(struct prx_generator *gen, const struct prx_generate_opts *opts,
                 const struct prx_generate_job *jobs, size_t n_jobs,
                 struct prx_image *images)
{
    const int64_t n = (int64_t)n_jobs;
    struct batch batch = {0};
    int rc = 0;

    PRX_TRY(prx_generate_check(gen, opts));
    if (n_jobs == 0)
        return 0;
    bool is_guided = opts->sampler.guidance_scale != 1;
    PRX_GO(put_noise(gen, opts, jobs, n, &batch));
    PRX_GO(put_prompts(gen, jobs, n, &batch));
    const struct prx_conditions prompted = {.text = &batch.text, .mask = &batch.mask};
    struct prx_conditions weaker = {0};
    if (is_guided)
        PRX_GO(put_weaker(gen, opts, jobs, n, &batch, &weaker));
    PRX_GO(prx_sample_euler(gen->denoiser, &opts->sampler, &batch.x, &prompted,
                            is_guided ? &weaker : NULL, opts->on_step, opts->ctx));
    rc = decode(gen, jobs, n, &batch, images);
out:
    release_batch(gen->be, &batch);
    return rc;
}

int prx_generate_all(struct prx_generator *gen, const struct prx_generate_opts *opts,
                     const char *const *prompts, size_t n_prompts, uint32_t n_images,
                     size_t n_batch,
                     int (*on_picture)(void *ctx, const struct prx_generate_job *job,
                                       struct prx_image *image),
                     void *ctx)
{
    struct prx_generate_job *jobs = calloc(n_batch, sizeof(*jobs));
    struct prx_image *images = calloc(n_batch, sizeof(*images));
    size_t n_jobs = 0;
    int rc = 0;

    if (!jobs || !images)
        PRX_GO(prx_err_nomem("a batch of pictures"));
    for (size_t i = 0; i < n_prompts; i++) {
        for (uint32_t j = 0; j < n_images; j++) {
            jobs[n_jobs++] = (struct prx_generate_job){prompts[i], i, j};
            bool is_last = i + 1 == n_prompts && j + 1 == n_images;
            if (n_jobs < n_batch && !is_last)
                continue;
            PRX_GO(prx_generate(gen, opts, jobs, n_jobs, images));
            for (size_t k = 0; k < n_jobs; k++) {
                if (rc == 0)
                    rc = on_picture(ctx, &jobs[k], &images[k]);
                prx_image_release(&images[k]);
            }
            if (rc < 0)
                goto out;
            n_jobs = 0;
        }
    }
out:
    free(jobs);
    free(images);
    return rc;
}
