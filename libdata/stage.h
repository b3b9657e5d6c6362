/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stage.h - what happens to a sample on its way: one verb, apply.
 *
 * A stage changes the sample it is given: fields, meta, image.  It runs in many
 * threads at once, each on a sample of its own, so its context is read-only
 * while the pipeline runs, but for per-thread scratch (see new_scratch).
 * A sample it cannot use it marks with prx_sample_reject() and returns 0; an
 * error is left for what makes going on useless (no memory, a broken model).
 */
#ifndef PRX_LIBDATA_STAGE_H
#define PRX_LIBDATA_STAGE_H

#include "libdata/err.h"
#include "libdata/fit.h"
#include "libdata/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_stage {
    const char *name; /* for rejects: "decode" */
    void *ctx;        /* owned by the stage; freed by free */
    /* Per-thread memory, made in the thread that uses it; both NULL if none. */
    int (*new_scratch)(void *ctx, void **out);
    void (*free_scratch)(void *scratch);
    int (*apply)(void *ctx, void *scratch, struct prx_sample *sample);
    void (*free)(void *ctx);
};

/** prx_stage_release - free what the stage owns; fine on {0}. */
void prx_stage_release(struct prx_stage *stage);

/* Everything prx-shard does to a picture. */
struct prx_picture_opts {
    struct prx_fit_opts fit;
    enum prx_image_format format; /* PRX_IMAGE_UNKNOWN: keep the stored one */
    int quality;                  /* 0 = 95 */
    bool full_decode;             /* never DCT-scale */
    struct prx_image_limits limits;
};

/**
 * prx_stage_picture - validate, orient, convert, resize, re-encode; write metadata.
 *
 * With format kept and nothing to resize (no size, or the picture has it already
 * and is plain upright 8-bit RGB without a profile) the image bytes pass untouched;
 * the header is still checked, and @deep decodes them to be sure.  A format named
 * in @opts always means re-encoding.
 *
 * Meta tells of the image as written: width, height (upright), exif_orientation
 * (1 once the pixels are upright) and xxh128 (of its bytes); orig_width and
 * orig_height, the upright size before, stay where they were there already, and so
 * does everything else.
 *
 * A sample without an image is rejected; an image field whose name belies its
 * bytes is renamed to what they are, unless that name is taken: then the sample is
 * rejected.
 * Errors: PRX_EINVAL (a quality below 0 or above 100), and those of prx_fit_init().
 */
PRX_MUST_USE int prx_stage_picture(const struct prx_picture_opts *opts, bool deep,
                                   struct prx_stage *out);

#ifdef __cplusplus
}
#endif
#endif
