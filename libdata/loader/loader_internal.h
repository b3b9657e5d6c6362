/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader_internal.h - the parts of the loader.
 *
 * loader_index.c finds samples, loader_spool.c puts streams to rest,
 * loader_order.c says which sample comes when, loader_part.c reads one sample's
 * parts, loader_batch.c fills a batch, loader.c owns the threads.
 */
#ifndef PRX_LOADER_INTERNAL_H
#define PRX_LOADER_INTERNAL_H

#include "libdata/loader.h"
#include "libdata/npy.h"

/* Where a part's bytes lie; i_path LOADER_ABSENT: the sample has no such part. */
struct loader_place {
    uint64_t offset_bytes;
    uint32_t n_bytes;
    uint32_t i_path;
};

#define LOADER_ABSENT UINT32_MAX

struct loader_shape {
    int64_t channels, height, width;
};

/* The samples, in the source's order.  Read-only once built, so any thread may look. */
struct loader_index {
    size_t n_parts; /* of a sample: the latent, then one a caption */
    uint32_t n_samples;
    uint32_t cap_samples;
    uint64_t *key_offsets;       /* [n_samples] into keys */
    uint32_t *shape_ids;         /* [n_samples] */
    struct loader_place *places; /* [n_samples, n_parts] */
    struct prx_str keys;         /* NUL-terminated, one after another */
    char **paths;
    size_t n_paths;
    size_t cap_paths;
    struct loader_shape *shapes;
    size_t n_shapes;
    uint64_t n_part_bytes;
    uint64_t n_rejected;
    bool is_spooled;
    struct prx_hasher *hasher; /* of what the fingerprint covers */
};

PRX_MUST_USE int prx_loader_index_init(struct loader_index *index, size_t n_parts);
void prx_loader_index_release(struct loader_index *index);
PRX_MUST_USE int prx_loader_index_read(struct loader_index *index,
                                       struct prx_source *source,
                                       const struct prx_loader_opts *opts);
const char *prx_loader_index_key(const struct loader_index *index, uint32_t i_sample);
const struct loader_place *prx_loader_index_places(const struct loader_index *index,
                                                   uint32_t i_sample);
uint64_t prx_loader_index_bytes(const struct loader_index *index);

/* A few open files, so that a shard is not opened for every sample. */
#define LOADER_OPEN_FILES 16
struct loader_files {
    struct {
        uint32_t i_path;
        int fd; /* 0: closed */
    } slots[LOADER_OPEN_FILES];
};

void prx_loader_files_release(struct loader_files *files);

/* @n_bytes at @place, from its @skip_bytes on; PRX_ECORRUPT past the file's end. */
PRX_MUST_USE int prx_loader_files_read(struct loader_files *files,
                                       const struct loader_index *index,
                                       const struct loader_place *place, size_t n_bytes,
                                       uint8_t *out);

/* The name of part @i of a sample: "latent.npy", "long.text.npy". */
#define LOADER_PART_NAME_BYTES 256
void prx_loader_part_name(const struct prx_loader_opts *opts, size_t i_part,
                          char out[LOADER_PART_NAME_BYTES]);

/* Samples on their way to rest. */
struct loader_spool;
PRX_MUST_USE int prx_loader_spool_open(const struct prx_loader_opts *opts,
                                       struct loader_spool **out);
/* Takes the wanted fields of @sample, which loses the others. */
PRX_MUST_USE int prx_loader_spool_put(struct loader_spool *spool,
                                      struct prx_sample *sample);
/* Complete it and open what was written; frees @spool. */
PRX_MUST_USE int prx_loader_spool_finish(struct loader_spool *spool,
                                         struct prx_source **out);
/* Open what an earlier spool has completed. */
PRX_MUST_USE int prx_loader_spool_reopen(const struct prx_loader_opts *opts,
                                         struct prx_source **out);
void prx_loader_spool_abort(struct loader_spool *spool);

/* The endless stream of draws, cut into batches of one shape. */
struct loader_order {
    const struct loader_index *index;
    uint64_t seed;
    size_t n_batch;
    bool shuffle;
    uint32_t epoch;
    uint32_t i_next;       /* of permutation */
    uint32_t *permutation; /* [n_samples] of this epoch */
    /* Draws of each shape that wait for their batch to fill. */
    struct prx_loader_draw **pending; /* [n_shapes][n_batch] */
    size_t *n_pending;                /* [n_shapes] */
};

PRX_MUST_USE int prx_loader_order_init(struct loader_order *order,
                                       const struct loader_index *index, uint64_t seed,
                                       size_t n_batch, bool shuffle);
void prx_loader_order_release(struct loader_order *order);
/* The draws of the next batch into @out [n_batch]. */
PRX_MUST_USE int prx_loader_order_next(struct loader_order *order,
                                       struct prx_loader_draw *out);

/*
 * A batch's memory, one thread's at a time.  The draws are the whole batch's; all
 * else is the slice's: its sample i has draw i_slice + i.
 */
struct loader_slot {
    struct prx_loader_draw *draws; /* [n_batch] */
    struct prx_buf **texts;        /* [n_batch], held while the batch is filled */
    struct prx_npy *text_views;    /* [n_batch] */
    float *latent;
    size_t cap_latent;
    float *text;
    size_t cap_text;
    int32_t *mask;
    size_t cap_mask;
    int64_t n_tokens;
    struct loader_shape shape;
    int64_t n_null;
    int64_t n_replaced;
    char replaced_reason[PRX_ERR_TEXT_BYTES];
    bool is_ready;
    struct prx_error error; /* code < 0: filling failed */
};

/* What filling needs beside the slot. */
struct loader_reader {
    const struct loader_index *index;
    const struct prx_loader_opts *opts;
    size_t i_slice, n_slice; /* which of the slot's draws are filled */
    struct loader_files files;
    /* Parts kept in memory, [n_samples * n_parts], or NULL; entries are atomic. */
    struct prx_buf *_Atomic *cache;
};

PRX_MUST_USE int prx_loader_slot_init(struct loader_slot *slot, size_t n_batch);
void prx_loader_slot_release(struct loader_slot *slot, size_t n_batch);

/* Read and decode the samples of the slice of slot->draws. */
PRX_MUST_USE int prx_loader_slot_fill(struct loader_slot *slot,
                                      struct loader_reader *reader);

/* The bytes of part @i_part of sample @i_sample. */
PRX_MUST_USE int prx_loader_part_read(struct loader_reader *reader, uint32_t i_sample,
                                      size_t i_part, struct prx_buf **out);

/* The latent of @i_sample, [shape], into @out; a stored deviation is drawn by @draw. */
PRX_MUST_USE int prx_loader_latent_read(struct loader_reader *reader, uint32_t i_sample,
                                        const struct prx_loader_draw *draw, float *out);

/*
 * The part that holds the caption of this draw: its number, or 0 for the null
 * caption.  @i_sample is the draw's own or the one that replaces it.
 */
size_t prx_loader_caption_part(const struct loader_index *index,
                               const struct prx_loader_opts *opts, uint32_t i_sample,
                               const struct prx_loader_draw *draw);

/* Check that a latent's header tells a shape, and tell it: [C H W] or [2 C H W]. */
PRX_MUST_USE int prx_loader_latent_shape(const struct prx_npy *npy,
                                         struct loader_shape *out);

#endif
