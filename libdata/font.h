/* SPDX-License-Identifier: Apache-2.0 */
/*
 * font.h - a small fixed-width font for labels on pictures.
 *
 * Printable ASCII in cells of 6x11 pixels, drawn for this project.  Any other
 * character, one for each in UTF-8, shows as an empty box.  Reentrant.
 */
#ifndef PRX_LIBDATA_FONT_H
#define PRX_LIBDATA_FONT_H

#include <stddef.h>
#include <stdint.h>

#include "libdata/image.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_FONT_WIDTH_PX  6  /* from a character to the next */
#define PRX_FONT_HEIGHT_PX 11 /* from a line to the next */

/** prx_font_columns - characters in the first @n_bytes of @text. */
size_t prx_font_columns(const char *text, size_t n_bytes);

/**
 * prx_font_wrap - where the first line of @text ends.
 *
 * @n_columns: at most so many characters a line, at least 1.
 * @n_line_bytes: receives the bytes that belong on the line.
 * Lines break at blanks, in the middle of a word only where it is longer than a
 * line, and at every newline.  Returns the start of the next line, behind blanks,
 * or NULL when this is the last one.
 */
const char *prx_font_wrap(const char *text, size_t n_columns, size_t *n_line_bytes);

/**
 * prx_font_draw - draw one line of @n_bytes, its cell's corner at (@x_px, @y_px).
 *
 * What lies outside of @image is left out.
 */
void prx_font_draw(struct prx_image *image, int x_px, int y_px, const uint8_t color[3],
                   const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
