/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed files, by libarchive's filters alone: its "raw" format is one member. */
#include "libdata/unpack.h"

#include <fcntl.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#define N_READ_BYTES ((size_t)1 << 20)

/* ARCHIVE_OK alone is asked for: a weaker answer means an external program. */
static int add_filters(struct archive *archive, const char *path)
{
    if (archive_read_support_format_raw(archive) != ARCHIVE_OK ||
        archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(archive) != ARCHIVE_OK ||
        archive_read_support_filter_bzip2(archive) != ARCHIVE_OK)
        return prx_err(PRX_EFORMAT, "%s: libarchive lacks gzip, zstd or bzip2", path);
    return 0;
}

static int damaged(struct archive *archive, const char *path)
{
    const char *what = archive_error_string(archive);
    return prx_err(PRX_ECORRUPT, "%s: %s", path, what ? what : "damaged");
}

static int read_all(struct archive *archive, const char *path, uint64_t n_bytes_max,
                    struct prx_str *bytes)
{
    struct archive_entry *member;

    if (archive_read_next_header(archive, &member) != ARCHIVE_OK)
        return damaged(archive, path);
    for (;;) {
        PRX_TRY(prx_str_reserve(bytes, N_READ_BYTES));
        la_ssize_t n_got =
            archive_read_data(archive, bytes->bytes + bytes->n_bytes, N_READ_BYTES);
        if (n_got < 0)
            return damaged(archive, path);
        if (n_got == 0)
            return 0;
        bytes->n_bytes += (size_t)n_got;
        if (bytes->n_bytes > n_bytes_max)
            return prx_err(PRX_ECORRUPT, "%s: holds more than %llu bytes", path,
                           (unsigned long long)n_bytes_max);
    }
}

int prx_unpack_file(const char *path, uint64_t n_bytes_max, struct prx_buf **out)
{
    struct prx_str bytes = {0};
    struct archive *archive = NULL;
    int rc = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return prx_err_sys("%s", path);
    archive = archive_read_new();
    if (!archive) {
        rc = prx_err_nomem("an unpacker");
        goto out;
    }
    PRX_GO(add_filters(archive, path));
    if (archive_read_open_fd(archive, fd, N_READ_BYTES) != ARCHIVE_OK) {
        rc = damaged(archive, path);
        goto out;
    }
    PRX_GO(read_all(archive, path, n_bytes_max, &bytes));
    PRX_GO(prx_str_take(&bytes, out));
out:
    archive_read_free(archive);
    prx_str_release(&bytes);
    close(fd);
    return rc;
}
