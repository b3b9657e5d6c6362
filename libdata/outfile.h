/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outfile.h - a file that stands under its name whole, or not at all.
 *
 * Written as .NAME.tmp.PID in the same folder; prx_outfile_commit() syncs it,
 * renames it and syncs the folder.  Whatever happens before, the final name is
 * untouched.  A killed process leaves its temporary file behind.
 *
 * A name that is a pipe or a device ("/dev/stderr") is not replaced but written to.
 * A struct prx_outfile is one thread's at a time.
 */
#ifndef PRX_LIBDATA_OUTFILE_H
#define PRX_LIBDATA_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_outfile {
    int fd;     /* -1 when closed */
    char *path; /* final name */
    char *temp_path;
    uint64_t n_bytes;        /* written so far */
    uint64_t n_pushed_bytes; /* private */
};

/**
 * prx_outfile_open - begin @path; missing folders are made.
 *
 * Errors of all below: PRX_EIO (the message names the file), PRX_ENOENT,
 * PRX_EEXIST (a folder's name is taken), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_outfile_open(struct prx_outfile *file, const char *path);
PRX_MUST_USE int prx_outfile_write(struct prx_outfile *file, const void *bytes,
                                   size_t n_bytes);
PRX_MUST_USE int prx_outfile_writev(struct prx_outfile *file, struct iovec *parts,
                                    int n_parts);

/**
 * prx_outfile_push - let the disk begin with what is written so far.
 *
 * Cheap; to be called now and then while a large file is written, so that its
 * commit has little to wait for.
 */
void prx_outfile_push(struct prx_outfile *file);

/** prx_outfile_cut - forget what was written behind the first @n_bytes. */
PRX_MUST_USE int prx_outfile_cut(struct prx_outfile *file, uint64_t n_bytes);

/** prx_outfile_commit - sync (unless @no_sync), rename, close; releases @file. */
PRX_MUST_USE int prx_outfile_commit(struct prx_outfile *file, bool no_sync);

/**
 * prx_outfile_sweep - remove what killed processes have left of @path.
 *
 * Whoever writes a temporary file holds its lock, so none of theirs is taken for one
 * that was left.  No failure: a file that stays is only in the way.
 */
void prx_outfile_sweep(const char *path);

/** prx_outfile_abort - remove the temporary file; fine on {0} and twice. */
void prx_outfile_abort(struct prx_outfile *file);

/**
 * prx_write_all - write every byte to @fd; @name is for messages.
 *
 * prx_writev_all() does so from @parts, which it changes.  Errors: PRX_EPIPE
 * (where SIGPIPE is ignored), PRX_EIO.
 */
PRX_MUST_USE int prx_write_all(int fd, const char *name, const void *bytes,
                               size_t n_bytes);
PRX_MUST_USE int prx_writev_all(int fd, const char *name, struct iovec *parts,
                                int n_parts);

/**
 * prx_fd_sync, prx_fd_cut, prx_fd_close - fsync(2), ftruncate(2), close(2) of @fd.
 *
 * No signal makes them fail.  @name is for messages.  Errors: PRX_EIO.
 */
PRX_MUST_USE int prx_fd_sync(int fd, const char *name);
PRX_MUST_USE int prx_fd_cut(int fd, const char *name, uint64_t n_bytes);
PRX_MUST_USE int prx_fd_close(int fd, const char *name);

/** prx_file_put - the whole of a small file in one call, atomically. */
PRX_MUST_USE int prx_file_put(const char *path, const void *bytes, size_t n_bytes);

struct prx_buf;
/**
 * prx_file_get - all bytes of the file at @path; PRX_EINVAL above @n_bytes_max.
 *
 * A NUL stands behind the last byte, so that text can be read as a string.
 */
PRX_MUST_USE int prx_file_get(const char *path, uint64_t n_bytes_max,
                              struct prx_buf **out);

/**
 * prx_temp_open - a new, empty file that no other process can open, in *@fd.
 *
 * @folder: where; NULL for $TMPDIR, or /tmp.  It has no name, so it goes with its
 *          last descriptor.
 */
PRX_MUST_USE int prx_temp_open(const char *folder, int *fd);

/** prx_mkdirs - make @path and the folders above it. */
PRX_MUST_USE int prx_mkdirs(const char *path);

/** prx_sync_dir - make renames in the folder of @path durable. */
PRX_MUST_USE int prx_sync_dir(const char *path);

#ifdef __cplusplus
}
#endif
#endif
