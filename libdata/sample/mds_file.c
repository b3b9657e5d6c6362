/* SPDX-License-Identifier: Apache-2.0 */
/* The file of an MDS shard: what is ahead of its samples, and any bytes of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdata/mds.h"
#include "libdata/unpack.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
# error "numbers of shards are stored little-endian and used in place"
#endif

#define N_CONFIG_BYTES_MAX ((size_t)16 << 20)

static bool is_unpacked(const char *compression)
{
    static const char *const names[] = {"zstd", "gz", "bz2"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (prx_mds_encoding_is(compression, names[i]))
            return true;
    return false;
}

static int open_raw(struct prx_mds_file *file, uint64_t n_bytes_max)
{
    struct stat st;

    file->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &st) < 0)
        return prx_err_sys("%s", file->path);
    if (!S_ISREG(st.st_mode))
        return prx_err(PRX_ECORRUPT, "%s: not a file", file->path);
    file->n_bytes = (uint64_t)st.st_size;
    if (file->n_bytes > n_bytes_max)
        return prx_err(PRX_ECORRUPT, "%s: of %llu bytes, not of %llu", file->path,
                       (unsigned long long)file->n_bytes,
                       (unsigned long long)n_bytes_max);
    return 0;
}

static int open_zip(struct prx_mds_file *file, const char *compression,
                    uint64_t n_bytes_max)
{
    if (!is_unpacked(compression))
        return prx_err(PRX_EFORMAT, "%s: compression %s is not read, but zstd, gz, bz2",
                       file->path, *compression ? compression : "unknown");
    PRX_TRY(prx_unpack_file(file->path, n_bytes_max, &file->bytes));
    file->n_bytes = file->bytes->n_bytes;
    return 0;
}

int prx_mds_file_read(const struct prx_mds_file *file, uint64_t at_bytes,
                      size_t n_bytes, void *out)
{
    size_t n_done = 0;

    if (at_bytes > file->n_bytes || n_bytes > file->n_bytes - at_bytes)
        return prx_err(PRX_ECORRUPT,
                       "%s: %zu bytes at %llu, but the shard ends at %llu", file->path,
                       n_bytes, (unsigned long long)at_bytes,
                       (unsigned long long)file->n_bytes);
    if (file->fd < 0) {
        if (n_bytes > 0)
            memcpy(out, file->bytes->bytes + at_bytes, n_bytes);
        return 0;
    }
    while (n_done < n_bytes) {
        ssize_t n_got = pread(file->fd, (char *)out + n_done, n_bytes - n_done,
                              (off_t)(at_bytes + n_done));
        if (n_got < 0 && errno == EINTR)
            continue;
        if (n_got < 0)
            return prx_err_sys("%s", file->path);
        if (n_got == 0)
            return prx_err(PRX_ECORRUPT, "%s: shrinks while it is read", file->path);
        n_done += (size_t)n_got;
    }
    return 0;
}

/* Offsets and JSON; every size is held against the file before it is allocated. */
static int read_head(struct prx_mds_file *file)
{
    uint32_t n_samples;
    json_error_t fault;

    PRX_TRY(prx_mds_file_read(file, 0, 4, &n_samples));
    uint64_t n_offset_bytes = ((uint64_t)n_samples + 1) * 4;
    if (n_offset_bytes > file->n_bytes - 4)
        return prx_err(PRX_ECORRUPT, "%s: %u samples in a shard of %llu bytes",
                       file->path, n_samples, (unsigned long long)file->n_bytes);
    file->offsets = malloc((size_t)n_offset_bytes);
    if (!file->offsets)
        return prx_err_nomem("the offsets of a shard");
    PRX_TRY(prx_mds_file_read(file, 4, (size_t)n_offset_bytes, file->offsets));
    file->n_samples = n_samples;

    uint64_t begin_bytes = 4 + n_offset_bytes, end_bytes = file->offsets[0];
    if (end_bytes < begin_bytes || end_bytes > file->n_bytes)
        return prx_err(PRX_ECORRUPT,
                       "%s: the first sample begins at %llu of %llu bytes", file->path,
                       (unsigned long long)end_bytes,
                       (unsigned long long)file->n_bytes);
    size_t n_config_bytes = (size_t)(end_bytes - begin_bytes);
    if (n_config_bytes > N_CONFIG_BYTES_MAX)
        return prx_err(PRX_ECORRUPT, "%s: head of %zu bytes", file->path,
                       n_config_bytes);
    char *text = malloc(n_config_bytes + 1);
    if (!text)
        return prx_err_nomem("the head of a shard");
    int rc = prx_mds_file_read(file, begin_bytes, n_config_bytes, text);
    if (rc == 0) {
        file->config = json_loadb(text, n_config_bytes, 0, &fault);
        if (!file->config)
            rc = prx_err(PRX_ECORRUPT, "%s: head: %s", file->path, fault.text);
    }
    free(text);
    return rc;
}

int prx_mds_file_open(struct prx_mds_file *file, const char *path,
                      const char *compression, uint64_t n_bytes_max)
{
    *file = (struct prx_mds_file){.path = path, .fd = -1};
    int rc = compression ? open_zip(file, compression, n_bytes_max)
                         : open_raw(file, n_bytes_max);

    if (rc == 0)
        rc = read_head(file);
    if (rc < 0)
        prx_mds_file_close(file);
    return rc;
}

void prx_mds_file_close(struct prx_mds_file *file)
{
    if (file->fd > 0)
        close(file->fd);
    prx_buf_unref(file->bytes);
    free(file->offsets);
    json_decref(file->config);
    *file = (struct prx_mds_file){.fd = -1};
}
