/* SPDX-License-Identifier: Apache-2.0 */
/* A picture's size, from the first bytes of its field. */
#include "libdata/picture.h"

#include <fcntl.h>
#include <unistd.h>

#include "libdata/image.h"

/* Nearly every header ends before this; where not, the whole picture is read. */
#define HEAD_BYTES (64 << 10)

int prx_field_head(const struct prx_field *field, size_t n_bytes_max,
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
        PRX_TRY(prx_field_head(field, HEAD_BYTES, &head));
        int rc = prx_image_probe(head->bytes, head->n_bytes, NULL, info);
        prx_buf_unref(head);
        if (rc == 0 || field->n_bytes <= HEAD_BYTES)
            return rc;
        PRX_TRY(prx_sample_load(sample));
    }
    return prx_image_probe(field->bytes->bytes, field->bytes->n_bytes, NULL, info);
}

int prx_picture_size(struct prx_sample *sample, struct prx_picture_size *out)
{
    struct prx_image_info info;

    *out = (struct prx_picture_size){0};
    if (!prx_sample_find_image(sample))
        return 0;
    PRX_TRY(probe(sample, &info));
    bool is_turned = info.exif_orientation >= 5;
    out->width_px = is_turned ? info.height_px : info.width_px;
    out->height_px = is_turned ? info.width_px : info.height_px;
    return 0;
}
