/* SPDX-License-Identifier: Apache-2.0 */
/* prx-encode - add latents and text states to samples. */
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"
#include "train/encoder.h"

#define N_CAPTIONS_MAX 16

static struct {
    const char *vae;
    const char *text;
    const char *captions;
    int64_t text_width;
    int64_t text_tokens;
    int dtype;
    bool drop_image;
    int64_t n_px_max;
} cfg = {
    .vae = "dct",
    .text = "hash",
    .n_px_max = 178956970,
};

enum {
    DTYPE_F16,
    DTYPE_F32,
};

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Encoding", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "vae", OPT_STRING, &cfg.vae, "NAME",
     "what makes latents of pictures: dct, pixels, or none for no latents", 0, 0},
    {0, "text", OPT_STRING, &cfg.text, "NAME",
     "what makes states of captions: hash, or none for no states", 0, 0},
    {0, "captions", OPT_STRING, &cfg.captions, "NAME,...",
     "the captions to encode, all of which a sample must have; by default all named"
     " ones it has, else txt", 0, 0},
    {0, "text-width", OPT_INT, &cfg.text_width, "N",
     "width of text states; 0 is the encoder's own (hash: 256)", 0, 65536},
    {0, "text-tokens", OPT_INT, &cfg.text_tokens, "N",
     "cut captions at N tokens; 0 is the encoder's own (hash: 128)", 0, 65536},
    {0, "dtype", OPT_CHOICE, &cfg.dtype, "f16|f32",
     "how numbers are stored", 0, 0},
    {0, "drop-image", OPT_FLAG, &cfg.drop_image, NULL,
     "leave the picture out of the output", 0, 0},
    {0, "max-pixels", OPT_INT, &cfg.n_px_max, "N",
     "reject larger pictures", 1, 0x1p31},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-encode",
    .usage = {
        .synopsis = "[options] SRC ...",
        .summary = "Add VAE latents and text states to samples.",
        .examples = "  prx-encode shards/index.json -o latents/%06d.tar\n"
                    "  prx-shard --size 256 --crop center photos -o -"
                    " | prx-encode - -o -\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_PIPELINE | TOOL_SHARE,
    .run = run,
};

/* Cut @text at its commas, in place, into names. */
static int split_captions(char *text, const char **names, size_t *n_names)
{
    *n_names = 0;
    for (char *name = text; name;) {
        char *comma = strchr(name, ',');
        if (comma)
            *comma++ = '\0';
        if (*n_names == N_CAPTIONS_MAX)
            return tool_usage("--captions: more than %d names", N_CAPTIONS_MAX);
        names[(*n_names)++] = name;
        name = comma;
    }
    return 0;
}

/* The encoders' fingerprints, which say more than their names. */
static int format_plan(const struct prx_encode_opts *opts, struct prx_str *plan)
{
    return prx_str_printf(plan, "vae %s\ntext %s",
                          opts->vae ? opts->vae->fingerprint : "none",
                          opts->tower ? opts->tower->fingerprint : "none");
}

static int run(const char **operands, size_t n_operands)
{
    const struct prx_text_opts text_opts = {cfg.text_width, cfg.text_tokens};
    const char *names[N_CAPTIONS_MAX];
    struct prx_encode_opts opts = {
        .captions = names,
        .f32 = cfg.dtype == DTYPE_F32,
        .drop_image = cfg.drop_image,
        .limits.n_px_max = cfg.n_px_max,
    };
    char *captions = NULL;
    struct prx_vae *vae = NULL;
    struct prx_text_tower *tower = NULL;
    struct prx_source *source = NULL;
    struct prx_stage encode = {0};
    struct prx_str plan = {0};
    int rc;

    if (strcmp(cfg.vae, "none") != 0)
        PRX_GO(prx_vae_open(cfg.vae, &vae));
    if (strcmp(cfg.text, "none") != 0)
        PRX_GO(prx_text_tower_open(cfg.text, &text_opts, &tower));
    if (cfg.captions) {
        PRX_GO(prx_strdup(cfg.captions, &captions));
        PRX_GO(split_captions(captions, names, &opts.n_captions));
    }
    opts.vae = vae;
    opts.tower = tower;
    PRX_GO(prx_stage_encode(&opts, &encode));
    PRX_GO(format_plan(&opts, &plan));
    PRX_GO(tool_source_open(operands, n_operands, &source));
    PRX_GO(tool_pipeline(&tool, source, &encode, 1, NULL, plan.bytes, NULL));
out:
    prx_source_close(source);
    prx_stage_release(&encode);
    prx_str_release(&plan);
    prx_text_tower_close(tower);
    prx_vae_close(vae);
    free(captions);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
