/* SPDX-License-Identifier: Apache-2.0 */
/* prx-shard - turn pictures and captions into uniform tar shards. */
#include <stdlib.h>

#include "libdata/stage.h"
#include "tools/tool.h"

enum {
    FORMAT_KEEP,
    FORMAT_JPEG,
    FORMAT_PNG,
    FORMAT_WEBP,
};

static struct {
    int64_t size_px;
    int crop;
    int64_t bucket_step_px;
    bool upscale;
    double max_upscale;
    bool full_decode;
    int format;
    int64_t quality;
    bool deep;
    int64_t n_px_max;
    int64_t shuffle_seed; /* -1: keep the order */
} cfg = {
    .bucket_step_px = 32,
    .upscale = true,
    .quality = 95,
    .n_px_max = 178956970,
    .shuffle_seed = -1,
};

/* clang-format off */
static const struct opt_row rows[] = {
    {0, "Picture", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "size", OPT_INT, &cfg.size_px, "N",
     "resize to N pixels, as --crop says; 0 leaves the size alone", 0, 16384},
    {0, "crop", OPT_CHOICE, &cfg.crop, "none|center|bucket",
     "none: the shorter side becomes N; center: a square of N; bucket: the nearest"
     " aspect bucket of base N", 0, 0},
    {0, "bucket-step", OPT_INT, &cfg.bucket_step_px, "N",
     "sides of buckets are multiples of N", 1, 1024},
    {0, "upscale", OPT_FLAG, &cfg.upscale, NULL,
     "reject pictures smaller than the target instead of enlarging them", 0, 0},
    {0, "max-upscale", OPT_FLOAT, &cfg.max_upscale, "X",
     "reject pictures that would be enlarged more than X times; 0 = no limit", 0, 1e6},
    {0, "full-decode", OPT_FLAG, &cfg.full_decode, NULL,
     "never decode a JPEG at reduced scale", 0, 0},
    {0, "format", OPT_CHOICE, &cfg.format, "keep|jpeg|png|webp",
     "keep: the stored format, and the stored bytes where no pixel changes", 0, 0},
    {'Q', "quality", OPT_INT, &cfg.quality, "N",
     "of JPEG and WebP that are written", 1, 100},
    {0, "deep", OPT_FLAG, &cfg.deep, NULL,
     "decode pictures whose bytes are kept too, to be sure of them", 0, 0},
    {0, "max-pixels", OPT_INT, &cfg.n_px_max, "N",
     "reject larger pictures", 1, 0x1p31},
    {0, "Order", OPT_GROUP, NULL, NULL, NULL, 0, 0},
    {0, "shuffle", OPT_INT, &cfg.shuffle_seed, "SEED",
     "write in an order that SEED decides, larger than memory", 0, 0x1p62},
};
/* clang-format on */

static int run(const char **operands, size_t n_operands);

static const struct tool tool = {
    .name = "prx-shard",
    .usage = {
        .synopsis = "[options] SRC ...",
        .summary = "Pack pictures and their captions into tar shards for training.",
        .examples = "  prx-shard photos -o shards/%06d.tar\n"
                    "  prx-shard --size 256 --crop center photos -o -"
                    " | prx-encode - -o latents.tar\n",
    },
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .groups = TOOL_PIPELINE | TOOL_SHARE,
    .run = run,
};

static int shuffle(struct prx_source **source)
{
    const char *folder = getenv("TMPDIR");
    struct prx_source *inner = *source;

    *source = NULL;
    return prx_source_shuffle(inner, (uint64_t)cfg.shuffle_seed,
                              folder && *folder ? folder : "/tmp", source);
}

static int run(const char **operands, size_t n_operands)
{
    static const enum prx_image_format formats[] = {
        [FORMAT_KEEP] = PRX_IMAGE_UNKNOWN,
        [FORMAT_JPEG] = PRX_IMAGE_JPEG,
        [FORMAT_PNG] = PRX_IMAGE_PNG,
        [FORMAT_WEBP] = PRX_IMAGE_WEBP,
    };
    const struct prx_picture_opts opts = {
        .fit =
            {
                .size_px = (int)cfg.size_px,
                .crop = (enum prx_crop)cfg.crop,
                .bucket_step_px = (int)cfg.bucket_step_px,
                .max_upscale = cfg.upscale ? cfg.max_upscale : 1,
            },
        .format = formats[cfg.format],
        .quality = (int)cfg.quality,
        .full_decode = cfg.full_decode,
        .limits.n_px_max = cfg.n_px_max,
    };
    struct prx_source *source = NULL;
    struct prx_stage picture = {0};
    int rc;

    if (cfg.crop != PRX_CROP_NONE && cfg.size_px == 0)
        return tool_usage("--crop: needs --size");
    PRX_GO(prx_stage_picture(&opts, cfg.deep, &picture));
    PRX_GO(tool_source_open(operands, n_operands, &source));
    if (cfg.shuffle_seed >= 0)
        PRX_GO(shuffle(&source));
    PRX_GO(tool_pipeline(&tool, source, &picture, 1, NULL, NULL, NULL));
out:
    prx_source_close(source);
    prx_stage_release(&picture);
    return rc;
}

int main(int argc, char **argv)
{
    return tool_main(&tool, argc, argv);
}
