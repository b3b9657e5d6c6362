/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fit.h - which part of a picture becomes how many pixels, and making it so.
 *
 * A fit is what the user wants of all pictures (a size, a kind of crop); a plan is
 * what follows for one picture, from its upright size alone; a fitter is a thread's
 * memory for carrying plans out.
 *
 * A picture that becomes a square or a bucket keeps its aspect: it is scaled to cover
 * the target, and what stands over is cut off, evenly on both sides (to fractions of a
 * pixel, as Pillow's ImageOps.fit does) or where the caller moves the box.
 */
#ifndef PRX_LIBDATA_FIT_H
#define PRX_LIBDATA_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "libdata/bucket.h"
#include "libdata/err.h"
#include "libdata/image.h"

#ifdef __cplusplus
extern "C" {
#endif

enum prx_crop {
    PRX_CROP_NONE,   /* the shorter side becomes size_px, the other one follows,
                      * rounded to nearest */
    PRX_CROP_CENTER, /* a square of size_px */
    PRX_CROP_BUCKET, /* the nearest aspect bucket of base size_px */
};

struct prx_fit_opts {
    int size_px; /* 0: sizes stay as they are */
    enum prx_crop crop;
    int bucket_step_px; /* sides of buckets divide by this; 0 = 32 */
    double max_upscale; /* refuse what must be enlarged more than so; 0 = never do */
};

/* Does not change once made; any number of threads may use it. */
struct prx_fit {
    struct prx_fit_opts opts;
    struct prx_bucket_table buckets; /* of PRX_CROP_BUCKET: aspects 1:2 to 2:1 */
};

/**
 * prx_fit_init - make ready.
 *
 * Errors: PRX_EINVAL (a size or step below 0, a negative max_upscale, no bucket),
 * PRX_ENOMEM.
 */
PRX_MUST_USE int prx_fit_init(struct prx_fit *fit, const struct prx_fit_opts *opts);
void prx_fit_release(struct prx_fit *fit);

struct prx_fit_plan {
    int orig_width_px, orig_height_px; /* upright */
    double box[4];                     /* the part kept: left, top, right, bottom */
    int width_px, height_px;           /* what it becomes */
};

/**
 * prx_fit_plan - what becomes of a picture of @width_px by @height_px, upright.
 *
 * Errors: PRX_EINVAL (too small, or the result has more than @n_px_max pixels; 0 =
 * PRX_IMAGE_N_PX_MAX).
 */
PRX_MUST_USE int prx_fit_plan(const struct prx_fit *fit, int width_px, int height_px,
                              int64_t n_px_max, struct prx_fit_plan *plan);

/** prx_fit_cover - scale to cover @to_width_px by @to_height_px, cut off evenly. */
void prx_fit_cover(int width_px, int height_px, int to_width_px, int to_height_px,
                   struct prx_fit_plan *plan);

/** prx_fit_has_size - does the plan change nothing? */
bool prx_fit_has_size(const struct prx_fit_plan *plan);

/* One thread's.  {0} before prx_fitter_init(). */
struct prx_fitter {
    struct prx_color_cache *colors;
    struct prx_resizer *resizer;
    struct prx_image decoded, resized;
};

PRX_MUST_USE int prx_fitter_init(struct prx_fitter *fitter);
void prx_fitter_release(struct prx_fitter *fitter);

/**
 * prx_fitter_apply - decode @bytes to sRGB and carry out @plan, by a Lanczos filter.
 *
 * @full_decode: never decode a JPEG at reduced scale (see image.h).
 * @out: borrowed, until the next call; the caller may change its pixels.
 * Errors: as prx_image_decode().
 */
PRX_MUST_USE int prx_fitter_apply(struct prx_fitter *fitter,
                                  const struct prx_fit_plan *plan, const uint8_t *bytes,
                                  size_t n_bytes, const struct prx_image_limits *limits,
                                  bool full_decode, struct prx_image **out);

/** prx_fitter_trim - give large buffers back; to be called now and then. */
void prx_fitter_trim(struct prx_fitter *fitter);

#ifdef __cplusplus
}
#endif
#endif
