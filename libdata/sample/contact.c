/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contact sheets: measured first, then drawn.
 *
 *     margin | group | gap | group | margin        group: cell cell cell
 *                                                         label ......
 */
#include "libdata/contact.h"

#include <stdlib.h>
#include <string.h>

#include "libdata/font.h"

#define MARGIN_PX             12
#define GROUP_GAP_PX          12
#define CELL_GAP_PX           2
#define LABEL_GAP_PX          4
#define WIDTH_PX_DEFAULT      1280
#define N_LABEL_LINES_DEFAULT 4

static const uint8_t ink[3] = {40, 40, 40};

struct layout {
    int64_t cell_width_px, cell_height_px;
    int64_t group_width_px;
    size_t n_columns, n_rows;
    size_t n_line_columns; /* characters a label line holds */
    size_t n_label_lines;
    int64_t top_px; /* where the first row begins */
    int64_t width_px, height_px;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Characters that @width_px holds, at least one. */
static size_t count_columns(int64_t width_px)
{
    return width_px > PRX_FONT_WIDTH_PX ? (size_t)(width_px / PRX_FONT_WIDTH_PX) : 1;
}

/* Lines the label of a group takes. */
static size_t count_lines(const struct prx_contact *contact,
                          const struct layout *layout, size_t i_group)
{
    const char *text = contact->labels ? contact->labels[i_group] : NULL;
    size_t n_lines = 0, n_bytes;

    while (text && *text && n_lines < layout->n_label_lines) {
        text = prx_font_wrap(text, layout->n_line_columns, &n_bytes);
        n_lines++;
    }
    return n_lines;
}

static int64_t row_height(const struct prx_contact *contact,
                          const struct layout *layout, size_t i_row)
{
    size_t begin = i_row * layout->n_columns;
    size_t end = smaller(begin + layout->n_columns, contact->n_groups);
    size_t n_lines = 0;

    for (size_t i = begin; i < end; i++) {
        size_t n = count_lines(contact, layout, i);
        n_lines = n > n_lines ? n : n_lines;
    }
    int64_t label_px = (int64_t)n_lines * PRX_FONT_HEIGHT_PX;
    return layout->cell_height_px + (n_lines > 0 ? LABEL_GAP_PX : 0) + label_px +
           GROUP_GAP_PX;
}

static int measure(const struct prx_contact *contact, struct layout *layout)
{
    size_t n_images;

    *layout = (struct layout){0};
    if (__builtin_mul_overflow(contact->n_groups, contact->n_group_images, &n_images))
        return prx_err(PRX_EINVAL, "a contact sheet of too many pictures");
    for (size_t i = 0; i < n_images; i++) {
        const struct prx_image *image = contact->images[i];
        if (image && image->width_px > layout->cell_width_px)
            layout->cell_width_px = image->width_px;
        if (image && image->height_px > layout->cell_height_px)
            layout->cell_height_px = image->height_px;
    }
    if (layout->cell_width_px == 0)
        return prx_err(PRX_EINVAL, "a contact sheet without pictures");

    /* More pictures than a sheet has pixels cannot be; below, nothing overflows. */
    const int64_t n_max = PRX_CONTACT_SIDE_PX_MAX;
    if (contact->n_group_images > (size_t)n_max ||
        contact->n_groups > (size_t)(n_max * n_max))
        return prx_err(PRX_EINVAL, "a contact sheet of too many pictures");
    layout->group_width_px = (int64_t)contact->n_group_images *
                                 (layout->cell_width_px + CELL_GAP_PX) -
                             CELL_GAP_PX;
    int64_t step_px = layout->group_width_px + GROUP_GAP_PX;
    int64_t n_fit = (WIDTH_PX_DEFAULT - 2 * MARGIN_PX + GROUP_GAP_PX) / step_px;
    layout->n_columns = contact->n_columns ? contact->n_columns
                        : n_fit > 0        ? (size_t)n_fit
                                           : 1;
    layout->n_columns = smaller(layout->n_columns, contact->n_groups);
    layout->n_rows = (contact->n_groups + layout->n_columns - 1) / layout->n_columns;
    layout->n_line_columns = count_columns(layout->group_width_px);
    layout->n_label_lines =
        contact->n_label_lines ? contact->n_label_lines : N_LABEL_LINES_DEFAULT;
    layout->top_px = MARGIN_PX +
                     (contact->title ? PRX_FONT_HEIGHT_PX + LABEL_GAP_PX : 0);
    if ((int64_t)layout->n_columns > n_max / step_px ||
        (int64_t)layout->n_rows > n_max / layout->cell_height_px)
        return prx_err(PRX_EINVAL, "a contact sheet of more than %d pixels a side",
                       PRX_CONTACT_SIDE_PX_MAX);
    layout->width_px =
        2 * MARGIN_PX - GROUP_GAP_PX + (int64_t)layout->n_columns * step_px;
    layout->height_px = layout->top_px + MARGIN_PX - GROUP_GAP_PX;
    for (size_t i = 0; i < layout->n_rows; i++)
        layout->height_px += row_height(contact, layout, i);
    if (layout->width_px > n_max || layout->height_px > n_max)
        return prx_err(PRX_EINVAL, "a contact sheet of %lld x %lld pixels",
                       (long long)layout->width_px, (long long)layout->height_px);
    return 0;
}

static void draw_picture(const struct prx_image *image, const struct layout *layout,
                         int64_t x_px, int64_t y_px, struct prx_image *sheet)
{
    x_px += (layout->cell_width_px - image->width_px) / 2;
    y_px += (layout->cell_height_px - image->height_px) / 2;
    size_t n_row_bytes = (size_t)image->width_px * 3;
    for (int64_t y = 0; y < image->height_px; y++)
        memcpy(sheet->pixels + ((y_px + y) * sheet->width_px + x_px) * 3,
               image->pixels + (size_t)y * n_row_bytes, n_row_bytes);
}

/* Lines of @text, at most @n_lines_max of @n_columns; the last ends in dots if cut. */
static void draw_text(const char *text, size_t n_columns, size_t n_lines_max,
                      int64_t x_px, int64_t y_px, struct prx_image *sheet)
{
    const size_t n_dots = smaller(3, n_columns);

    for (size_t i = 0; text && *text && i < n_lines_max; i++) {
        size_t n_bytes;
        const char *next = prx_font_wrap(text, n_columns, &n_bytes);
        if (next && i + 1 == n_lines_max) {
            while (prx_font_columns(text, n_bytes) > n_columns - n_dots)
                n_bytes--;
            size_t n_before = prx_font_columns(text, n_bytes);
            prx_font_draw(sheet, (int)x_px + (int)n_before * PRX_FONT_WIDTH_PX,
                          (int)y_px, ink, "...", n_dots);
        }
        prx_font_draw(sheet, (int)x_px, (int)y_px, ink, text, n_bytes);
        text = next;
        y_px += PRX_FONT_HEIGHT_PX;
    }
}

static void draw_group(const struct prx_contact *contact, const struct layout *layout,
                       size_t i_group, int64_t x_px, int64_t y_px,
                       struct prx_image *sheet)
{
    for (size_t i = 0; i < contact->n_group_images; i++) {
        const struct prx_image *image =
            contact->images[i_group * contact->n_group_images + i];
        int64_t cell_x = x_px + (int64_t)i * (layout->cell_width_px + CELL_GAP_PX);
        if (image)
            draw_picture(image, layout, cell_x, y_px, sheet);
    }
    if (contact->labels)
        draw_text(contact->labels[i_group], layout->n_line_columns,
                  layout->n_label_lines, x_px,
                  y_px + layout->cell_height_px + LABEL_GAP_PX, sheet);
}

int prx_contact_draw(const struct prx_contact *contact, struct prx_image *out)
{
    struct prx_image *sheet;
    struct layout layout;

    PRX_TRY(measure(contact, &layout));
    PRX_TRY(prx_image_new((int)layout.width_px, (int)layout.height_px, &sheet));
    memset(sheet->pixels, 255, (size_t)layout.width_px * (size_t)layout.height_px * 3);
    draw_text(contact->title, count_columns(layout.width_px - 2 * MARGIN_PX), 1,
              MARGIN_PX, MARGIN_PX, sheet);
    int64_t y_px = layout.top_px;
    for (size_t i_row = 0; i_row < layout.n_rows; i_row++) {
        for (size_t i = 0; i < layout.n_columns; i++) {
            size_t i_group = i_row * layout.n_columns + i;
            int64_t x_px = MARGIN_PX +
                           (int64_t)i * (layout.group_width_px + GROUP_GAP_PX);
            if (i_group < contact->n_groups)
                draw_group(contact, &layout, i_group, x_px, y_px, sheet);
        }
        y_px += row_height(contact, &layout, i_row);
    }
    *out = *sheet;
    free(sheet);
    return 0;
}
