/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensorboard.h: what is written, read back by a reader of its own.
 *
 * With a folder as its argument the test writes events there instead, numbers and
 * a picture, for tests/peers/check_tensorboard.py.
 */
#include "train/tensorboard.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdata/buf.h"
#include "libdata/image.h"
#include "libdata/outfile.h"
#include "tests/lib/scratch.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { WIDTH_PX = 40,
       HEIGHT_PX = 24,
       STEP_BIG = 300 };

/* --- an independent reader -------------------------------------------------------- */

struct span {
    const uint8_t *at;
    size_t n_bytes;
};

static uint64_t take_le(struct span *in, int n_bytes)
{
    uint64_t value = 0;

    assert_true(in->n_bytes >= (size_t)n_bytes);
    for (int i = n_bytes - 1; i >= 0; i--)
        value = value << 8 | in->at[i];
    in->at += n_bytes;
    in->n_bytes -= (size_t)n_bytes;
    return value;
}

static uint64_t take_varint(struct span *in)
{
    uint64_t value = 0;

    for (int shift = 0; shift < 64; shift += 7) {
        uint64_t byte = take_le(in, 1);
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    fail_msg("a varint does not end");
    return 0;
}

static struct span take_span(struct span *in, uint64_t n_bytes)
{
    const struct span taken = {in->at, (size_t)n_bytes};

    assert_true(n_bytes <= in->n_bytes);
    in->at += n_bytes;
    in->n_bytes -= (size_t)n_bytes;
    return taken;
}

/* The field that comes next, which must be @field in wire type @wire. */
static void take_key(struct span *in, int field, int wire)
{
    assert_int_equal(take_varint(in), field << 3 | wire);
}

static int64_t take_int(struct span *in, int field)
{
    take_key(in, field, 0);
    return (int64_t)take_varint(in);
}

static double take_double(struct span *in, int field)
{
    take_key(in, field, 1);
    uint64_t bits = take_le(in, 8);
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float take_float(struct span *in, int field)
{
    take_key(in, field, 5);
    uint32_t bits = (uint32_t)take_le(in, 4);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static struct span take_message(struct span *in, int field)
{
    take_key(in, field, 2);
    return take_span(in, take_varint(in));
}

static void take_text(struct span *in, int field, const char *want)
{
    const struct span text = take_message(in, field);

    assert_int_equal(text.n_bytes, strlen(want));
    assert_memory_equal(text.at, want, text.n_bytes);
}

/* CRC-32C a bit at a time, as the definition has it, then masked. */
static uint32_t slow_masked_crc(const uint8_t *bytes, size_t n_bytes)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < 8 * n_bytes; i++) {
        bool is_set = ((crc ^ (uint32_t)(bytes[i / 8] >> (i % 8))) & 1) != 0;
        crc = (crc >> 1) ^ (is_set ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* The next record of @file, with its sums seen to. */
static struct span take_record(struct span *file)
{
    const uint8_t *head = file->at;
    uint64_t n_bytes = take_le(file, 8);

    assert_int_equal(take_le(file, 4), slow_masked_crc(head, 8));
    const struct span record = take_span(file, n_bytes);
    assert_int_equal(take_le(file, 4), slow_masked_crc(record.at, record.n_bytes));
    return record;
}

/* The next event of @file, which must be of @step, up to what it holds. */
static struct span take_event(struct span *file, int64_t step, time_t start_s)
{
    struct span event = take_record(file);
    double wall_time_s = take_double(&event, 1);

    assert_true(wall_time_s >= (double)start_s);
    assert_true(wall_time_s <= (double)time(NULL) + 1);
    assert_int_equal(take_int(&event, 2), step);
    return event;
}

static void take_head(struct span *file, int64_t first_step, time_t start_s)
{
    struct span event = take_event(file, 0, start_s);
    take_text(&event, 3, "brain.Event:2");
    assert_int_equal(event.n_bytes, 0);

    event = take_event(file, first_step, start_s);
    struct span session = take_message(&event, 7);
    assert_int_equal(take_int(&session, 1), 1);
    assert_int_equal(session.n_bytes + event.n_bytes, 0);
}

/* --- what is written ------------------------------------------------------------ */

static const struct prx_scalar scalars[] = {
    {"loss", 1.5},
    {"lr", 1e-4},
    {"grad_norm", NAN},
};

static struct prx_buf *make_png(void)
{
    struct prx_image *image;
    struct prx_buf *png;

    assert_int_equal(prx_image_new(WIDTH_PX, HEIGHT_PX, &image), 0);
    for (int i = 0; i < WIDTH_PX * HEIGHT_PX; i++) {
        image->pixels[3 * i] = (uint8_t)(6 * (i % WIDTH_PX));
        image->pixels[3 * i + 1] = (uint8_t)(10 * (i / WIDTH_PX));
        image->pixels[3 * i + 2] = 128;
    }
    assert_int_equal(prx_image_encode(image, PRX_IMAGE_PNG, 0, &png), 0);
    prx_image_free(image);
    return png;
}

/* Numbers of @last_step + 1 and of a step of two varint bytes, then a picture. */
static void write_run(const char *run_dir, int64_t last_step)
{
    struct prx_tensorboard board;
    struct prx_buf *png = make_png();

    assert_int_equal(prx_tensorboard_open(&board, run_dir, last_step), 0);
    assert_int_equal(
        prx_tensorboard_scalars(&board, last_step + 1, scalars, N_OF(scalars)), 0);
    assert_int_equal(prx_tensorboard_scalars(&board, STEP_BIG, scalars, 1), 0);
    assert_int_equal(prx_tensorboard_image(&board, "samples/a red cup", STEP_BIG,
                                           png->bytes, png->n_bytes, WIDTH_PX,
                                           HEIGHT_PX),
                     0);
    prx_tensorboard_close(&board);
    prx_buf_unref(png);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files in @folder in the order of their names; returns their number. */
static size_t read_files(const char *folder, struct prx_buf *files[], size_t n_max)
{
    char *paths[8];
    size_t n = 0;
    DIR *list = opendir(folder);

    assert_non_null(list);
    for (const struct dirent *at; (at = readdir(list)) != NULL;) {
        struct prx_str path = {0};
        if (at->d_name[0] == '.')
            continue;
        assert_true(n < N_OF(paths) && n < n_max);
        assert_ptr_equal(strstr(at->d_name, "events.out.tfevents."), at->d_name);
        assert_int_equal(prx_str_printf(&path, "%s/%s", folder, at->d_name), 0);
        paths[n++] = path.bytes;
    }
    closedir(list);
    qsort(paths, n, sizeof(paths[0]), compare_names);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(prx_file_get(paths[i], 1 << 20, &files[i]), 0);
        free(paths[i]);
    }
    return n;
}

static int open_fixture(void **state)
{
    static struct prx_scratch scratch;

    prx_scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int close_fixture(void **state)
{
    prx_scratch_close(*state);
    return 0;
}

static void test_crc32c(void **state)
{
    /* RFC 3720, B.4, and the check value of the catalogues. */
    static const uint8_t zeros[32];
    uint8_t ones[32];
    (void)state;

    memset(ones, 0xff, sizeof(ones));
    assert_int_equal(prx_crc32c("123456789", 9), 0xe3069283u);
    assert_int_equal(prx_crc32c(zeros, sizeof(zeros)), 0x8a9136aau);
    assert_int_equal(prx_crc32c(ones, sizeof(ones)), 0x62a8ab43u);
    assert_int_equal(prx_crc32c("", 0), 0);
}

static void test_events(void **state)
{
    const char *run_dir = prx_scratch_path(*state, "run");
    time_t start_s = time(NULL);
    struct prx_buf *bytes;

    write_run(run_dir, 0);
    assert_int_equal(
        read_files(prx_scratch_path(*state, "run/tensorboard"), &bytes, 1), 1);
    struct span file = {bytes->bytes, bytes->n_bytes};
    take_head(&file, 1, start_s);

    struct span event = take_event(&file, 1, start_s);
    struct span summary = take_message(&event, 5);
    assert_int_equal(event.n_bytes, 0);
    for (size_t i = 0; i < N_OF(scalars); i++) {
        struct span value = take_message(&summary, 1);
        take_text(&value, 1, scalars[i].tag);
        float got = take_float(&value, 2), want = (float)scalars[i].value;
        assert_true(isnan(want) ? isnan(got) : got == want);
        assert_int_equal(value.n_bytes, 0);
    }
    assert_int_equal(summary.n_bytes, 0);
    take_event(&file, STEP_BIG, start_s);

    struct prx_buf *png = make_png();
    event = take_event(&file, STEP_BIG, start_s);
    summary = take_message(&event, 5);
    struct span value = take_message(&summary, 1);
    take_text(&value, 1, "samples/a red cup");
    struct span image = take_message(&value, 4);
    assert_int_equal(take_int(&image, 1), HEIGHT_PX);
    assert_int_equal(take_int(&image, 2), WIDTH_PX);
    assert_int_equal(take_int(&image, 3), 3);
    struct span got_png = take_message(&image, 4);
    assert_int_equal(got_png.n_bytes, png->n_bytes);
    assert_memory_equal(got_png.at, png->bytes, png->n_bytes);
    assert_int_equal(image.n_bytes + value.n_bytes, 0);
    assert_int_equal(summary.n_bytes + event.n_bytes, 0);
    assert_int_equal(file.n_bytes, 0);
    prx_buf_unref(png);
    prx_buf_unref(bytes);
}

/* Several starts in one second, and after the clock was turned back: a file each,
 * their names in the order of the starts. */
static void test_order(void **state)
{
    static const int64_t last_steps[] = {0, 7, 3};
    const char *ahead = "run/tensorboard/events.out.tfevents.4000000000.host.1";
    const char *run_dir = prx_scratch_path(*state, "run");
    struct prx_buf *files[4];
    time_t start_s = time(NULL);

    for (size_t i = 0; i < N_OF(last_steps); i++) {
        if (i == 2)
            prx_scratch_puts(*state, ahead, "");
        write_run(run_dir, last_steps[i]);
    }
    assert_int_equal(read_files(prx_scratch_path(*state, "run/tensorboard"), files,
                                N_OF(files)),
                     4);
    assert_int_equal(files[2]->n_bytes, 0);
    for (size_t i = 0; i < N_OF(last_steps); i++) {
        const struct prx_buf *bytes = files[i < 2 ? i : 3];
        struct span file = {bytes->bytes, bytes->n_bytes};
        take_head(&file, last_steps[i] + 1, start_s);
    }
    for (size_t i = 0; i < N_OF(files); i++)
        prx_buf_unref(files[i]);
}

static void test_errors(void **state)
{
    struct prx_tensorboard board;

    /* A file where the folder should be. */
    prx_scratch_puts(*state, "taken/tensorboard", "mine");
    assert_true(prx_tensorboard_open(&board, prx_scratch_path(*state, "taken"), 0) < 0);
    assert_non_null(strstr(prx_err_message(), "taken/tensorboard"));
    /* What failed to open, or was closed, takes everything and writes nothing. */
    assert_int_equal(prx_tensorboard_scalars(&board, 1, scalars, 1), 0);
    assert_int_equal(prx_tensorboard_image(&board, "samples", 1, "png", 3, 1, 1), 0);
    prx_tensorboard_close(&board);

    /* A disk that is full. */
    assert_int_equal(prx_tensorboard_open(&board, prx_scratch_path(*state, "run"), 0),
                     0);
    close(board.fd);
    board.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(board.fd >= 0);
    assert_int_equal(prx_tensorboard_scalars(&board, 1, scalars, 1), PRX_EIO);
    assert_non_null(strstr(prx_err_message(), board.path));
    assert_int_equal(prx_tensorboard_image(&board, "samples", 1, "png", 3, 1, 1),
                     PRX_EIO);
    prx_tensorboard_close(&board);
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c),
        ROW(test_events),
        ROW(test_order),
        ROW(test_errors),
    };

    if (argc > 1) {
        write_run(argv[1], 0);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
