/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The picture of a sample, made what the data set wants it to be.
 *
 * First the header is read, and from it alone the plan is made: which part of the
 * upright picture becomes how many pixels.  The plan tells whether the bytes may
 * pass untouched, and else how small the decoder may leave the picture.
 */
#include "libdata/stage.h"

#include <stdlib.h>
#include <string.h>

#include "libdata/hash.h"

#define STAGE_NAME      "picture"
#define QUALITY_DEFAULT 95
struct picture_ctx {
    struct prx_picture_opts opts;
    struct prx_fit fit;
    bool deep;
};

/* What is to be done with one picture. */
struct picture_plan {
    struct prx_fit_plan fit;
    enum prx_image_format format;
    bool is_untouched;
};

static bool is_plain(const struct prx_image_info *info)
{
    return info->exif_orientation == 1 && !info->has_icc && !info->has_alpha &&
           info->n_channels == 3 && info->bits_per_channel == 8;
}

/* Errors: PRX_EINVAL (the picture cannot become what is wanted). */
static int make_plan(struct picture_plan *plan, const struct picture_ctx *ctx,
                     const struct prx_image_info *info)
{
    const struct prx_picture_opts *opts = &ctx->opts;
    const bool is_transposed = info->exif_orientation >= 5;

    plan->format = opts->format == PRX_IMAGE_UNKNOWN ? info->format : opts->format;
    PRX_TRY(prx_fit_plan(&ctx->fit, is_transposed ? info->height_px : info->width_px,
                         is_transposed ? info->width_px : info->height_px,
                         opts->limits.n_px_max, &plan->fit));
    plan->is_untouched =
        opts->format == PRX_IMAGE_UNKNOWN &&
        (opts->fit.size_px == 0 || (prx_fit_has_size(&plan->fit) && is_plain(info)));
    return 0;
}

/* Decode and forget: are the bytes whole?  The smallest scale reads them all. */
static int check_deep(const struct picture_ctx *ctx, struct prx_fitter *fitter,
                      const struct prx_buf *stored)
{
    const struct prx_image_decode_opts opts = {.limits = ctx->opts.limits,
                                               .min_width_px = 1,
                                               .min_height_px = 1,
                                               .keep_icc_values = true};
    return prx_image_decode(&fitter->decoded, NULL, stored->bytes, stored->n_bytes,
                            &opts);
}

/* Store @bytes (taken) as the image, in place of @field, under its format's name. */
static int put_image(struct prx_sample *sample, const struct prx_field *field,
                     enum prx_image_format format, struct prx_buf *bytes)
{
    const char *name = prx_image_format_name(format);

    if (format == PRX_IMAGE_JPEG && strcmp(field->name, "jpeg") == 0)
        name = "jpeg";
    if (strcmp(field->name, name) != 0) {
        if (prx_sample_find(sample, name)) {
            int rc = prx_err(PRX_EINVAL,
                             "field %s is %s inside, but there is a field %s too",
                             field->name, name, name);
            prx_buf_unref(bytes);
            return rc;
        }
        prx_sample_drop(sample, field->name);
    }
    return prx_sample_put(sample, name, bytes);
}

static int set_number(json_t *meta, const char *name, int value)
{
    return json_object_set_new(meta, name, json_integer(value)) == 0
               ? 0
               : prx_err_nomem("metadata");
}

static int put_meta(struct prx_sample *sample, const struct prx_fit_plan *plan,
                    int exif_orientation, const struct prx_buf *bytes)
{
    char hash[PRX_HASH_HEX_BYTES];
    json_t *meta;

    PRX_TRY(prx_sample_meta(sample, &meta));
    sample->meta_changed = true;
    prx_hash_hex(bytes->bytes, bytes->n_bytes, hash);
    PRX_TRY(set_number(meta, "width", plan->width_px));
    PRX_TRY(set_number(meta, "height", plan->height_px));
    PRX_TRY(set_number(meta, "exif_orientation", exif_orientation));
    if (json_object_set_new(meta, "xxh128", json_string(hash)) != 0)
        return prx_err_nomem("metadata");
    if (!json_object_get(meta, "orig_width") || !json_object_get(meta, "orig_height")) {
        PRX_TRY(set_number(meta, "orig_width", plan->orig_width_px));
        PRX_TRY(set_number(meta, "orig_height", plan->orig_height_px));
    }
    return 0;
}

static int change_picture(const struct picture_ctx *ctx,
                          struct prx_fitter *fitter, struct prx_sample *sample)
{
    struct prx_image_info info;
    struct picture_plan plan;
    struct prx_buf *stored = NULL, *made = NULL;
    json_t *meta;
    int rc = 0;

    struct prx_field *field = prx_sample_find_image(sample);
    if (!field)
        return prx_err(PRX_EFORMAT, "no image (jpg, jpeg, png or webp)");
    PRX_TRY(prx_sample_load(sample));
    PRX_TRY(prx_sample_meta(sample, &meta)); /* broken metadata costs no decoding */
    field = prx_sample_find_image(sample);
    stored = prx_buf_ref(field->bytes);
    PRX_GO(prx_image_probe(stored->bytes, stored->n_bytes, &ctx->opts.limits, &info));
    PRX_GO(make_plan(&plan, ctx, &info));
    if (plan.is_untouched) {
        if (ctx->deep)
            PRX_GO(check_deep(ctx, fitter, stored));
        made = prx_buf_ref(stored);
    } else {
        struct prx_image *image;
        PRX_GO(prx_fitter_apply(fitter, &plan.fit, stored->bytes, stored->n_bytes,
                                &ctx->opts.limits, ctx->opts.full_decode, &image));
        PRX_GO(prx_image_encode(image, plan.format, ctx->opts.quality, &made));
        info.exif_orientation = 1;
    }
    PRX_GO(put_meta(sample, &plan.fit, info.exif_orientation, made));
    rc = put_image(sample, field, plan.format, prx_buf_ref(made));
out:
    prx_buf_unref(made);
    prx_buf_unref(stored);
    return rc;
}

static int apply(void *ctx, void *scratch, struct prx_sample *sample)
{
    int rc = change_picture(ctx, scratch, sample);

    prx_fitter_trim(scratch);
    if (rc == 0 || rc == PRX_ENOMEM)
        return rc;
    prx_sample_reject(sample, STAGE_NAME, "%s", prx_err_message());
    prx_err_clear();
    return 0;
}

static void free_scratch(void *scratch)
{
    if (scratch)
        prx_fitter_release(scratch);
    free(scratch);
}

static int new_scratch(void *ctx, void **out)
{
    struct prx_fitter *fitter = calloc(1, sizeof(*fitter));

    (void)ctx;
    if (!fitter)
        return prx_err_nomem("picture scratch");
    int rc = prx_fitter_init(fitter);
    if (rc < 0)
        free_scratch(fitter);
    else
        *out = fitter;
    return rc;
}

static void free_ctx(void *ctx)
{
    struct picture_ctx *mine = ctx;

    if (mine)
        prx_fit_release(&mine->fit);
    free(mine);
}

int prx_stage_picture(const struct prx_picture_opts *opts, bool deep,
                      struct prx_stage *out)
{
    int rc = 0;

    *out = (struct prx_stage){0};
    if (opts->quality < 0 || opts->quality > 100)
        return prx_err(PRX_EINVAL, "image quality %d: 1 to 100 is possible",
                       opts->quality);
    struct picture_ctx *ctx = calloc(1, sizeof(*ctx));
    if (!ctx)
        return prx_err_nomem("a stage");
    ctx->opts = *opts;
    ctx->deep = deep;
    if (ctx->opts.quality == 0)
        ctx->opts.quality = QUALITY_DEFAULT;
    PRX_GO(prx_fit_init(&ctx->fit, &opts->fit));
    *out =
        (struct prx_stage){STAGE_NAME, ctx, new_scratch, free_scratch, apply, free_ctx};
    return 0;
out:
    free_ctx(ctx);
    return rc;
}
