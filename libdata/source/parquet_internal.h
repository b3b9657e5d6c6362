/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parquet_internal.h - Parquet files, row by row, behind a seam that C can cross.
 *
 * parquet_arrow.cc is the other side: Apache Arrow's C++ library.  No exception
 * comes through, and nothing of Arrow's is seen here.  It is a shared object of its
 * own, libprx-parquet.so, loaded with the first list that wants it: Arrow takes more
 * memory to load than all the rest of a program.
 * Format: Apache Parquet, parquet.apache.org/docs/file-format.
 */
#ifndef PRX_PARQUET_INTERNAL_H
#define PRX_PARQUET_INTERNAL_H

#include <jansson.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_parquet;

/**
 * prx_parquet_open - read the footer of the file at @path.
 *
 * Errors: PRX_ECORRUPT (the message has not the path), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_parquet_open(const char *path, struct prx_parquet **out);

/** prx_parquet_columns - the top columns as the members of an object; borrowed. */
const json_t *prx_parquet_columns(const struct prx_parquet *file);

/**
 * prx_parquet_choose - read only what can be used; to be called before next.
 *
 * @image:   the column of pictures, kept by the caller, or NULL: bytes, or a struct
 *           with members "bytes" and "path", or else a text as any other.
 * @dropped: the columns that are not read: bytes, and kinds that JSON has no word
 *           for; added, with commas between.
 */
PRX_MUST_USE int prx_parquet_choose(struct prx_parquet *file, const char *image,
                                    struct prx_str *dropped);

/**
 * prx_parquet_next - the next row: 1, 0 at the end, < 0.
 *
 * @values: a new object, of all columns that are read and not null; the image is
 *          there only where it is a text
 * @image:  the picture's bytes, new, or NULL
 * @i_row:  the number of the row, from 0; also of one that is unusable
 * Errors: PRX_ECORRUPT (the row; or, where the file is damaged, all from here on: then
 *         the end is next), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_parquet_next(struct prx_parquet *file, json_t **values,
                                  struct prx_buf **image, uint64_t *i_row);

void prx_parquet_close(struct prx_parquet *file); /* NULL is fine */

/* The functions above, as the shared object exports them. */
struct prx_parquet_ops {
    int (*open)(const char *path, struct prx_parquet **out);
    const json_t *(*columns)(const struct prx_parquet *file);
    int (*choose)(struct prx_parquet *file, const char *image, struct prx_str *dropped);
    int (*next)(struct prx_parquet *file, json_t **values, struct prx_buf **image,
                uint64_t *i_row);
    void (*close)(struct prx_parquet *file);
};

#define PRX_PARQUET_OPS "prx_parquet_ops"
extern const struct prx_parquet_ops prx_parquet_ops;

/**
 * prx_parquet_load - load what reads Parquet, once.
 *
 * It stands beside the program, or where it is installed.
 * Errors: PRX_EINVAL (it is not there, or does not fit: the message says which).
 */
PRX_MUST_USE int prx_parquet_load(const struct prx_parquet_ops **out);

#ifdef __cplusplus
}
#endif
#endif
