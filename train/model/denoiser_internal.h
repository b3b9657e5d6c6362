/* SPDX-License-Identifier: Apache-2.0 */
/* The denoiser's parts, as its files see them. */
#ifndef PRX_TRAIN_DENOISER_INTERNAL_H
#define PRX_TRAIN_DENOISER_INTERNAL_H

#include "train/denoiser.h"

struct prx_linear {
    struct prx_param *w;
    struct prx_param *b;
};

/* in_layer, silu, out_layer: how numbers (a timestep, a size) become vectors. */
struct prx_embedder {
    struct prx_linear in_layer;
    struct prx_linear out_layer;
};

struct prx_block {
    struct prx_param *img_qkv;      // [3D, D]
    struct prx_param *attn_out;     // [D, D]
    struct prx_param *norm_q;       // [HD]
    struct prx_param *norm_k;       // [HD]
    struct prx_param *txt_kv;       // [2D, D]
    struct prx_param *norm_added_k; // [HD]
    struct prx_param *gate_proj;    // [F, D]
    struct prx_param *up_proj;      // [F, D]
    struct prx_param *down_proj;    // [D, F]
    struct prx_linear modulation;   // [6D, D]
};

/* Everything outside the blocks; members that the config has no use for are NULL. */
struct prx_trunk {
    struct prx_linear img_in;    // [D, CPP], or the bottleneck's [b, CPP]
    struct prx_linear img_in_up; // [D, b]
    struct prx_embedder time;
    struct prx_linear txt_in;
    struct prx_embedder resolution; /* mode vec */
    struct prx_embedder height;     /* mode token */
    struct prx_embedder width;
    struct prx_linear final_linear;
    struct prx_linear final_modulation; // [2D, D]
    struct prx_linear sprint_fuse;      // [D, 2D]
    struct prx_param *sprint_mask;      // [1, 1, D]
};

struct prx_denoiser {
    struct prx_denoiser_config config;
    struct prx_param_store store;
    struct prx_trunk trunk;
    struct prx_block *blocks; /* [depth] */
};

enum prx_init_kind {
    PRX_INIT_ZEROS,
    PRX_INIT_ONES,
    PRX_INIT_UNIFORM,
};

/* One parameter of a config: what the store, the count and the start values need. */
struct prx_param_spec {
    char name[96];
    int n_dims;
    int64_t dims[3];
    enum prx_init_kind init;
    int64_t fan_in;  /* UNIFORM: values in +-1/sqrt(fan_in) */
    int64_t i_block; /* -1: of the trunk */
    size_t offset;   /* of the struct prx_param * in its trunk or block */
};

/**
 * prx_denoiser_each_param - call @visit for every parameter, in the store's order.
 *
 * The order is part of the contract of prx_denoiser_init(): a parameter's number
 * names its random stream.
 */
PRX_MUST_USE int
prx_denoiser_each_param(const struct prx_denoiser_config *config,
                        int (*visit)(void *ctx, const struct prx_param_spec *spec),
                        void *ctx);

int64_t prx_denoiser_mlp_size(const struct prx_denoiser_config *config); /* F */

/* What all blocks of one pass share. */
struct prx_pass {
    struct prx_tape *tape;
    struct prx_var *cond;   // [B, D] silu of the time (and resolution) vector
    struct prx_var *text;   // [B, L, D]
    struct prx_tensor mask; // [B, L] i32, data NULL: all text is there
    struct prx_tensor rope; // [1, N, 2, HD/2]
};

/** prx_denoiser_embed - fill @pass and return the image tokens [B, N, D]. */
struct prx_var *prx_denoiser_embed(struct prx_denoiser *denoiser, struct prx_tape *tape,
                                   struct prx_var *x, const struct prx_tensor *t,
                                   const struct prx_tensor *text,
                                   const struct prx_tensor *mask,
                                   struct prx_pass *pass);

/** prx_denoiser_block - one transformer block: tokens in, tokens out [B, N, D]. */
struct prx_var *prx_denoiser_block(const struct prx_denoiser *denoiser,
                                   const struct prx_block *block,
                                   const struct prx_pass *pass, struct prx_var *h);

/**
 * prx_denoiser_blocks - all blocks, with the config's route: [B, N, D] to [B, N, D].
 *
 * @visible: as of prx_denoiser_forward().
 */
struct prx_var *prx_denoiser_blocks(const struct prx_denoiser *denoiser,
                                    const struct prx_pass *pass, struct prx_var *h,
                                    const struct prx_tensor *visible);

#endif
