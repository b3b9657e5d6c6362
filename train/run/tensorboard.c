/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TensorBoard's event files, written by hand: protobuf in TFRecord.
 *
 *     record: u64 n_bytes, u32 masked CRC of those 8 bytes,
 *             n_bytes of an Event, u32 masked CRC of these; all little-endian
 *
 *     Event:   1 wall_time double, 2 step int64, and one of
 *              3 file_version string, 5 summary Summary, 7 session_log SessionLog
 *     Summary: 1 value Value, repeated
 *     Value:   1 tag string, and one of 2 simple_value float, 4 image Image
 *     Image:   1 height, 2 width, 3 colorspace int32, 4 encoded_image_string bytes
 *     SessionLog: 1 status enum
 *
 * The numbers are those of tensorflow's event.proto and summary.proto.
 */
#include "train/tensorboard.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libdata/buf.h"
#include "libdata/outfile.h"

#define NAME_PREFIX     "events.out.tfevents."
#define HOST_BYTES      256
#define COLORSPACE_RGB  3
#define SESSION_START   1
#define CRC_MASK_OFFSET 0xa282ead8u

enum event_field { EVENT_VERSION = 3,
                   EVENT_SUMMARY = 5,
                   EVENT_SESSION = 7 };

/* --- checksums -------------------------------------------------------------------- */

/* By half bytes: entry i is what i leaves in a register that is shifted four times
 * under the reflected polynomial 0x82f63b78. */
uint32_t prx_crc32c(const void *bytes, size_t n_bytes)
{
    static const uint32_t table[16] = {
        0x00000000,
        0x105ec76f,
        0x20bd8ede,
        0x30e349b1,
        0x417b1dbc,
        0x5125dad3,
        0x61c69362,
        0x7198540d,
        0x82f63b78,
        0x92a8fc17,
        0xa24bb5a6,
        0xb21572c9,
        0xc38d26c4,
        0xd3d3e1ab,
        0xe330a81a,
        0xf36e6f75,
    };
    const uint8_t *at = bytes;
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= at[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

/* A sum over bytes that hold their own sum is weak, so TFRecord turns it and adds. */
static uint32_t masked_crc(const void *bytes, size_t n_bytes)
{
    uint32_t crc = prx_crc32c(bytes, n_bytes);

    return ((crc >> 15) | (crc << 17)) + CRC_MASK_OFFSET;
}

/* --- protobuf --------------------------------------------------------------------- */

enum wire { WIRE_VARINT = 0,
            WIRE_8_BYTES = 1,
            WIRE_BYTES = 2,
            WIRE_4_BYTES = 5 };

static int put_le(struct prx_str *out, uint64_t value, int n_bytes)
{
    uint8_t bytes[8];

    for (int i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    return prx_str_add(out, bytes, (size_t)n_bytes);
}

/* Seven bits a byte, the lowest first; the high bit says that more follow. */
static int put_varint(struct prx_str *out, uint64_t value)
{
    uint8_t bytes[10];
    size_t n_bytes = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n_bytes++] = (uint8_t)(value | 0x80);
    bytes[n_bytes++] = (uint8_t)value;
    return prx_str_add(out, bytes, n_bytes);
}

static int put_key(struct prx_str *out, int field, enum wire wire)
{
    return put_varint(out, (uint64_t)field << 3 | wire);
}

static int put_int(struct prx_str *out, int field, int64_t value)
{
    PRX_TRY(put_key(out, field, WIRE_VARINT));
    return put_varint(out, (uint64_t)value);
}

static int put_double(struct prx_str *out, int field, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    PRX_TRY(put_key(out, field, WIRE_8_BYTES));
    return put_le(out, bits, 8);
}

static int put_float(struct prx_str *out, int field, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    PRX_TRY(put_key(out, field, WIRE_4_BYTES));
    return put_le(out, bits, 4);
}

static int put_bytes(struct prx_str *out, int field, const void *bytes, size_t n_bytes)
{
    PRX_TRY(put_key(out, field, WIRE_BYTES));
    PRX_TRY(put_varint(out, n_bytes));
    return prx_str_add(out, bytes, n_bytes);
}

static int put_message(struct prx_str *out, int field, const struct prx_str *message)
{
    return put_bytes(out, field, message->bytes, message->n_bytes);
}

/* --- events ----------------------------------------------------------------------- */

static double wall_time_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Write the event of @step whose @field holds @content, as one record. */
static int put_event(struct prx_tensorboard *board, int64_t step,
                     enum event_field field, const struct prx_str *content)
{
    struct prx_str event = {0}, record = {0};
    int rc = 0;

    PRX_GO(put_double(&event, 1, wall_time_s()));
    PRX_GO(put_int(&event, 2, step));
    PRX_GO(put_message(&event, field, content));
    PRX_GO(put_le(&record, event.n_bytes, 8));
    PRX_GO(put_le(&record, masked_crc(record.bytes, 8), 4));
    PRX_GO(prx_str_add(&record, event.bytes, event.n_bytes));
    PRX_GO(put_le(&record, masked_crc(event.bytes, event.n_bytes), 4));
    rc = prx_write_all(board->fd, board->path, record.bytes, record.n_bytes);
out:
    prx_str_release(&event);
    prx_str_release(&record);
    return rc;
}

int prx_tensorboard_scalars(struct prx_tensorboard *board, int64_t step,
                            const struct prx_scalar *scalars, size_t n_scalars)
{
    struct prx_str value = {0}, summary = {0};
    int rc = 0;

    if (board->fd < 0)
        return 0;
    for (size_t i = 0; i < n_scalars; i++) {
        prx_str_reset(&value);
        PRX_GO(put_bytes(&value, 1, scalars[i].tag, strlen(scalars[i].tag)));
        PRX_GO(put_float(&value, 2, (float)scalars[i].value));
        PRX_GO(put_message(&summary, 1, &value));
    }
    rc = put_event(board, step, EVENT_SUMMARY, &summary);
out:
    prx_str_release(&value);
    prx_str_release(&summary);
    return rc;
}

int prx_tensorboard_image(struct prx_tensorboard *board, const char *tag, int64_t step,
                          const void *png, size_t n_bytes, int width_px, int height_px)
{
    struct prx_str image = {0}, value = {0}, summary = {0};
    int rc = 0;

    if (board->fd < 0)
        return 0;
    PRX_GO(put_int(&image, 1, height_px));
    PRX_GO(put_int(&image, 2, width_px));
    PRX_GO(put_int(&image, 3, COLORSPACE_RGB));
    PRX_GO(put_bytes(&image, 4, png, n_bytes));
    PRX_GO(put_bytes(&value, 1, tag, strlen(tag)));
    PRX_GO(put_message(&value, 4, &image));
    PRX_GO(put_message(&summary, 1, &value));
    rc = put_event(board, step, EVENT_SUMMARY, &summary);
out:
    prx_str_release(&image);
    prx_str_release(&value);
    prx_str_release(&summary);
    return rc;
}

/* --- files ------------------------------------------------------------------------ */

/* The newest time in the name of an event file of @folder; 0: there is none. */
static int newest_time_s(const char *folder, int64_t *out)
{
    const size_t n_prefix = strlen(NAME_PREFIX);
    DIR *list = opendir(folder);

    *out = 0;
    if (!list)
        return prx_err_sys("%s", folder);
    for (const struct dirent *at; (at = readdir(list)) != NULL;) {
        if (strncmp(at->d_name, NAME_PREFIX, n_prefix) != 0)
            continue;
        int64_t time_s = strtoll(at->d_name + n_prefix, NULL, 10);
        if (time_s > *out)
            *out = time_s;
    }
    closedir(list);
    return 0;
}

/* TensorBoard reads files by the order of their names, and a start drops only what
 * it has read: so a name is never before that of an earlier start, though the clock
 * be turned back or two starts fall into one second. */
static int format_path(const char *run_dir, struct prx_str *path)
{
    char host[HOST_BYTES] = "";
    int64_t newest_s, time_s = (int64_t)time(NULL);

    PRX_TRY(prx_str_printf(path, "%s/tensorboard", run_dir));
    PRX_TRY(prx_mkdirs(path->bytes));
    PRX_TRY(newest_time_s(path->bytes, &newest_s));
    if (time_s <= newest_s)
        time_s = newest_s + 1;
    if (gethostname(host, sizeof(host) - 1) != 0 || !host[0])
        snprintf(host, sizeof(host), "localhost");
    return prx_str_printf(path, "/" NAME_PREFIX "%010lld.%s.%ld", (long long)time_s,
                          host, (long)getpid());
}

static int put_head(struct prx_tensorboard *board, int64_t last_step)
{
    struct prx_str content = {0};
    int rc = 0;

    PRX_GO(prx_str_puts(&content, "brain.Event:2"));
    PRX_GO(put_event(board, 0, EVENT_VERSION, &content));
    prx_str_reset(&content);
    PRX_GO(put_int(&content, 1, SESSION_START));
    rc = put_event(board, last_step + 1, EVENT_SESSION, &content);
out:
    prx_str_release(&content);
    return rc;
}

int prx_tensorboard_open(struct prx_tensorboard *board, const char *run_dir,
                         int64_t last_step)
{
    struct prx_str path = {0};
    int rc = 0;

    *board = (struct prx_tensorboard){.fd = -1};
    PRX_GO(format_path(run_dir, &path));
    PRX_GO(prx_strdup(path.bytes, &board->path));
    board->fd =
        open(path.bytes, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (board->fd < 0) {
        rc = prx_err_sys("%s", path.bytes);
        goto out;
    }
    rc = put_head(board, last_step);
out:
    prx_str_release(&path);
    if (rc < 0)
        prx_tensorboard_close(board);
    return rc;
}

void prx_tensorboard_close(struct prx_tensorboard *board)
{
    if (board->fd >= 0)
        close(board->fd);
    free(board->path);
    *board = (struct prx_tensorboard){.fd = -1};
}
