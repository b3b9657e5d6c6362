/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader_internal.h - the parts of the loader.
 *
 * loader_catalog.c keeps what samples there are, loader_index.c finds them,
 * loader_spool.c puts streams to rest, loader_stream.c draws from one set,
 * loader_order.c mixes sets and deals batches, loader_caption.c chooses captions,
 * loader_part.c reads parts, loader_image.c makes pixels, loader_batch.c fills a
 * batch, loader.c owns the threads.
 */
#ifndef PRX_LOADER_INTERNAL_H
#define PRX_LOADER_INTERNAL_H

#include "libdata/loader.h"
#include "libdata/npy.h"
#include "libdata/rng.h"

/* --- what a sample consists of -------------------------------------------------- */

#define LOADER_PARTS_MAX (2 + PRX_LOADER_CAPTIONS_MAX + PRX_LOADER_FEATURES_MAX)

/* The parts that are read, by number; a kind that is not has none. */
struct loader_layout {
    size_t n_parts;
    bool has_latent, has_image;
    size_t i_latent, i_image;
    size_t i_captions, n_captions; /* the first, and how many */
    size_t i_features, n_features;
};

struct loader_layout prx_loader_layout(const struct prx_loader_opts *opts);

/* The field of part @i: "latent.npy", "long.text.npy"; "" for the picture. */
#define LOADER_PART_NAME_BYTES 256
void prx_loader_part_name(const struct prx_loader_opts *opts, size_t i_part,
                          char out[LOADER_PART_NAME_BYTES]);

/* Where a part's bytes lie; i_path LOADER_ABSENT: the sample has no such part. */
struct loader_place {
    uint64_t offset_bytes;
    uint32_t n_bytes;
    uint32_t i_path;
};

#define LOADER_ABSENT UINT32_MAX

/* What samples of one batch have in common; 0 for parts that are not read. */
struct loader_shape {
    int64_t channels, height, width; /* of the latent */
    int64_t image_height, image_width;
    int64_t feature_dims[PRX_LOADER_FEATURES_MAX][2]; /* tokens, width */
};

/* Samples that lie together: of one file, at most a few thousand. */
struct loader_shard {
    uint64_t n_bytes; /* of their parts */
    uint32_t first_sample;
    uint32_t n_samples;
};

struct loader_set {
    uint32_t first_shard, n_shards;
    uint32_t first_sample, n_samples;
    double weight;
};

/* --- the catalog ---------------------------------------------------------------- */

/* A file without a name, written at its end, read anywhere. */
struct loader_file {
    int fd; /* -1: none */
    uint64_t n_bytes;
    struct prx_str pending; /* the last of them, not written yet */
};

/* All samples, in the sources' order.  Read-only once built: any thread may look. */
struct loader_catalog {
    struct loader_layout layout;
    uint32_t n_samples;
    struct loader_file records; /* of each sample: place of its key, of its parts */
    struct loader_file keys;    /* NUL-terminated, one after another */
    uint16_t *shape_ids;        /* [n_samples]; NULL where all have shape 0 */
    size_t cap_shape_ids;
    struct loader_shape *shapes;
    size_t n_shapes;
    struct loader_shard *shards;
    size_t n_shards, cap_shards;
    uint32_t i_shard_path; /* of the last shard */
    struct loader_set *sets;
    size_t n_sets;
    size_t i_set; /* that samples are added to */
    char **paths;
    size_t n_paths, cap_paths;
    uint64_t n_part_bytes;
    uint64_t n_rejected, n_hidden;
    bool is_spooled;
    struct prx_hasher *hasher; /* of what the fingerprint covers */
};

PRX_MUST_USE int prx_loader_catalog_init(struct loader_catalog *catalog,
                                         const struct prx_loader_opts *opts,
                                         size_t n_sets);
void prx_loader_catalog_release(struct loader_catalog *catalog);

/* The number of @path, noted when new. */
PRX_MUST_USE int prx_loader_catalog_path(struct loader_catalog *catalog,
                                         const char *path, uint32_t *out);

/* @places: [n_parts]. */
PRX_MUST_USE int prx_loader_catalog_add(struct loader_catalog *catalog, const char *key,
                                        const struct loader_shape *shape,
                                        const struct loader_place *places);

/* What is added from now on is of set @i_set, and of another shard. */
void prx_loader_catalog_begin(struct loader_catalog *catalog, size_t i_set,
                              double weight);
PRX_MUST_USE int prx_loader_catalog_finish(struct loader_catalog *catalog);

/* @places: [LOADER_PARTS_MAX]. */
PRX_MUST_USE int prx_loader_catalog_places(const struct loader_catalog *catalog,
                                           uint32_t i_sample,
                                           struct loader_place *places);
PRX_MUST_USE int prx_loader_catalog_key(const struct loader_catalog *catalog,
                                        uint32_t i_sample, struct prx_str *out);
uint64_t prx_loader_catalog_bytes(const struct loader_catalog *catalog);

static inline size_t prx_loader_shape_id(const struct loader_catalog *catalog,
                                         uint32_t i_sample)
{
    return catalog->shape_ids ? catalog->shape_ids[i_sample] : 0;
}

/* Grow *@array, a pointer of whatever type, to @n elements of @n_element_bytes. */
PRX_MUST_USE int prx_loader_grow(void *array, size_t n, size_t n_element_bytes);

/* Read all of @source, or of the spool, as set @i_set. */
PRX_MUST_USE int prx_loader_index_read(struct loader_catalog *catalog, size_t i_set,
                                       struct prx_source *source,
                                       const struct prx_loader_opts *opts);

/* --- spools --------------------------------------------------------------------- */

/* Samples on their way to rest. */
struct loader_spool;
/* @i_set of @n_sets: each has a folder of its own, where there are several. */
PRX_MUST_USE int prx_loader_spool_open(const struct prx_loader_opts *opts, size_t i_set,
                                       size_t n_sets, struct loader_spool **out);
/* Takes the wanted fields of @sample, which loses the others. */
PRX_MUST_USE int prx_loader_spool_put(struct loader_spool *spool,
                                      struct prx_sample *sample);
/* Complete it and open what was written; frees @spool. */
PRX_MUST_USE int prx_loader_spool_finish(struct loader_spool *spool,
                                         struct prx_source **out);
/* Open what an earlier spool has completed; NULL: there is none. */
PRX_MUST_USE int prx_loader_spool_reopen(const struct prx_loader_opts *opts,
                                         size_t i_set, size_t n_sets,
                                         struct prx_source **out);
void prx_loader_spool_abort(struct loader_spool *spool);

/* --- order ---------------------------------------------------------------------- */

/* A shard that draws are taken from. */
struct loader_open_shard {
    const struct loader_shard *shard;
    uint32_t *left; /* its samples, the next one last */
    size_t cap_left;
    uint32_t n_left;
};

/* The endless draws of one set. */
struct loader_stream {
    const struct loader_catalog *catalog;
    const struct loader_set *set;
    const struct prx_loader_opts *opts; /* seed, shuffle, window */
    uint32_t i_set;
    uint32_t epoch;
    uint64_t n_drawn; /* of the epoch; of all with replacement */
    uint32_t *shard_order;
    uint32_t n_opened; /* shards, of the epoch */
    struct loader_open_shard *open;
    size_t n_open, cap_open;
    uint64_t n_open_samples, n_open_bytes; /* of open shards, drawn or not */
    struct prx_rng choices;
    uint32_t *rest; /* once no shard is to be opened any more: all that is left */
    size_t n_rest, cap_rest;
};

PRX_MUST_USE int prx_loader_stream_init(struct loader_stream *stream,
                                        const struct loader_catalog *catalog,
                                        size_t i_set,
                                        const struct prx_loader_opts *opts);
void prx_loader_stream_release(struct loader_stream *stream);
PRX_MUST_USE int prx_loader_stream_next(struct loader_stream *stream,
                                        struct prx_loader_draw *out);
/* As @n calls of the former, at once; only on a stream that is new. */
PRX_MUST_USE int prx_loader_stream_skip(struct loader_stream *stream, uint64_t n);

/* The draws of all sets, cut into batches of one shape. */
struct loader_order {
    const struct loader_catalog *catalog;
    uint64_t seed;
    size_t n_batch;
    uint64_t n_drawn;
    struct loader_stream *streams; /* [n_sets] */
    double *weight_sums;           /* [n_sets], the last one is 1 */
    /* Draws of each shape that wait for their batch to fill. */
    struct prx_loader_draw **pending; /* [n_shapes][n_batch] */
    size_t *n_pending;                /* [n_shapes] */
};

PRX_MUST_USE int prx_loader_order_init(struct loader_order *order,
                                       const struct loader_catalog *catalog,
                                       const struct prx_loader_opts *opts);
void prx_loader_order_release(struct loader_order *order);
/* The draws of the next batch into @out [n_batch]. */
PRX_MUST_USE int prx_loader_order_next(struct loader_order *order,
                                       struct prx_loader_draw *out);
/* Pass over @k batches; only on an order that is new. */
PRX_MUST_USE int prx_loader_order_skip(struct loader_order *order, uint64_t k);
/* As prx_loader_quality(). */
PRX_MUST_USE int prx_loader_order_quality(const struct loader_catalog *catalog,
                                          const struct prx_loader_opts *opts,
                                          double *out);

/* --- reading -------------------------------------------------------------------- */

/* A few open files, so that a shard is not opened for every sample. */
#define LOADER_OPEN_FILES 16
struct loader_files {
    struct {
        uint32_t i_path;
        int fd; /* 0: closed */
    } slots[LOADER_OPEN_FILES];
};

void prx_loader_files_release(struct loader_files *files);

/* @n_bytes at @place, from its first on; PRX_ECORRUPT past the file's end. */
PRX_MUST_USE int prx_loader_files_read(struct loader_files *files,
                                       const struct loader_catalog *catalog,
                                       const struct loader_place *place, size_t n_bytes,
                                       uint8_t *out);

/* A thread's own, for reading samples. */
struct loader_reader {
    const struct loader_catalog *catalog;
    const struct prx_loader_opts *opts;
    struct loader_files files;
    struct prx_str bytes;     /* of the part just read */
    struct prx_str values;    /* float32 scratch */
    struct prx_fitter fitter; /* of pictures */
    bool has_fitter;
    /* Parts kept in memory, [n_samples * n_parts], or NULL; entries are atomic. */
    struct prx_buf *_Atomic *cache;
};

void prx_loader_reader_release(struct loader_reader *reader);

/* A sample that is being read. */
struct loader_reading {
    uint32_t i_sample; /* the draw's, or the one that replaces it */
    const struct prx_loader_draw *draw;
    struct loader_place places[LOADER_PARTS_MAX];
};

/*
 * The bytes of part @i_part.  *@held is a reference to give back, or NULL: then
 * @bytes is good until the reader reads the next part.
 */
PRX_MUST_USE int prx_loader_part_read(struct loader_reader *reader,
                                      const struct loader_reading *reading,
                                      size_t i_part, const uint8_t **bytes,
                                      struct prx_buf **held);

/* The latent, [shape], into @out; a stored deviation is drawn. */
PRX_MUST_USE int prx_loader_latent_read(struct loader_reader *reader,
                                        const struct loader_reading *reading,
                                        float *out);

/* Feature @i into @out, of the shape's size. */
PRX_MUST_USE int prx_loader_feature_read(struct loader_reader *reader,
                                         const struct loader_reading *reading, size_t i,
                                         float *out);

/* The picture into @out, uint8_t or float as the options say. */
PRX_MUST_USE int prx_loader_image_read(struct loader_reader *reader,
                                       const struct loader_reading *reading, void *out);

/* An array of numbers?  Its dimensions as [tokens, width]. */
PRX_MUST_USE int prx_loader_feature_dims(const struct prx_npy *npy, int64_t dims[2]);

/* Check that a latent's header tells a shape, and tell it: [C H W] or [2 C H W]. */
PRX_MUST_USE int prx_loader_latent_dims(const struct prx_npy *npy, int64_t dims[3]);

#define LOADER_NULL_CAPTION (-1)

/*
 * The caption that this draw gets in batch @k: its number, or LOADER_NULL_CAPTION.
 *
 * @is_fallback: the sample lacks the one that was drawn.
 */
int prx_loader_caption(const struct prx_loader_opts *opts,
                       const struct loader_layout *layout,
                       const struct loader_reading *reading, uint64_t k,
                       bool *is_fallback);

/* --- batches -------------------------------------------------------------------- */

/* What became of one place of a batch. */
struct loader_outcome {
    int caption;
    bool is_fallback;
    bool is_replaced;
};

/* Memory that grows and does not keep what is in it. */
struct loader_memory {
    void *elements;
    size_t n_bytes;
};

/*
 * A batch's memory.  The draws are the whole batch's; all else is the slice's: its
 * sample i has draw i_slice + i.  Places are filled by any thread, each by one.
 */
struct loader_slot {
    uint64_t k;                      /* the batch's number */
    struct prx_loader_draw *draws;   /* [n_batch] */
    struct loader_outcome *outcomes; /* [n_slice] */
    struct prx_buf **texts;          /* [n_slice], held while the batch is filled */
    struct prx_npy *text_views;      /* [n_slice] */
    struct loader_memory latent, image, text, mask, features[PRX_LOADER_FEATURES_MAX];
    int64_t n_tokens;
    const struct loader_shape *shape;
    char replaced_reason[PRX_ERR_TEXT_BYTES];
    size_t i_replaced;        /* the place that it is of */
    size_t n_claimed, n_done; /* places */
    bool is_ready;
    struct prx_error error; /* code < 0: filling failed, at place i_error */
    size_t i_error;
};

PRX_MUST_USE int prx_loader_slot_init(struct loader_slot *slot, size_t n_batch,
                                      size_t n_slice);
void prx_loader_slot_release(struct loader_slot *slot,
                             const struct prx_loader_opts *opts, size_t n_slice);

/* Make room for batch @k, whose draws are in the slot. */
PRX_MUST_USE int prx_loader_slot_begin(struct loader_slot *slot,
                                       const struct loader_catalog *catalog,
                                       const struct prx_loader_opts *opts,
                                       size_t n_slice, uint64_t k);

/*
 * Read the sample of place @i, draw @draw, or what replaces it.
 *
 * @reason: [PRX_ERR_TEXT_BYTES], of a replacement.
 */
PRX_MUST_USE int prx_loader_slot_fill(struct loader_slot *slot,
                                      struct loader_reader *reader, size_t i,
                                      const struct prx_loader_draw *draw, char *reason);

/* All places are filled: pad the texts. */
PRX_MUST_USE int prx_loader_slot_finish(struct loader_slot *slot,
                                        const struct prx_loader_opts *opts,
                                        size_t n_slice);

/* At most so many bytes are a batch of @shape. */
uint64_t prx_loader_slot_bytes(const struct loader_shape *shape,
                               const struct prx_loader_opts *opts, size_t n_slice);

#endif
