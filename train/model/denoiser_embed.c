/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Into the denoiser: image tokens, text tokens, the condition, positions.
 *
 * Source: PRX prx/models/prx.py, prx_layers.py; prx/algorithm/resolution_aware.py.
 */
#include "train/model/denoiser_internal.h"

#include "train/rope.h"

#define TIME_WIDTH      256
#define SIZE_WIDTH      128
#define SIZE_MAX_PERIOD 10000.0

static struct prx_var *linear(struct prx_tape *tape, struct prx_var *x,
                              struct prx_linear layer)
{
    return prx_nn_linear(tape, x, layer.w, layer.b);
}

static struct prx_var *embed(struct prx_tape *tape, const struct prx_embedder *embedder,
                             struct prx_var *x)
{
    struct prx_var *hidden = prx_nn_silu(tape, linear(tape, x, embedder->in_layer));
    return linear(tape, hidden, embedder->out_layer);
}

/* [batch] copies of one number. */
static struct prx_var *repeat(struct prx_tape *tape, int64_t batch, double number)
{
    void *memory = NULL;
    if (prx_tape_fails(tape, prx_arena_host(prx_tape_arena(tape),
                                            (size_t)batch * sizeof(float), &memory)))
        return NULL;
    float *numbers = memory;
    for (int64_t b = 0; b < batch; b++)
        numbers[b] = (float)number;
    return prx_tape_constant(tape, PRX_F32, 1, &batch, numbers);
}

/* Resolution, mode vec: vec + mlp([e(H), e(W)]). */
static struct prx_var *add_size_vector(const struct prx_trunk *trunk,
                                       struct prx_tape *tape, struct prx_var *vec,
                                       struct prx_var *height, struct prx_var *width)
{
    if (!height || !width)
        return NULL;
    const struct prx_tensor *sizes[2] = {&height->value, &width->value};
    struct prx_var *e =
        prx_nn_sinusoid(tape, sizes, 2, SIZE_WIDTH, 1.0, SIZE_MAX_PERIOD);
    return prx_nn_add(tape, vec, embed(tape, &trunk->resolution, e));
}

static struct prx_var *size_token(struct prx_tape *tape,
                                  const struct prx_embedder *embedder,
                                  struct prx_var *size)
{
    if (!size)
        return NULL;
    const struct prx_tensor *sizes[1] = {&size->value};
    struct prx_var *e =
        prx_nn_sinusoid(tape, sizes, 1, SIZE_WIDTH, 1.0, SIZE_MAX_PERIOD);
    if (e)
        e->value =
            prx_tensor_view(&e->value, 3, (int64_t[]){e->value.dims[0], 1, SIZE_WIDTH});
    return embed(tape, embedder, e); // [B, 1, D]
}

/* Resolution, mode token: [e(H); e(W); text]. */
static struct prx_var *add_size_tokens(const struct prx_trunk *trunk,
                                       struct prx_tape *tape, struct prx_var *text,
                                       struct prx_var *height, struct prx_var *width)
{
    struct prx_var *sizes =
        prx_nn_concat_tokens(tape, size_token(tape, &trunk->height, height),
                             size_token(tape, &trunk->width, width));
    return prx_nn_concat_tokens(tape, sizes, text);
}

/* The mask of two more tokens, both there.  Copying moves elements of 4 bytes
 * without reading them, so the integers travel as float32. */
static struct prx_tensor add_size_mask(struct prx_tape *tape,
                                       const struct prx_tensor *mask)
{
    int64_t batch = mask->dims[0];
    int64_t n_tokens = mask->dims[1];
    void *memory = NULL;
    if (prx_tape_fails(tape,
                       prx_arena_host(prx_tape_arena(tape),
                                      (size_t)batch * 2 * sizeof(int32_t), &memory)))
        return (struct prx_tensor){0};
    int32_t *ones = memory;
    for (int64_t i = 0; i < 2 * batch; i++)
        ones[i] = 1;

    struct prx_tensor bits = prx_tensor_view(mask, 3, (int64_t[]){batch, n_tokens, 1});
    bits.dtype = PRX_F32;
    struct prx_var *joined = prx_nn_concat_tokens(
        tape, prx_tape_constant(tape, PRX_F32, 3, (int64_t[]){batch, 2, 1}, ones),
        prx_tape_input(tape, &bits, false));
    if (!joined)
        return (struct prx_tensor){0};
    struct prx_tensor out =
        prx_tensor_view(&joined->value, 2, (int64_t[]){batch, n_tokens + 2});
    out.dtype = PRX_I32;
    return out;
}

static struct prx_tensor positions(const struct prx_denoiser_config *config,
                                   struct prx_tape *tape, int64_t n_rows,
                                   int64_t n_cols)
{
    int64_t head_size = config->hidden_size / config->num_heads;
    int64_t dims[4] = {1, n_rows * n_cols, 2, head_size / 2};
    void *memory = NULL;
    if (prx_tape_fails(tape,
                       prx_arena_host(prx_tape_arena(tape),
                                      (size_t)(dims[1] * head_size) * sizeof(float),
                                      &memory)))
        return (struct prx_tensor){0};
    prx_rope_table(n_rows, n_cols, config->axes_dim, config->theta, memory);
    struct prx_var *table = prx_tape_constant(tape, PRX_F32, 4, dims, memory);
    return table ? table->value : (struct prx_tensor){0};
}

struct prx_var *prx_denoiser_embed(struct prx_denoiser *denoiser, struct prx_tape *tape,
                                   struct prx_var *x, const struct prx_tensor *t,
                                   const struct prx_tensor *text,
                                   const struct prx_tensor *mask, struct prx_pass *pass)
{
    const struct prx_denoiser_config *config = &denoiser->config;
    const struct prx_trunk *trunk = &denoiser->trunk;
    int64_t batch = x->value.dims[0];
    int64_t rows = x->value.dims[2];
    int64_t cols = x->value.dims[3];

    struct prx_var *h =
        linear(tape, prx_nn_patchify(tape, x, config->patch_size), trunk->img_in);
    if (config->bottleneck_size)
        h = linear(tape, h, trunk->img_in_up);

    struct prx_var *e = prx_nn_sinusoid(tape, &t, 1, TIME_WIDTH, config->time_factor,
                                        config->time_max_period);
    struct prx_var *vec = embed(tape, &trunk->time, e);
    *pass = (struct prx_pass){
        .tape = tape,
        .text = linear(tape, prx_tape_input(tape, text, false), trunk->txt_in),
        .rope = positions(config, tape, rows / config->patch_size,
                          cols / config->patch_size),
    };
    if (mask)
        pass->mask = *mask;

    if (config->resolution_mode == PRX_RESOLUTION_VEC) {
        vec = add_size_vector(trunk, tape, vec, repeat(tape, batch, (double)rows),
                              repeat(tape, batch, (double)cols));
    } else if (config->resolution_mode == PRX_RESOLUTION_TOKEN) {
        pass->text =
            add_size_tokens(trunk, tape, pass->text, repeat(tape, batch, (double)rows),
                            repeat(tape, batch, (double)cols));
        if (mask)
            pass->mask = add_size_mask(tape, mask);
    }
    pass->cond = prx_nn_silu(tape, vec);
    return h;
}
