/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for pictures, made from their sizes and carried out. */
#include "libdata/fit.h"

#include <math.h>

#define BUCKET_STEP_PX_DEFAULT 32
#define BUCKET_MIN_ASPECT      0.5
#define BUCKET_MAX_ASPECT      2.0

/* A thread gives memory for larger pictures than this back. */
#define KEPT_BYTES_MAX ((size_t)16 << 20)

int prx_fit_init(struct prx_fit *fit, const struct prx_fit_opts *opts)
{
    *fit = (struct prx_fit){.opts = *opts};
    if (opts->size_px < 0 || opts->bucket_step_px < 0)
        return prx_err(PRX_EINVAL, "image size %d in steps of %d pixels", opts->size_px,
                       opts->bucket_step_px);
    if (!(opts->max_upscale >= 0))
        return prx_err(PRX_EINVAL, "pictures enlarged %g times", opts->max_upscale);
    if (fit->opts.bucket_step_px == 0)
        fit->opts.bucket_step_px = BUCKET_STEP_PX_DEFAULT;
    if (opts->size_px == 0 || opts->crop != PRX_CROP_BUCKET)
        return 0;
    return prx_bucket_table_init(&fit->buckets, opts->size_px, fit->opts.bucket_step_px,
                                 BUCKET_MIN_ASPECT, BUCKET_MAX_ASPECT, 1);
}

void prx_fit_release(struct prx_fit *fit)
{
    prx_bucket_table_release(&fit->buckets);
}

static struct prx_fit_plan plan_nothing(int width_px, int height_px)
{
    PRX_BUG_IF(width_px <= 0 || height_px <= 0);
    return (struct prx_fit_plan){
        .orig_width_px = width_px,
        .orig_height_px = height_px,
        .box = {0, 0, width_px, height_px},
        .width_px = width_px,
        .height_px = height_px,
    };
}

void prx_fit_cover(int width_px, int height_px, int to_width_px, int to_height_px,
                   struct prx_fit_plan *plan)
{
    /* The largest centred part of the picture that has the target's aspect. */
    double width = fmin(width_px, (double)height_px * to_width_px / to_height_px);
    double height = fmin(height_px, (double)width_px * to_height_px / to_width_px);

    *plan = plan_nothing(width_px, height_px);
    plan->box[0] = (width_px - width) / 2;
    plan->box[1] = (height_px - height) / 2;
    plan->box[2] = plan->box[0] + width;
    plan->box[3] = plan->box[1] + height;
    plan->width_px = to_width_px;
    plan->height_px = to_height_px;
}

/* The shorter side becomes @size_px. */
static void plan_shorter_side(struct prx_fit_plan *plan, int size_px)
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

static bool is_too_small(const struct prx_fit_plan *plan, double max_upscale)
{
    return plan->width_px > (plan->box[2] - plan->box[0]) * max_upscale ||
           plan->height_px > (plan->box[3] - plan->box[1]) * max_upscale;
}

int prx_fit_plan(const struct prx_fit *fit, int width_px, int height_px,
                 int64_t n_px_max, struct prx_fit_plan *plan)
{
    const struct prx_fit_opts *opts = &fit->opts;

    *plan = plan_nothing(width_px, height_px);
    if (opts->size_px > 0 && opts->crop == PRX_CROP_NONE) {
        plan_shorter_side(plan, opts->size_px);
    } else if (opts->size_px > 0 && opts->crop == PRX_CROP_CENTER) {
        prx_fit_cover(width_px, height_px, opts->size_px, opts->size_px, plan);
    } else if (opts->size_px > 0) {
        size_t i = prx_bucket_find(&fit->buckets, width_px, height_px);
        prx_fit_cover(width_px, height_px, fit->buckets.buckets[i].width_px,
                      fit->buckets.buckets[i].height_px, plan);
    }
    if (opts->max_upscale > 0 && is_too_small(plan, opts->max_upscale))
        return prx_err(PRX_EINVAL, "%d x %d pixels: too small for %d x %d", width_px,
                       height_px, plan->width_px, plan->height_px);
    if (n_px_max <= 0)
        n_px_max = PRX_IMAGE_N_PX_MAX;
    if ((int64_t)plan->width_px * plan->height_px > n_px_max)
        return prx_err(PRX_EINVAL,
                       "%d x %d pixels would become %d x %d: more than %lld allowed",
                       width_px, height_px, plan->width_px, plan->height_px,
                       (long long)n_px_max);
    return 0;
}

bool prx_fit_has_size(const struct prx_fit_plan *plan)
{
    return plan->box[0] == 0 && plan->box[1] == 0 &&
           plan->box[2] == plan->orig_width_px &&
           plan->box[3] == plan->orig_height_px &&
           plan->width_px == plan->orig_width_px &&
           plan->height_px == plan->orig_height_px;
}

int prx_fitter_init(struct prx_fitter *fitter)
{
    *fitter = (struct prx_fitter){0};
    PRX_TRY(prx_color_cache_new(&fitter->colors));
    return prx_resizer_new(&fitter->resizer);
}

void prx_fitter_release(struct prx_fitter *fitter)
{
    prx_color_cache_free(fitter->colors);
    prx_resizer_free(fitter->resizer);
    prx_image_release(&fitter->decoded);
    prx_image_release(&fitter->resized);
    *fitter = (struct prx_fitter){0};
}

void prx_fitter_trim(struct prx_fitter *fitter)
{
    if (fitter->decoded.cap_bytes > KEPT_BYTES_MAX)
        prx_image_release(&fitter->decoded);
    if (fitter->resized.cap_bytes > KEPT_BYTES_MAX)
        prx_image_release(&fitter->resized);
}

/* @side_px of a picture of which @kept is to become @wanted_px. */
static int min_side(int side_px, double kept, int wanted_px)
{
    return (int)fmin(ceil(side_px / kept * wanted_px), INT32_MAX);
}

int prx_fitter_apply(struct prx_fitter *fitter, const struct prx_fit_plan *plan,
                     const uint8_t *bytes, size_t n_bytes,
                     const struct prx_image_limits *limits, bool full_decode,
                     struct prx_image **out)
{
    const double *box = plan->box;
    const bool is_same = prx_fit_has_size(plan);
    struct prx_image_info info;
    struct prx_image_decode_opts opts = {.limits = *limits, .colors = fitter->colors};

    if (!is_same && !full_decode) {
        opts.min_width_px =
            min_side(plan->orig_width_px, box[2] - box[0], plan->width_px);
        opts.min_height_px =
            min_side(plan->orig_height_px, box[3] - box[1], plan->height_px);
    }
    PRX_TRY(prx_image_decode(&fitter->decoded, &info, bytes, n_bytes, &opts));
    *out = &fitter->decoded;
    if (is_same)
        return 0;
    const double scale = info.eighths / 8.0;
    const double scaled_box[4] = {box[0] * scale, box[1] * scale, box[2] * scale,
                                  box[3] * scale};
    *out = &fitter->resized;
    return prx_resizer_apply(fitter->resizer, &fitter->decoded, scaled_box, PRX_LANCZOS,
                             plan->width_px, plan->height_px, &fitter->resized);
}
