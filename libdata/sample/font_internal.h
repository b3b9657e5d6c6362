/* SPDX-License-Identifier: Apache-2.0 */
/* font_internal.h - the glyphs, drawn in font_glyphs.c. */
#ifndef PRX_LIBDATA_SAMPLE_FONT_INTERNAL_H
#define PRX_LIBDATA_SAMPLE_FONT_INTERNAL_H

#include <stdint.h>

#define PRX_GLYPH_WIDTH_PX  5
#define PRX_GLYPH_HEIGHT_PX 9
#define PRX_GLYPH_FIRST     ' '
#define PRX_GLYPH_LAST      '~'
#define PRX_N_GLYPHS        (PRX_GLYPH_LAST - PRX_GLYPH_FIRST + 1)

/* Rows from the top, the leftmost pixel in bit 4; the base line is under row 6. */
extern const uint8_t prx_glyphs[PRX_N_GLYPHS][PRX_GLYPH_HEIGHT_PX];
extern const uint8_t prx_glyph_box[PRX_GLYPH_HEIGHT_PX];

#endif
