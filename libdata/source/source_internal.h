/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_internal.h - what a kind of source provides.
 *
 * A new kind is one file and one row in source.c.
 */
#ifndef PRX_SOURCE_INTERNAL_H
#define PRX_SOURCE_INTERNAL_H

#include "libdata/source.h"

#define PRX_MEMBER_BYTES_MAX ((uint64_t)1 << 30)

struct prx_source_ops {
    /* As prx_source_next(), but @sample is reset and serial set by the caller. */
    int (*next)(struct prx_source *source, struct prx_sample *sample);
    int (*plan)(const struct prx_source *source, struct prx_str *plan);
    void (*cancel)(struct prx_source *source); /* any thread; may be NULL */
    void (*close)(struct prx_source *source);
    /* As prx_source_has(); @path is resolved, @is_folder what it is. */
    bool (*has)(const struct prx_source *source, const char *path, bool is_folder);
};

/* The first member of every kind's own struct. */
struct prx_source {
    const struct prx_source_ops *ops;
    uint64_t n_total; /* expected samples, 0 = unknown */
    uint64_t n_given; /* samples given out so far */
};

int prx_source_dir_open(const char *path, const struct prx_source_opts *opts,
                        struct prx_source **out);

/* @paths: shard files in order ("-" for standard input); copied. */
int prx_source_tar_open(const char *const *paths, size_t n_paths,
                        const struct prx_source_opts *opts, struct prx_source **out);

/** prx_path_is_below - true if resolved @path is the folder @root or below it. */
bool prx_path_is_below(const char *path, const char *root);

/**
 * prx_sample_add_file - file @path, named @name in its source, joins @sample.
 *
 * The field is the part of @name behind its first @n_key + 1 bytes, lower-cased.
 * Its bytes are @bytes (the reference is taken) or, where that is NULL,
 * @n_bytes at @offset_bytes of @path.  A second file for one field, or a name no
 * output may carry, rejects the sample.
 */
PRX_MUST_USE int prx_sample_add_file(struct prx_sample *sample, const char *name,
                                     size_t n_key, struct prx_buf *bytes,
                                     const char *path, uint64_t offset_bytes,
                                     uint64_t n_bytes);

/**
 * prx_sample_begin - give the empty @sample the key at the start of @name.
 *
 * A key no output may carry is escaped, and rejects the sample.
 */
PRX_MUST_USE int prx_sample_begin(struct prx_sample *sample, const char *name,
                                  size_t n_key, const char *origin);

#endif
