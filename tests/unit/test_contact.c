/* SPDX-License-Identifier: Apache-2.0 */
/* font.h and contact.h: where lines break, where pictures and labels stand. */
#include "libdata/contact.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/font.h"

static struct prx_image new_image(int width_px, int height_px, uint8_t level)
{
    struct prx_image *image, plain;
    assert_int_equal(prx_image_new(width_px, height_px, &image), 0);
    memset(image->pixels, level, (size_t)width_px * (size_t)height_px * 3);
    plain = *image;
    free(image);
    return plain;
}

static uint8_t level_at(const struct prx_image *image, int x, int y)
{
    return image->pixels[((size_t)y * (size_t)image->width_px + (size_t)x) * 3];
}

/* Pixels of a rectangle that are not white. */
static int count_ink(const struct prx_image *image, int x0, int y0, int width,
                     int height)
{
    int n = 0;
    for (int y = y0; y < y0 + height; y++)
        for (int x = x0; x < x0 + width; x++)
            n += level_at(image, x, y) != 255;
    return n;
}

static void test_wrap(void **state)
{
    static const struct {
        const char *text;
        size_t n_columns;
        const char *want; /* lines, joined by | */
    } rows[] = {
        {"", 5, ""},
        {"one", 5, "one"},
        {"one two", 7, "one two"},
        {"one two", 6, "one|two"},
        {"one two  ", 7, "one two"},
        {"one   two three", 8, "one|two|three"},
        {"abcdefgh", 3, "abc|def|gh"},
        {"a bcdefgh i", 4, "a|bcde|fgh|i"},
        {"abc def", 3, "abc|def"},
        {"one\ntwo", 9, "one|two"},
        {"a b c", 1, "a|b|c"},
        {"\xc3\xa9\xc3\xa9 \xc3\xa9", 2, "\xc3\xa9\xc3\xa9|\xc3\xa9"},
        {"\xc3\xa9\xc3\xa9\xc3\xa9", 2, "\xc3\xa9\xc3\xa9|\xc3\xa9"},
        {"\x80\x80\x80", 1, "\x80\x80\x80"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prx_str got = {0};
        const char *text = rows[i].text;
        assert_int_equal(prx_str_puts(&got, ""), 0);
        while (text) {
            size_t n_bytes;
            const char *next = prx_font_wrap(text, rows[i].n_columns, &n_bytes);
            assert_int_equal(prx_str_add(&got, text, n_bytes), 0);
            assert_int_equal(prx_str_puts(&got, next ? "|" : ""), 0);
            text = next;
        }
        assert_string_equal(got.bytes, rows[i].want);
        prx_str_release(&got);
    }
}

/* Every printable character but the blank leaves ink, each its own. */
static void test_glyphs(void **state)
{
    static const uint8_t black[3] = {0};
    struct prx_image cells[128];

    (void)state;
    for (int c = ' '; c <= '~'; c++) {
        char text = (char)c;
        cells[c] = new_image(PRX_FONT_WIDTH_PX, PRX_FONT_HEIGHT_PX, 255);
        prx_font_draw(&cells[c], 0, 0, black, &text, 1);
        int n = count_ink(&cells[c], 0, 0, PRX_FONT_WIDTH_PX, PRX_FONT_HEIGHT_PX);
        assert_true(c == ' ' ? n == 0 : n >= 3);
        /* The last column and rows keep neighbours apart. */
        assert_int_equal(count_ink(&cells[c], PRX_FONT_WIDTH_PX - 1, 0, 1,
                                   PRX_FONT_HEIGHT_PX),
                         0);
        for (int d = ' '; d < c; d++)
            assert_memory_not_equal(cells[c].pixels, cells[d].pixels,
                                    PRX_FONT_WIDTH_PX * PRX_FONT_HEIGHT_PX * 3);
    }
    for (int c = ' '; c <= '~'; c++)
        prx_image_release(&cells[c]);
}

/* Outside is left out: the sanitizer looks on. */
static void test_outside(void **state)
{
    static const uint8_t black[3] = {0};
    static const int corners[][2] = {
        {-3, -4},
        {28, -4},
        {-3, 26},
        {28, 26},
        {-40, 4},
        {4, -40},
        {99, 4},
        {4, 99},
    };
    struct prx_image image = new_image(30, 30, 255);

    (void)state;
    for (size_t i = 0; i < sizeof(corners) / sizeof(corners[0]); i++)
        prx_font_draw(&image, corners[i][0], corners[i][1], black, "W\xc3\xa9\x01", 4);
    assert_true(count_ink(&image, 0, 0, 30, 30) > 0);
    prx_image_release(&image);
}

static void test_layout(void **state)
{
    struct prx_image a = new_image(40, 30, 10), b = new_image(20, 30, 20),
                     sheet = {0};
    const struct prx_image *images[] = {&a, &b, &b, NULL, &a, &a};
    const char *labels[] = {"two words that wrap", NULL, ""};
    const struct prx_contact contact = {.images = images,
                                        .labels = labels,
                                        .n_groups = 3,
                                        .n_group_images = 2,
                                        .n_columns = 2};

    (void)state;
    assert_int_equal(prx_contact_draw(&contact, &sheet), 0);
    /* Two groups of two cells of 40, gaps of 2 and 12, margins of 12. */
    assert_int_equal(sheet.width_px, 12 + 82 + 12 + 82 + 12);
    /* The first row has a label of two lines, the second none. */
    assert_int_equal(sheet.height_px, 12 + 30 + 4 + 2 * 11 + 12 + 30 + 12);
    assert_int_equal(level_at(&sheet, 12, 12), 10);
    assert_int_equal(level_at(&sheet, 51, 41), 10);
    assert_int_equal(level_at(&sheet, 52, 41), 255);
    assert_int_equal(level_at(&sheet, 54, 12), 255); /* b is centred in its cell */
    assert_int_equal(level_at(&sheet, 64, 12), 20);
    assert_true(count_ink(&sheet, 12, 46, 82, 11) > 20);
    assert_true(count_ink(&sheet, 12, 57, 82, 11) > 5);
    assert_int_equal(count_ink(&sheet, 106, 46, 82, 22), 0);
    assert_int_equal(count_ink(&sheet, 148, 12, 40, 30), 0); /* the empty cell */
    assert_int_equal(level_at(&sheet, 12, 80), 10);
    assert_int_equal(count_ink(&sheet, 0, 0, 12, sheet.height_px), 0);
    assert_int_equal(count_ink(&sheet, 106, 80, 94, 42), 0);
    prx_image_release(&sheet);
    prx_image_release(&a);
    prx_image_release(&b);
}

/* A label too long ends in dots, within its group. */
static void test_cut(void **state)
{
    struct prx_image image = new_image(32, 8, 0), sheet = {0};
    const struct prx_image *images[] = {&image, &image};
    const char *labels[] = {"WWWWW WWWWW WWWWW WWWWW WWWWW", "W"};
    const struct prx_contact contact = {.images = images,
                                        .labels = labels,
                                        .title = "a title",
                                        .n_groups = 2,
                                        .n_group_images = 1,
                                        .n_columns = 1,
                                        .n_label_lines = 2};

    (void)state;
    assert_int_equal(prx_contact_draw(&contact, &sheet), 0);
    assert_int_equal(sheet.width_px, 32 + 24);
    assert_true(count_ink(&sheet, 12, 12, 32, 11) > 20);
    /* Rows of "WW...": dots stand low. */
    int top = 12 + 15 + 8 + 4 + 11;
    assert_true(count_ink(&sheet, 12, top, 12, 5) > 10);
    assert_int_equal(count_ink(&sheet, 24, top, 18, 4), 0);
    assert_true(count_ink(&sheet, 24, top + 4, 18, 4) > 5);
    assert_int_equal(count_ink(&sheet, 44, 0, 12, sheet.height_px), 0);
    prx_image_release(&sheet);
    prx_image_release(&image);
}

static void test_refused(void **state)
{
    struct prx_image image = {.width_px = 60000, .height_px = 60000}, sheet;
    const struct prx_image *images[] = {&image, &image}, *none[] = {NULL};
    struct prx_contact contact = {.images = none, .n_groups = 1, .n_group_images = 1};

    (void)state;
    assert_int_equal(prx_contact_draw(&contact, &sheet), PRX_EINVAL);
    contact.n_groups = 0;
    assert_int_equal(prx_contact_draw(&contact, &sheet), PRX_EINVAL);
    contact = (struct prx_contact){
        .images = images, .n_groups = 2, .n_group_images = 1, .n_columns = 2};
    assert_int_equal(prx_contact_draw(&contact, &sheet), PRX_EINVAL);
    contact.n_columns = 1;
    assert_int_equal(prx_contact_draw(&contact, &sheet), PRX_EINVAL);
    contact.n_groups = SIZE_MAX / 2;
    contact.n_group_images = 4;
    assert_int_equal(prx_contact_draw(&contact, &sheet), PRX_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_glyphs),
        cmocka_unit_test(test_outside),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
