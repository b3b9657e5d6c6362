/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Upright pictures: the orientation that EXIF tells, and the turn that undoes it.
 *
 * The parser believes nothing: it looks at one directory only, follows no links,
 * and checks every offset against the block's end; what it cannot read is
 * "no orientation", because a picture is no worse for a broken EXIF block.
 */
#include <stdlib.h>
#include <string.h>

#include "libdata/sample/image_internal.h"

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT      3
#define ENTRY_BYTES     12

static uint32_t read_uint(const uint8_t *bytes, int n_bytes, bool is_little)
{
    uint32_t value = 0;
    for (int i = 0; i < n_bytes; i++)
        value = value << 8 | bytes[is_little ? n_bytes - 1 - i : i];
    return value;
}

int prx_exif_orientation(const uint8_t *tiff, size_t n_bytes)
{
    /* JPEG's and some WebP writers' blocks begin with this. */
    if (n_bytes >= 6 && memcmp(tiff, "Exif\0\0", 6) == 0) {
        tiff += 6;
        n_bytes -= 6;
    }
    if (n_bytes < 8)
        return 1;
    bool is_little = memcmp(tiff, "II*\0", 4) == 0;
    if (!is_little && memcmp(tiff, "MM\0*", 4) != 0)
        return 1;
    size_t dir = read_uint(tiff + 4, 4, is_little);
    if (dir > n_bytes - 2)
        return 1;
    size_t n_entries = read_uint(tiff + dir, 2, is_little);
    const uint8_t *entry = tiff + dir + 2;
    if (n_entries > (n_bytes - dir - 2) / ENTRY_BYTES)
        n_entries = (n_bytes - dir - 2) / ENTRY_BYTES;
    for (; n_entries > 0; n_entries--, entry += ENTRY_BYTES) {
        if (read_uint(entry, 2, is_little) != TAG_ORIENTATION)
            continue;
        uint32_t value = read_uint(entry + 8, 2, is_little);
        bool is_valid = read_uint(entry + 2, 2, is_little) == TYPE_SHORT &&
                        read_uint(entry + 4, 4, is_little) == 1 && value >= 1 &&
                        value <= 8;
        return is_valid ? (int)value : 1;
    }
    return 1;
}

/*
 * Where the upright picture's pixels lie in the stored one: its first pixel in a
 * corner, a step right and a step down each along a stored row or column.
 */
static const struct {
    bool from_right, from_bottom, is_transposed;
} turns[9] = {
    [2] = {.from_right = true},
    [3] = {.from_right = true, .from_bottom = true},
    [4] = {.from_bottom = true},
    [5] = {.is_transposed = true},
    [6] = {.from_bottom = true, .is_transposed = true},
    [7] = {.from_right = true, .from_bottom = true, .is_transposed = true},
    [8] = {.from_right = true, .is_transposed = true},
};

/* Square tiles keep both the rows read and the rows written in the cache. */
#define TILE_PX 32

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

int prx_image_orient(struct prx_image *image, int orientation)
{
    struct prx_image upright = {0};
    const int width = image->width_px, height = image->height_px;

    if (orientation <= 1)
        return 0;
    const bool is_transposed = turns[orientation].is_transposed;
    ptrdiff_t step_col = turns[orientation].from_right ? -3 : 3;
    ptrdiff_t step_row = (ptrdiff_t)width * (turns[orientation].from_bottom ? -3 : 3);
    const uint8_t *first = image->pixels;
    if (turns[orientation].from_right)
        first += (size_t)(width - 1) * 3;
    if (turns[orientation].from_bottom)
        first += (size_t)(height - 1) * (size_t)width * 3;

    PRX_TRY(prx_image_reserve(&upright, is_transposed ? height : width,
                              is_transposed ? width : height));
    const ptrdiff_t step_x = is_transposed ? step_row : step_col;
    const ptrdiff_t step_y = is_transposed ? step_col : step_row;
    for (int y0 = 0; y0 < upright.height_px; y0 += TILE_PX) {
        for (int x0 = 0; x0 < upright.width_px; x0 += TILE_PX) {
            int y1 = min_int(y0 + TILE_PX, upright.height_px);
            int x1 = min_int(x0 + TILE_PX, upright.width_px);
            for (int y = y0; y < y1; y++) {
                uint8_t *to = upright.pixels + (ptrdiff_t)y * upright.width_px * 3;
                for (int x = x0; x < x1; x++)
                    memcpy(to + x * 3, first + y * step_y + x * step_x, 3);
            }
        }
    }
    prx_image_release(image);
    *image = upright;
    return 0;
}
