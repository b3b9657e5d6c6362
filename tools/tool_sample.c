/* SPDX-License-Identifier: Apache-2.0 */
/* What listing tools ask of a sample: its picture's size, its names as JSON. */
#include <fcntl.h>
#include <unistd.h>

#include "libdata/image.h"
#include "tools/tool.h"

/* Nearly every header ends before this; where not, the whole picture is read. */
#define HEAD_BYTES (64 << 10)

int tool_field_head(const struct prx_field *field, size_t n_bytes_max,
                    struct prx_buf **out)
{
    size_t n_wanted = n_bytes_max;
    int fd = -1, rc;

    if (field->n_bytes < n_bytes_max)
        n_wanted = (size_t)field->n_bytes;
    *out = NULL;
    if (field->bytes)
        return prx_buf_dup(field->bytes->bytes, n_wanted, out);
    PRX_GO(prx_buf_new(n_wanted, out));
    fd = open(field->path, O_RDONLY | O_CLOEXEC);
    ssize_t n_read = pread(fd, (*out)->bytes, n_wanted, (off_t)field->offset_bytes);
    if (n_read < 0)
        PRX_GO(prx_err_sys("%s", field->path));
    (*out)->n_bytes = (size_t)n_read;
out:
    if (rc < 0) {
        prx_buf_unref(*out);
        *out = NULL;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static int probe(struct prx_sample *sample, struct prx_image_info *info)
{
    const struct prx_field *field = prx_sample_find_image(sample);
    struct prx_buf *head;

    if (!field->bytes) {
        PRX_TRY(tool_field_head(field, HEAD_BYTES, &head));
        int rc = prx_image_probe(head->bytes, head->n_bytes, NULL, info);
        prx_buf_unref(head);
        if (rc == 0 || field->n_bytes <= HEAD_BYTES)
            return rc;
        PRX_TRY(prx_sample_load(sample));
    }
    return prx_image_probe(field->bytes->bytes, field->bytes->n_bytes, NULL, info);
}

int tool_picture_size(struct prx_sample *sample, struct tool_size *size)
{
    struct prx_image_info info;

    *size = (struct tool_size){0};
    if (!prx_sample_find_image(sample))
        return 0;
    int rc = probe(sample, &info);
    if (rc == PRX_ENOMEM)
        return rc;
    if (rc < 0) {
        prx_sample_reject(sample, "header", "%s", prx_err_message());
        return 0;
    }
    bool is_turned = info.exif_orientation >= 5;
    size->width_px = is_turned ? info.height_px : info.width_px;
    size->height_px = is_turned ? info.width_px : info.height_px;
    return 0;
}

json_t *tool_json_text(const char *text)
{
    return prx_json_text(text);
}
