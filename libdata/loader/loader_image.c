/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stored picture becomes a batch's pixels: decoded, cropped, resized, mirrored.
 *
 * The size comes from the index, so that a batch has one; the part of the picture
 * that becomes it is the largest of that aspect, in the middle or where it is drawn.
 */
#include <string.h>

#include "libdata/loader/loader_internal.h"
#include "libdata/sample/convert_internal.h"

/* How a draw looks at its picture. */
struct view {
    double x, y; /* where the box is, as a share of the room that it has */
    bool is_mirrored;
};

static struct view draw_view(const struct prx_loader_opts *opts,
                             const struct prx_loader_draw *draw)
{
    struct view view = {0.5, 0.5, false};
    struct prx_rng rng;

    /* All draws are taken always, so that none shifts another. */
    prx_rng_init(&rng, opts->seed, PRX_RNG_CROP, draw->epoch, draw->id);
    double x = (double)prx_rng_uniform(&rng), y = (double)prx_rng_uniform(&rng);
    view.is_mirrored = (double)prx_rng_uniform(&rng) < opts->image.flip;
    if (opts->image.random_crop) {
        view.x = x;
        view.y = y;
    }
    return view;
}

static void move_box(struct prx_fit_plan *plan, const struct view *view)
{
    double width = plan->box[2] - plan->box[0], height = plan->box[3] - plan->box[1];

    plan->box[0] = (plan->orig_width_px - width) * view->x;
    plan->box[1] = (plan->orig_height_px - height) * view->y;
    plan->box[2] = plan->box[0] + width;
    plan->box[3] = plan->box[1] + height;
}

static void put_u8(const struct prx_image *image, bool is_mirrored, uint8_t *out)
{
    size_t width = (size_t)image->width_px, n_row = 3 * width;

    if (!is_mirrored) {
        memcpy(out, image->pixels, n_row * (size_t)image->height_px);
        return;
    }
    for (size_t y = 0; y < (size_t)image->height_px; y++, out += n_row)
        for (size_t x = 0; x < width; x++)
            memcpy(out + 3 * x, image->pixels + y * n_row + 3 * (width - 1 - x), 3);
}

static void put_f32(const struct prx_image *image, bool is_mirrored, float *out)
{
    const struct prx_convert_kernels *kernels = PRX_SIMD_PICK(prx_convert_kernels);
    size_t width = (size_t)image->width_px, n = width * (size_t)image->height_px;

    for (size_t y = 0; y < (size_t)image->height_px; y++)
        kernels->planes(image->pixels + 3 * y * width, image->width_px,
                        is_mirrored ? -1 : 1, out + y * width, out + n + y * width,
                        out + 2 * n + y * width);
}

static int make_image(struct loader_reader *reader, const uint8_t *bytes,
                      size_t n_bytes, const struct loader_shape *shape,
                      const struct view *view, struct prx_image **out)
{
    static const struct prx_image_limits limits;
    struct prx_image_info info;
    struct prx_fit_plan plan;

    PRX_TRY(prx_image_probe(bytes, n_bytes, &limits, &info));
    bool is_turned = info.exif_orientation >= 5;
    prx_fit_cover(is_turned ? info.height_px : info.width_px,
                  is_turned ? info.width_px : info.height_px, (int)shape->image_width,
                  (int)shape->image_height, &plan);
    move_box(&plan, view);
    return prx_fitter_apply(&reader->fitter, &plan, bytes, n_bytes, &limits, false,
                            out);
}

int prx_loader_image_read(struct loader_reader *reader,
                          const struct loader_reading *reading, void *out)
{
    const struct loader_catalog *catalog = reader->catalog;
    size_t i_part = catalog->layout.i_image;
    const struct loader_shape *shape =
        &catalog->shapes[prx_loader_shape_id(catalog, reading->i_sample)];
    struct view view = draw_view(reader->opts, reading->draw);
    struct prx_buf *held = NULL;
    struct prx_image *image;
    const uint8_t *bytes;
    int rc = 0;

    if (!reader->has_fitter) {
        PRX_TRY(prx_fitter_init(&reader->fitter));
        reader->has_fitter = true;
    }
    PRX_GO(prx_loader_part_read(reader, reading, i_part, &bytes, &held));
    PRX_GO(make_image(reader, bytes, reading->places[i_part].n_bytes, shape, &view,
                      &image));
    if (reader->opts->image.form == PRX_LOADER_IMAGE_U8)
        put_u8(image, view.is_mirrored, out);
    else
        put_f32(image, view.is_mirrored, out);
    prx_fitter_trim(&reader->fitter);
out:
    prx_buf_unref(held);
    /* A picture over a limit is as unusable as a broken one. */
    return rc == PRX_EINVAL ? prx_err(PRX_ECORRUPT, "%s", prx_err_message()) : rc;
}
