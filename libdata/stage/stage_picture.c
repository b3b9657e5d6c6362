/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The picture of a sample, made what the data set wants it to be.
 *
 * First the header is read, and from it alone the plan is made: which part of the
 * upright picture becomes how many pixels.  The plan tells whether the bytes may
 * pass untouched, and else how small the decoder may leave the picture.
 */
#include "libdata/stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/bucket.h"
#include "libdata/hash.h"

#define STAGE_NAME             "picture"
#define QUALITY_DEFAULT        95
#define BUCKET_STEP_PX_DEFAULT 32
#define BUCKET_MIN_ASPECT      0.5
#define BUCKET_MAX_ASPECT      2.0

/* A thread gives memory for larger pictures than this back after each. */
#define KEPT_BYTES_MAX ((size_t)16 << 20)

struct picture_ctx {
    struct prx_picture_opts opts;
    struct prx_bucket_table buckets; /* only for PRX_CROP_BUCKET */
    bool deep;
};

struct picture_scratch {
    struct prx_color_cache *colors;
    struct prx_resizer *resizer;
    struct prx_image decoded, resized;
};

/* What is to be done with one picture; sizes are upright. */
struct picture_plan {
    int orig_width_px, orig_height_px;
    double box[4]; /* the part that is kept: left top right bottom */
    int width_px, height_px;
    enum prx_image_format format;
    bool is_untouched;
};

/* The largest centred part of the picture that has the target's aspect. */
static void plan_crop(struct picture_plan *plan, int width_px, int height_px)
{
    const double orig_width = plan->orig_width_px, orig_height = plan->orig_height_px;
    double width = fmin(orig_width, orig_height * width_px / height_px);
    double height = fmin(orig_height, orig_width * height_px / width_px);

    plan->box[0] = (orig_width - width) / 2;
    plan->box[1] = (orig_height - height) / 2;
    plan->box[2] = plan->box[0] + width;
    plan->box[3] = plan->box[1] + height;
    plan->width_px = width_px;
    plan->height_px = height_px;
}

/* The shorter side becomes @size_px. */
static void plan_shorter_side(struct picture_plan *plan, int size_px)
{
    const double shorter = fmin(plan->orig_width_px, plan->orig_height_px);

    /* As fractions first: the limits are checked later, on what is then an int. */
    double width =
        fmin(round((double)plan->orig_width_px * size_px / shorter), INT32_MAX);
    double height =
        fmin(round((double)plan->orig_height_px * size_px / shorter), INT32_MAX);
    plan->width_px = (int)width;
    plan->height_px = (int)height;
}

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
    const int64_t n_px_max =
        opts->limits.n_px_max > 0 ? opts->limits.n_px_max : PRX_IMAGE_N_PX_MAX;
    const bool is_transposed = info->exif_orientation >= 5;

    *plan = (struct picture_plan){
        .orig_width_px = is_transposed ? info->height_px : info->width_px,
        .orig_height_px = is_transposed ? info->width_px : info->height_px,
        .format = opts->format == PRX_IMAGE_UNKNOWN ? info->format : opts->format};
    plan->box[2] = plan->width_px = plan->orig_width_px;
    plan->box[3] = plan->height_px = plan->orig_height_px;
    if (opts->size_px > 0 && opts->crop == PRX_CROP_NONE) {
        plan_shorter_side(plan, opts->size_px);
    } else if (opts->size_px > 0 && opts->crop == PRX_CROP_CENTER) {
        plan_crop(plan, opts->size_px, opts->size_px);
    } else if (opts->size_px > 0) {
        const struct prx_bucket *bucket = &ctx->buckets.buckets[prx_bucket_find(
            &ctx->buckets, plan->orig_width_px, plan->orig_height_px)];
        plan_crop(plan, bucket->width_px, bucket->height_px);
    }

    const double kept_width = plan->box[2] - plan->box[0];
    const double kept_height = plan->box[3] - plan->box[1];
    if (opts->no_upscale &&
        (plan->width_px > kept_width || plan->height_px > kept_height))
        return prx_err(PRX_EINVAL, "%d x %d pixels: too small for %d x %d",
                       plan->orig_width_px, plan->orig_height_px, plan->width_px,
                       plan->height_px);
    if ((int64_t)plan->width_px * plan->height_px > n_px_max)
        return prx_err(PRX_EINVAL,
                       "%d x %d pixels would become %d x %d: more than %lld allowed",
                       plan->orig_width_px, plan->orig_height_px, plan->width_px,
                       plan->height_px, (long long)n_px_max);

    bool has_size = kept_width == plan->width_px && kept_height == plan->height_px &&
                    plan->width_px == plan->orig_width_px &&
                    plan->height_px == plan->orig_height_px;
    plan->is_untouched = opts->format == PRX_IMAGE_UNKNOWN &&
                         (opts->size_px == 0 || (has_size && is_plain(info)));
    return 0;
}

/* @side_px of a picture of which @kept is to become @wanted_px. */
static int min_side(int side_px, double kept, int wanted_px)
{
    return (int)fmin(ceil(side_px / kept * wanted_px), INT32_MAX);
}

/* Decode, resize, encode as planned. */
static int remake(const struct picture_ctx *ctx, struct picture_scratch *scratch,
                  const struct picture_plan *plan, const struct prx_buf *stored,
                  struct prx_buf **out)
{
    const double *box = plan->box;
    struct prx_image_info info;
    struct prx_image_decode_opts opts = {.limits = ctx->opts.limits,
                                         .colors = scratch->colors};
    const struct prx_image *result = &scratch->decoded;

    if (ctx->opts.size_px > 0 && !ctx->opts.full_decode) {
        opts.min_width_px =
            min_side(plan->orig_width_px, box[2] - box[0], plan->width_px);
        opts.min_height_px =
            min_side(plan->orig_height_px, box[3] - box[1], plan->height_px);
    }
    PRX_TRY(prx_image_decode(&scratch->decoded, &info, stored->bytes, stored->n_bytes,
                             &opts));
    if (ctx->opts.size_px > 0) {
        const double scale = info.eighths / 8.0;
        const double scaled_box[4] = {box[0] * scale, box[1] * scale, box[2] * scale,
                                      box[3] * scale};
        PRX_TRY(prx_resizer_apply(scratch->resizer, &scratch->decoded, scaled_box,
                                  PRX_LANCZOS, plan->width_px, plan->height_px,
                                  &scratch->resized));
        result = &scratch->resized;
    }
    return prx_image_encode(result, plan->format, ctx->opts.quality, out);
}

/* Decode and forget: are the bytes whole?  The smallest scale reads them all. */
static int check_deep(const struct picture_ctx *ctx, struct picture_scratch *scratch,
                      const struct prx_buf *stored)
{
    const struct prx_image_decode_opts opts = {.limits = ctx->opts.limits,
                                               .min_width_px = 1,
                                               .min_height_px = 1,
                                               .keep_icc_values = true};
    return prx_image_decode(&scratch->decoded, NULL, stored->bytes, stored->n_bytes,
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

static int put_meta(struct prx_sample *sample, const struct picture_plan *plan,
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
                          struct picture_scratch *scratch, struct prx_sample *sample)
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
            PRX_GO(check_deep(ctx, scratch, stored));
        made = prx_buf_ref(stored);
    } else {
        PRX_GO(remake(ctx, scratch, &plan, stored, &made));
        info.exif_orientation = 1;
    }
    PRX_GO(put_meta(sample, &plan, info.exif_orientation, made));
    rc = put_image(sample, field, plan.format, prx_buf_ref(made));
out:
    prx_buf_unref(made);
    prx_buf_unref(stored);
    return rc;
}

static int apply(void *ctx, void *scratch, struct prx_sample *sample)
{
    struct picture_scratch *mine = scratch;

    int rc = change_picture(ctx, mine, sample);
    if (mine->decoded.cap_bytes > KEPT_BYTES_MAX)
        prx_image_release(&mine->decoded);
    if (mine->resized.cap_bytes > KEPT_BYTES_MAX)
        prx_image_release(&mine->resized);
    if (rc == 0 || rc == PRX_ENOMEM)
        return rc;
    prx_sample_reject(sample, STAGE_NAME, "%s", prx_err_message());
    prx_err_clear();
    return 0;
}

static void free_scratch(void *scratch)
{
    struct picture_scratch *mine = scratch;

    if (!mine)
        return;
    prx_color_cache_free(mine->colors);
    prx_resizer_free(mine->resizer);
    prx_image_release(&mine->decoded);
    prx_image_release(&mine->resized);
    free(mine);
}

static int new_scratch(void *ctx, void **out)
{
    struct picture_scratch *scratch = calloc(1, sizeof(*scratch));
    int rc = 0;

    (void)ctx;
    if (!scratch)
        return prx_err_nomem("picture scratch");
    PRX_GO(prx_color_cache_new(&scratch->colors));
    PRX_GO(prx_resizer_new(&scratch->resizer));
    *out = scratch;
    return 0;
out:
    free_scratch(scratch);
    return rc;
}

static void free_ctx(void *ctx)
{
    struct picture_ctx *mine = ctx;

    if (mine)
        prx_bucket_table_release(&mine->buckets);
    free(mine);
}

int prx_stage_picture(const struct prx_picture_opts *opts, bool deep,
                      struct prx_stage *out)
{
    int rc = 0;

    *out = (struct prx_stage){0};
    if (opts->size_px < 0 || opts->bucket_step_px < 0)
        return prx_err(PRX_EINVAL, "image size %d in steps of %d pixels", opts->size_px,
                       opts->bucket_step_px);
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
    if (ctx->opts.bucket_step_px == 0)
        ctx->opts.bucket_step_px = BUCKET_STEP_PX_DEFAULT;
    if (ctx->opts.size_px > 0 && ctx->opts.crop == PRX_CROP_BUCKET)
        PRX_GO(prx_bucket_table_init(&ctx->buckets, ctx->opts.size_px,
                                     ctx->opts.bucket_step_px, BUCKET_MIN_ASPECT,
                                     BUCKET_MAX_ASPECT, 1));
    *out =
        (struct prx_stage){STAGE_NAME, ctx, new_scratch, free_scratch, apply, free_ctx};
    return 0;
out:
    free_ctx(ctx);
    return rc;
}
