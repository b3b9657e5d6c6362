/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The denoiser's parameters: one table gives names, shapes, start values and
 * where each lives; everything else about them is read from it.
 *
 * Source: PRX prx/models/prx.py, prx_layers.py (state dict, initialisation);
 * diffusers' transformer_prx.py (names).
 */
#include "train/model/denoiser_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Sizes by which shapes are written down. */
enum size {
    NONE,  /* no second dimension: a vector */
    WHOLE, /* a parameter by itself, [1, 1, rows] */
    CPP,   /* C P P, a patch */
    CTX,   /* width of the text states */
    BOT,   /* bottleneck */
    D1,    /* D and its multiples */
    D2,
    D3,
    D6,
    HD, /* of a head */
    F,  /* of the gated mlp */
    S1, /* one size's sinusoid */
    S2, /* two sizes', or the timestep's */
};

/* Configs that have the parameter. */
enum when {
    ALWAYS,
    PLAIN, /* without bottleneck */
    BOTTLENECK,
    RES_VEC,
    RES_TOKEN,
    SPRINT,
};

/* One layer: NAME.weight, and NAME.bias where it has one; WHOLE: NAME alone. */
struct row {
    const char *name;     /* as diffusers has it; in a block, behind "blocks.i." */
    const char *prx_name; /* as PRX has it; NULL: the same */
    enum when when;
    enum size rows, cols;
    enum prx_init_kind init;
    bool has_bias;
    size_t offset; /* of a struct prx_linear, or of the only struct prx_param * */
};

#define TRUNK(layer) offsetof(struct prx_trunk, layer)
#define BLOCK(layer) offsetof(struct prx_block, layer)
#define UNIFORM      PRX_INIT_UNIFORM
#define ZEROS        PRX_INIT_ZEROS
#define ONES         PRX_INIT_ONES

static const struct row first_rows[] = {
    {"img_in", NULL, PLAIN, D1, CPP, UNIFORM, true, TRUNK(img_in)},
    {"img_in.0", NULL, BOTTLENECK, BOT, CPP, UNIFORM, true, TRUNK(img_in)},
    {"img_in.1", NULL, BOTTLENECK, D1, BOT, UNIFORM, true, TRUNK(img_in_up)},
    {"time_in.in_layer", NULL, ALWAYS, D1, S2, UNIFORM, true, TRUNK(time.in_layer)},
    {"time_in.out_layer", NULL, ALWAYS, D1, D1, UNIFORM, true, TRUNK(time.out_layer)},
    {"txt_in", NULL, ALWAYS, D1, CTX, UNIFORM, true, TRUNK(txt_in)},
};

static const struct row block_rows[] = {
    {"attention.img_qkv_proj", "img_qkv_proj", ALWAYS, D3, D1, UNIFORM, false,
     BLOCK(img_qkv)},
    {"attention.to_out.0", "attn_out", ALWAYS, D1, D1, UNIFORM, false, BLOCK(attn_out)},
    {"attention.norm_q", "qk_norm.query_norm", ALWAYS, HD, NONE, ONES, false,
     BLOCK(norm_q)},
    {"attention.norm_k", "qk_norm.key_norm", ALWAYS, HD, NONE, ONES, false,
     BLOCK(norm_k)},
    {"attention.txt_kv_proj", "txt_kv_proj", ALWAYS, D2, D1, UNIFORM, false,
     BLOCK(txt_kv)},
    {"attention.norm_added_k", "k_norm", ALWAYS, HD, NONE, ONES, false,
     BLOCK(norm_added_k)},
    {"gate_proj", NULL, ALWAYS, F, D1, UNIFORM, false, BLOCK(gate_proj)},
    {"up_proj", NULL, ALWAYS, F, D1, UNIFORM, false, BLOCK(up_proj)},
    {"down_proj", NULL, ALWAYS, D1, F, UNIFORM, false, BLOCK(down_proj)},
    {"modulation.lin", NULL, ALWAYS, D6, D1, ZEROS, true, BLOCK(modulation)},
};

static const struct row last_rows[] = {
    {"final_layer.linear", NULL, ALWAYS, CPP, D1, ZEROS, true, TRUNK(final_linear)},
    {"final_layer.adaLN_modulation.1", NULL, ALWAYS, D2, D1, ZEROS, true,
     TRUNK(final_modulation)},
    {"resolution_embedder.mlp.in_layer", NULL, RES_VEC, D1, S2, UNIFORM, true,
     TRUNK(resolution.in_layer)},
    {"resolution_embedder.mlp.out_layer", NULL, RES_VEC, D1, D1, UNIFORM, true,
     TRUNK(resolution.out_layer)},
    {"resolution_embedder.h_embedder.in_layer", NULL, RES_TOKEN, D1, S1, UNIFORM, true,
     TRUNK(height.in_layer)},
    {"resolution_embedder.h_embedder.out_layer", NULL, RES_TOKEN, D1, D1, UNIFORM, true,
     TRUNK(height.out_layer)},
    {"resolution_embedder.w_embedder.in_layer", NULL, RES_TOKEN, D1, S1, UNIFORM, true,
     TRUNK(width.in_layer)},
    {"resolution_embedder.w_embedder.out_layer", NULL, RES_TOKEN, D1, D1, UNIFORM, true,
     TRUNK(width.out_layer)},
    {"sprint_fuse", NULL, SPRINT, D1, D2, UNIFORM, true, TRUNK(sprint_fuse)},
    {"sprint_mask_token", NULL, SPRINT, D1, WHOLE, ZEROS, false, TRUNK(sprint_mask)},
};

#define N_ROWS(rows) (sizeof(rows) / sizeof((rows)[0]))

int64_t prx_denoiser_mlp_size(const struct prx_denoiser_config *config)
{
    return (int64_t)((double)config->hidden_size * config->mlp_ratio);
}

static int64_t size_of(const struct prx_denoiser_config *config, enum size size)
{
    int64_t d = config->hidden_size;
    switch (size) {
    case CPP:
        return config->in_channels * config->patch_size * config->patch_size;
    case CTX:
        return config->context_in_dim;
    case BOT:
        return config->bottleneck_size;
    case D1:
        return d;
    case D2:
        return 2 * d;
    case D3:
        return 3 * d;
    case D6:
        return 6 * d;
    case HD:
        return d / config->num_heads;
    case F:
        return prx_denoiser_mlp_size(config);
    case S1:
        return 128;
    case S2:
        return 256;
    default:
        return 0;
    }
}

static bool is_there(const struct prx_denoiser_config *config, enum when when)
{
    switch (when) {
    case PLAIN:
        return config->bottleneck_size == 0;
    case BOTTLENECK:
        return config->bottleneck_size != 0;
    case RES_VEC:
        return config->resolution_mode == PRX_RESOLUTION_VEC;
    case RES_TOKEN:
        return config->resolution_mode == PRX_RESOLUTION_TOKEN;
    case SPRINT:
        return config->route.kind == PRX_ROUTE_SPRINT;
    default:
        return true;
    }
}

typedef int (*visit_fn)(void *ctx, const struct prx_param_spec *spec);

static int visit_row(const struct prx_denoiser_config *config, const struct row *row,
                     int64_t i_block, visit_fn visit, void *ctx)
{
    struct prx_param_spec spec = {
        .n_dims = row->cols == NONE ? 1 : 2,
        .dims = {size_of(config, row->rows), size_of(config, row->cols)},
        .init = row->init,
        .fan_in = size_of(config, row->cols),
        .i_block = i_block,
        .offset = row->offset,
    };
    char place[32] = "";

    if (i_block >= 0)
        snprintf(place, sizeof(place), "blocks.%" PRId64 ".", i_block);
    if (row->cols == WHOLE) {
        spec.n_dims = 3;
        spec.dims[2] = spec.dims[0];
        spec.dims[0] = spec.dims[1] = 1;
    }
    snprintf(spec.name, sizeof(spec.name), "%s%s%s", place, row->name,
             row->cols == WHOLE ? "" : ".weight");
    PRX_TRY(visit(ctx, &spec));
    if (!row->has_bias)
        return 0;
    snprintf(spec.name, sizeof(spec.name), "%s%s.bias", place, row->name);
    spec.n_dims = 1;
    spec.offset += offsetof(struct prx_linear, b);
    return visit(ctx, &spec);
}

static int visit_rows(const struct prx_denoiser_config *config, const struct row *rows,
                      size_t n_rows, int64_t i_block, visit_fn visit, void *ctx)
{
    for (size_t i = 0; i < n_rows; i++)
        if (is_there(config, rows[i].when))
            PRX_TRY(visit_row(config, &rows[i], i_block, visit, ctx));
    return 0;
}

int prx_denoiser_each_param(const struct prx_denoiser_config *config,
                            int (*visit)(void *ctx, const struct prx_param_spec *spec),
                            void *ctx)
{
    PRX_TRY(visit_rows(config, first_rows, N_ROWS(first_rows), -1, visit, ctx));
    for (int64_t i = 0; i < config->depth; i++)
        PRX_TRY(visit_rows(config, block_rows, N_ROWS(block_rows), i, visit, ctx));
    return visit_rows(config, last_rows, N_ROWS(last_rows), -1, visit, ctx);
}

static int add_count(void *ctx, const struct prx_param_spec *spec)
{
    int64_t *count = ctx;
    int64_t n = 1;

    for (int i = 0; i < spec->n_dims; i++)
        n *= spec->dims[i];
    *count += n;
    return 0;
}

int prx_denoiser_count(const struct prx_denoiser_config *config, int64_t *out)
{
    *out = 0;
    PRX_TRY(prx_denoiser_config_check(config));
    return prx_denoiser_each_param(config, add_count, out);
}

struct listing {
    int (*visit)(void *ctx, const char *name, const struct prx_tensor *shape);
    void *ctx;
};

static int list_param(void *ctx, const struct prx_param_spec *spec)
{
    const struct listing *listing = ctx;
    struct prx_tensor shape;

    PRX_TRY(prx_tensor_shape(PRX_F32, spec->n_dims, spec->dims, &shape));
    return listing->visit(listing->ctx, spec->name, &shape);
}

int prx_denoiser_list(const struct prx_denoiser_config *config,
                      int (*visit)(void *ctx, const char *name,
                                   const struct prx_tensor *shape),
                      void *ctx)
{
    struct listing listing = {visit, ctx};

    PRX_TRY(prx_denoiser_config_check(config));
    return prx_denoiser_each_param(config, list_param, &listing);
}

/* What follows "blocks.N." in @name, or NULL. */
static const char *in_block(const char *name)
{
    static const char prefix[] = "blocks.";
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
        return NULL;
    const char *digits = name + sizeof(prefix) - 1;
    size_t n_digits = strspn(digits, "0123456789");
    return n_digits > 0 && digits[n_digits] == '.' ? digits + n_digits + 1 : NULL;
}

/* Where "weight", "bias" or "scale" of @layer begins in @name; NULL: another layer. */
static const char *after_layer(const char *name, const char *layer)
{
    size_t n_chars = strlen(layer);
    bool is_layer = strncmp(name, layer, n_chars) == 0 && name[n_chars] == '.' &&
                    !strchr(name + n_chars + 1, '.');
    return is_layer ? name + n_chars + 1 : NULL;
}

static int format_name(char *out, size_t n_out_bytes, const char *name,
                       const char *tail, const char *layer, const char *what)
{
    int n_used = snprintf(out, n_out_bytes, "%.*s%s%s%s", (int)(tail - name), name,
                          layer, *layer ? "." : "", what);
    if (n_used < 0 || (size_t)n_used >= n_out_bytes)
        return prx_err(PRX_EINVAL, "parameter name %.60s... is too long", name);
    return 0;
}

/* The weight of a norm is PRX's scale (in old checkpoints its weight, too). */

int prx_param_name_from_prx(const char *prx_name, char *out, size_t n_out_bytes)
{
    const char *tail = in_block(prx_name);
    for (size_t i = 0; tail && i < N_ROWS(block_rows); i++) {
        const struct row *row = &block_rows[i];
        const char *what = row->prx_name ? after_layer(tail, row->prx_name) : NULL;
        if (what)
            return format_name(out, n_out_bytes, prx_name, tail, row->name,
                               strcmp(what, "scale") == 0 ? "weight" : what);
    }
    return format_name(out, n_out_bytes, prx_name, prx_name, "", prx_name);
}

int prx_param_name_to_prx(const char *name, char *out, size_t n_out_bytes)
{
    const char *tail = in_block(name);
    for (size_t i = 0; tail && i < N_ROWS(block_rows); i++) {
        const struct row *row = &block_rows[i];
        const char *what = row->prx_name ? after_layer(tail, row->name) : NULL;
        if (what)
            return format_name(out, n_out_bytes, name, tail, row->prx_name,
                               row->cols == NONE ? "scale" : what);
    }
    return format_name(out, n_out_bytes, name, name, "", name);
}
