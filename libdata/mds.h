/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mds.h - MDS, the shards of MosaicML's streaming library, as bytes.
 *
 * Source: github.com/mosaicml/streaming, streaming/base/format.  A data set is a folder
 * of shards and an index.json:
 *
 *     {"version": 2, "shards": [{"format": "mds", "version": 2, "samples": N,
 *       "column_names": […], "column_encodings": […], "column_sizes": [N or null, …],
 *       "raw_data": {"basename": "shard.00000.mds", "bytes": N, "hashes": {"xxh128":
 * …}}, "zip_data": null or as raw_data, "compression": null or "zstd:7", "hashes":
 * ["xxh128"], "size_limit": N or null}, …]}
 *
 * A basename may lead into folders below the index's, where indexes were merged.
 * Where a shard is compressed, the file of zip_data holds that of raw_data, which then
 * need not be there.  A shard, little-endian:
 *
 *     u32 n_samples | u32 offsets[n_samples + 1] | JSON | samples
 *
 * Offsets count from the file's first byte; sample i is the bytes from offsets[i] to
 * offsets[i + 1].  The JSON says again what the index says of the shard's columns.
 * A sample is a u32 for each column whose size is null, the size of its value, then
 * the values, both in the order of the columns, which writers sort by name.
 *
 * How a value is stored is its column's encoding:
 *
 *     bytes str json jpeg png   the bytes of it, text as UTF-8
 *     int                       int64; also [u]int8 … [u]int64, float16 … float64
 *     str_int str_float str_decimal   digits
 *     ndarray[:TYPE[:DIMS]]     u8 type | u8 n_dims << 2 | w | dims, each in 1 << w
 *                               bytes | values in C order; without the first byte where
 *                               the encoding names a type, without the dims where it
 *                               names those ("ndarray:float16:4,8,8")
 *     pil                       u32 width, height, n_mode | mode | rows of pixels
 *     pkl                       a Python pickle: a program, and never run here
 *     bf16                      u32 n_dims | i32 dims | bfloat16 values; an addition of
 *                               Photoroom's PRX (github.com/Photoroom/PRX)
 *
 * The types of arrays have numbers: 8 times the width in bytes of an unsigned integer,
 * 1 more if it is signed, 2 more if it is floating.
 *
 * What comes from a file is checked before it is believed: no size is allocated that
 * the file has not.  Reentrant.
 */
#ifndef PRX_LIBDATA_MDS_H
#define PRX_LIBDATA_MDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"
#include "libdata/hash.h"
#include "libdata/npy.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Columns by which a shard keeps a sample of this suite exactly; see prx-dataset(5).
 * PRX_MDS_FIELDS has the names of its fields, a newline between two.
 */
#define PRX_MDS_KEY     "__key__"
#define PRX_MDS_FIELDS  "__fields__"
#define PRX_MDS_PICTURE "image"
#define PRX_MDS_CAPTION "caption"

#define PRX_MDS_SHARD_BYTES_MAX ((uint64_t)UINT32_MAX)
#define PRX_MDS_COLUMNS_MAX     4096

struct prx_mds_column {
    char *name;       /* owned */
    char *encoding;   /* owned */
    uint32_t n_bytes; /* of each value; 0: the sample tells */
};

/* {0} has none. */
struct prx_mds_columns {
    struct prx_mds_column *columns;
    size_t n_columns;
};

void prx_mds_columns_release(struct prx_mds_columns *all);
bool prx_mds_columns_equal(const struct prx_mds_columns *a,
                           const struct prx_mds_columns *b);

/** prx_mds_columns_find - the column @name, or NULL. */
const struct prx_mds_column *prx_mds_columns_find(const struct prx_mds_columns *all,
                                                  const char *name);

/**
 * prx_mds_columns_parse - the columns that an object of the index, or the JSON of a
 * shard, has, into the empty @out.
 *
 * Errors: PRX_EFORMAT (not "mds", or another version), PRX_ECORRUPT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_columns_parse(json_t *object, struct prx_mds_columns *out);

/* What the index says of one shard. */
struct prx_mds_shard {
    char *raw_name;    /* below the index's folder; owned, as the next two are */
    char *zip_name;    /* of the compressed file, or NULL */
    char *compression; /* "zstd:7", or NULL */
    uint64_t n_samples;
    uint64_t n_raw_bytes, n_zip_bytes;
    char raw_xxh128[PRX_HASH_HEX_BYTES]; /* "" where the index has none */
    char zip_xxh128[PRX_HASH_HEX_BYTES];
};

void prx_mds_shard_release(struct prx_mds_shard *shard);

/**
 * prx_mds_shard_parse - an object of the list "shards", into the empty @out.
 *
 * Errors: PRX_ECORRUPT, PRX_EINVAL (a name that leads out of the folder), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_shard_parse(json_t *object, struct prx_mds_shard *out);

/** prx_mds_index_is - does the file at @path begin as the index of MDS shards does? */
bool prx_mds_index_is(const char *path);

/**
 * prx_mds_index_read - the index at @path, as JSON, and the list of shards in it.
 *
 * *@shards is borrowed from *@root, which the caller gives back by json_decref().
 * Errors: PRX_ECORRUPT, PRX_EFORMAT, PRX_EIO, PRX_ENOENT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_index_read(const char *path, json_t **root, json_t **shards);

/* A shard's file, open; or the bytes that were in a compressed one. */
struct prx_mds_file {
    const char *path; /* borrowed, for messages */
    int fd;           /* -1: bytes has all */
    struct prx_buf *bytes;
    uint64_t n_bytes;
    uint32_t n_samples;
    uint32_t *offsets; /* [n_samples + 1], as they stand; owned */
    json_t *config;    /* the JSON behind them; owned */
};

/**
 * prx_mds_file_open - open the shard at @path and read what is ahead of the samples.
 *
 * @compression: as the index has it, or NULL for a raw shard.
 * @n_bytes_max: of the shard, unpacked.
 * offsets[0] is behind the JSON and within the file; of the others nothing is known.
 * Errors: PRX_ECORRUPT, PRX_EFORMAT (a compression that is not read), PRX_EIO,
 *         PRX_ENOENT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_file_open(struct prx_mds_file *file, const char *path,
                                   const char *compression, uint64_t n_bytes_max);
void prx_mds_file_close(struct prx_mds_file *file); /* {0} is fine */

/** prx_mds_file_read - the @n_bytes at @at_bytes; PRX_ECORRUPT where they are not. */
PRX_MUST_USE int prx_mds_file_read(const struct prx_mds_file *file, uint64_t at_bytes,
                                   size_t n_bytes, void *out);

/**
 * prx_mds_picture_field - which of a sample's fields is its picture, or NULL.
 *
 * The first of jpg jpeg png webp among @names: its column is PRX_MDS_PICTURE, where
 * readers look for one, whatever the format.
 */
const char *prx_mds_picture_field(const char *const *names, size_t n_names);

/** prx_mds_column_name - the column of @field; @picture: the sample's, or NULL. */
const char *prx_mds_column_name(const char *field, const char *picture);

/** prx_mds_encoding_is - is @encoding the one called @name, with or without options? */
bool prx_mds_encoding_is(const char *encoding, const char *name);

/**
 * prx_mds_array_get - a value of "ndarray" or "bf16" as a new .npy file.
 *
 * bfloat16 becomes float32, exactly.
 * Errors: PRX_ECORRUPT, PRX_EFORMAT (a type that npy.h has not), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_array_get(const char *encoding, const uint8_t *bytes,
                                   size_t n_bytes, struct prx_buf **out);

/** prx_mds_array_encoding - the "ndarray:TYPE" of arrays of @type; static. */
const char *prx_mds_array_encoding(enum prx_npy_type type);

/**
 * prx_mds_array_put - append @npy to @out as a value of prx_mds_array_encoding().
 *
 * It must have 1 to 8 dimensions.
 */
PRX_MUST_USE int prx_mds_array_put(const struct prx_npy *npy, struct prx_str *out);

/**
 * prx_mds_scalar_get - a number, as JSON; NULL where @encoding is of no number.
 *
 * What JSON has no number for is a string ("nan", digits beyond 64 bits), and
 * str_decimal always is.
 * Errors: PRX_ECORRUPT, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_scalar_get(const char *encoding, const uint8_t *bytes,
                                    size_t n_bytes, json_t **out);

/**
 * prx_mds_picture_get - a value of "pil" as a new PNG.
 *
 * Errors: PRX_EFORMAT (a mode other than L and RGB), PRX_ECORRUPT, PRX_EINVAL (too
 *         large), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_mds_picture_get(const uint8_t *bytes, size_t n_bytes,
                                     struct prx_buf **out);

#ifdef __cplusplus
}
#endif
#endif
