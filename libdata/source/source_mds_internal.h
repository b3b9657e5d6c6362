/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_mds_internal.h - how the columns of MDS shards become fields.
 *
 * Where a shard has the column PRX_MDS_FIELDS, this suite wrote it, and the fields are
 * what they were.  Otherwise a column is
 *
 *     the key        __key__ or key, where it is text
 *     a picture      jpeg, png, pil, or bytes that begin as one: "jpg", "png" or "webp"
 *                    by its bytes where the column has the name of a picture
 *                    ("image", "jpg", …), else "NAME.jpg"
 *     txt            the first of caption, prompt, text and txt that is text
 *     captions.X     in the metadata: caption_X, where it is text
 *     the metadata   json, where its encoding is json
 *     NAME.npy       arrays
 *     NAME           other bytes
 *     a member NAME  of the metadata: all other text, numbers, JSON
 *
 * A shard with a column of another encoding is not read: what it holds would be lost
 * unseen.
 */
#ifndef PRX_SOURCE_MDS_INTERNAL_H
#define PRX_SOURCE_MDS_INTERNAL_H

#include "libdata/mds.h"
#include "libdata/source/source_internal.h"

enum mds_role {
    MDS_REFUSED,
    MDS_KEY,
    MDS_PICTURE, /* or bytes that turn out to be none */
    MDS_PIXELS,
    MDS_TXT,
    MDS_CAPTION,
    MDS_META,
    MDS_ARRAY,
    MDS_TEXT,
    MDS_NUMBER,
    MDS_JSON,
    MDS_RAW, /* a field as it stands, of a shard of this suite */
};

/* The columns that some shards have, and what each is to us. */
struct mds_layout {
    struct prx_mds_columns columns;
    enum mds_role *roles;
    size_t n_sized; /* columns whose values tell their size */
    bool is_exact;  /* written by this suite */
};

/** mds_layout_new - takes @columns. */
PRX_MUST_USE int mds_layout_new(struct prx_mds_columns *columns,
                                struct mds_layout **out);
void mds_layout_free(struct mds_layout *layout);

/** mds_layout_check - PRX_EFORMAT, naming it, where a column is not read. */
PRX_MUST_USE int mds_layout_check(const struct mds_layout *layout);

struct mds_value {
    uint64_t at_bytes;
    uint32_t n_bytes;
};

/* One reading of samples; scratch that is kept from sample to sample. */
struct mds_reader {
    uint64_t n_value_bytes_max;
    const struct prx_mds_file *file;
    const struct mds_layout *layout;
    struct mds_value *values; /* [n_columns] of the sample at hand */
    uint32_t *sizes;          /* [n_sized] */
    size_t cap_values;
};

void mds_reader_release(struct mds_reader *reader);

/** mds_reader_begin - samples of @file come next. */
PRX_MUST_USE int mds_reader_begin(struct mds_reader *reader,
                                  const struct prx_mds_file *file,
                                  const struct mds_layout *layout);

/**
 * mds_reader_get - sample @i_sample, as far as it can be read, into the empty @sample.
 *
 * @key: for a sample that brings none.
 * What is wrong with the sample rejects it.  Errors: PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int mds_reader_get(struct mds_reader *reader, uint32_t i_sample,
                                const char *key, struct prx_sample *sample);

int mds_open(const char *const *paths, size_t n_paths,
             const struct prx_source_opts *opts, struct prx_source **out);

/**
 * mds_input_parse - the index that @path, of an input, is about.
 *
 * It is "I_SHARD N_ROOT INDEX": keys begin behind the first N_ROOT bytes of INDEX.
 */
const char *mds_input_parse(const char *path, size_t *i_shard, size_t *n_root);

#endif
