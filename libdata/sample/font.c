/* SPDX-License-Identifier: Apache-2.0 */
/* Text on pictures: breaking it into lines, setting its pixels. */
#include "libdata/font.h"

#include <stdbool.h>
#include <string.h>

#include "libdata/sample/font_internal.h"

/* Does a character begin here?  Bytes 10xxxxxx go on with the one before. */
static bool is_start(char c)
{
    return ((unsigned char)c & 0xC0) != 0x80;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

size_t prx_font_columns(const char *text, size_t n_bytes)
{
    size_t n_columns = 0;
    for (size_t i = 0; i < n_bytes; i++)
        n_columns += is_start(text[i]);
    return n_columns;
}

const char *prx_font_wrap(const char *text, size_t n_columns, size_t *n_line_bytes)
{
    size_t n_used = 0;   /* characters so far */
    size_t end = 0;      /* bytes so far */
    size_t word_end = 0; /* behind the last whole word */

    for (; text[end] && text[end] != '\n'; end++) {
        if (is_start(text[end]) && n_used++ == n_columns)
            break;
        if (!is_blank(text[end]) && (is_blank(text[end + 1]) || text[end + 1] == '\n' ||
                                     !text[end + 1]))
            word_end = end + 1;
    }
    bool is_full = text[end] && text[end] != '\n';
    *n_line_bytes = is_full && word_end == 0 ? end : word_end;

    const char *next = text + (is_full ? *n_line_bytes : end);
    while (is_blank(*next))
        next++;
    if (*next == '\n')
        next++;
    return *next ? next : NULL;
}

static void draw_glyph(struct prx_image *image, int64_t x_px, int64_t y_px,
                       const uint8_t color[3], const uint8_t *rows)
{
    for (int y = 0; y < PRX_GLYPH_HEIGHT_PX; y++) {
        for (int x = 0; x < PRX_GLYPH_WIDTH_PX; x++) {
            int64_t at_x = x_px + x, at_y = y_px + y;
            bool is_inside = at_x >= 0 && at_x < image->width_px && at_y >= 0 &&
                             at_y < image->height_px;
            if (is_inside && (rows[y] >> (PRX_GLYPH_WIDTH_PX - 1 - x) & 1))
                memcpy(image->pixels + (at_y * image->width_px + at_x) * 3, color, 3);
        }
    }
}

void prx_font_draw(struct prx_image *image, int x_px, int y_px, const uint8_t color[3],
                   const char *text, size_t n_bytes)
{
    int64_t at_x = x_px;

    for (size_t i = 0; i < n_bytes && at_x < image->width_px; i++) {
        if (!is_start(text[i]))
            continue;
        bool is_drawn = text[i] >= PRX_GLYPH_FIRST && text[i] <= PRX_GLYPH_LAST;
        draw_glyph(image, at_x, y_px, color,
                   is_drawn ? prx_glyphs[text[i] - PRX_GLYPH_FIRST] : prx_glyph_box);
        at_x += PRX_FONT_WIDTH_PX;
    }
}
