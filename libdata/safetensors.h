/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.h - the checkpoint format: u64 header length, JSON header, raw data.
 *
 * Source: the format notes of huggingface/safetensors.  Reading maps the file
 * and believes nothing: header length, dtype, shape product, offsets, overlaps,
 * holes and the file's size are checked before any allocation that depends on
 * them (PRX_ECORRUPT).  Writing goes through an outfile, tensors in the order
 * given, header padded to 8 bytes.
 */
#ifndef PRX_LIBDATA_SAFETENSORS_H
#define PRX_LIBDATA_SAFETENSORS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_ST_DIMS_MAX 8

enum prx_st_type {
    PRX_ST_F64,
    PRX_ST_F32,
    PRX_ST_F16,
    PRX_ST_BF16,
    PRX_ST_I64,
    PRX_ST_I32,
    PRX_ST_I16,
    PRX_ST_I8,
    PRX_ST_U64,
    PRX_ST_U32,
    PRX_ST_U16,
    PRX_ST_U8,
    PRX_ST_BOOL,
};

size_t prx_st_type_bytes(enum prx_st_type type);
const char *prx_st_type_name(enum prx_st_type type);

struct prx_st_tensor {
    const char *name; /* owned by the file when reading, borrowed when writing */
    enum prx_st_type type;
    int n_dims;
    int64_t dims[PRX_ST_DIMS_MAX];
    size_t n_bytes;
    const void *bytes; /* into the map when reading; maybe unaligned */
};

struct prx_st_file {
    struct prx_st_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    json_t *metadata; /* object of strings, or NULL; owned */
    /* Private. */
    json_t *header; /* holds the names */
    void *map;
    size_t n_map_bytes;
};

/** prx_st_open - map and check @path. */
PRX_MUST_USE int prx_st_open(const char *path, struct prx_st_file *out);

/** prx_st_parse - the same over bytes in memory, which must outlive @out. */
PRX_MUST_USE int prx_st_parse(const void *bytes, size_t n_bytes,
                              struct prx_st_file *out);

void prx_st_close(struct prx_st_file *file);

/** prx_st_find - the tensor @name, or NULL. */
const struct prx_st_tensor *prx_st_find(const struct prx_st_file *file,
                                        const char *name);

/**
 * prx_st_get_f32 - all elements of @tensor, converted into @out.
 *
 * F32, F64, F16 and BF16.  Errors: PRX_EFORMAT (another type).
 */
PRX_MUST_USE int prx_st_get_f32(const struct prx_st_tensor *tensor, float *out);

/** prx_st_write - write @tensors to @path, atomically; @metadata may be NULL. */
PRX_MUST_USE int prx_st_write(const char *path, const struct prx_st_tensor *tensors,
                              size_t n_tensors, json_t *metadata);

/* Copy the n_bytes of tensor @i, wherever they are, to @out. */
typedef int (*prx_st_read_fn)(void *ctx, size_t i, void *out);

/**
 * prx_st_write_from - the same of tensors whose bytes are elsewhere: @read brings
 * one at a time, so that memory holds just the largest.
 */
PRX_MUST_USE int prx_st_write_from(const char *path,
                                   const struct prx_st_tensor *tensors,
                                   size_t n_tensors, json_t *metadata,
                                   prx_st_read_fn read, void *ctx);

#ifdef __cplusplus
}
#endif
#endif
