/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader.h - samples at rest become batches, in an order that is a pure function.
 *
 * Opening reads every source once and notes, of every sample, its key and where its
 * parts lie, in a file without a name (below TMPDIR): 24 bytes, 16 for each part, and
 * the key.  In memory stay 24 bytes a shard and, where there are several shapes of
 * batches, 2 a sample; of a folder also the paths.  What cannot be read a second time
 * (standard input, a compressed tar) is spooled as tar shards first.
 *
 * Order.  A set of samples is drawn epoch after epoch, without end.  The shards of an
 * epoch are put in an order that (seed, epoch) draws, and the window opened on the
 * first of them: as many as its bounds allow.  Each draw takes one of the open shards
 * at random and the next of that shard's samples, whose order is drawn too.  A shard
 * that is empty makes room for the next; when no more come, all that is left is
 * shuffled as one.  So a sample comes exactly once in every epoch, an unbounded window
 * is a full shuffle, and with a bounded one only so many shards are read at a time.
 *
 * Sets with weights are mixed: every draw first takes a set, by weight, and then the
 * next sample of that set, so that small sets come round more often.
 *
 * A batch is the next n_batch draws that share a shape.  So every batch is full; what
 * an epoch leaves over of a shape waits for the next one.  Batch k depends on
 * (samples, seed, window, weights, n_batch, k) and on nothing else: seeking is
 * counting.
 *
 * Draws.  Caption, crop, flip, dropout and posterior noise of a draw depend on (seed,
 * epoch, sample), not on its batch.
 *
 * A sample that turns out damaged when its turn comes is replaced by the next one
 * of its shape, and counted; the same damage gives the same replacement.  Values
 * that are not finite are damage.  A failing disk is an error.
 *
 * Slices.  Of W processes with the same samples, each may take its slice of every
 * batch: as even as can be, in the batch's order, the first ones a sample larger.
 * The samples of other slices are not read; the slices of batch k, one after
 * another, are batch k.  So the number of processes may change at any batch.
 *
 * Threads read ahead; the loader itself is one thread's at a time.
 */
#ifndef PRX_LIBDATA_LOADER_H
#define PRX_LIBDATA_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/fit.h"
#include "libdata/hash.h"
#include "libdata/source.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_LOADER_CAPTIONS_MAX 8
#define PRX_LOADER_PHASES_MAX   8
#define PRX_LOADER_FEATURES_MAX 4

/* Weights of captions from a batch on. */
struct prx_loader_phase {
    uint64_t first_batch;
    double weights[PRX_LOADER_CAPTIONS_MAX];
};

enum prx_loader_image_form {
    PRX_LOADER_NO_IMAGE,
    PRX_LOADER_IMAGE_U8,  /* [B, height, width, 3], 0 to 255 */
    PRX_LOADER_IMAGE_F32, /* [B, 3, height, width], level / 127.5 - 1 */
};

/* Pictures, decoded on the reading threads. */
struct prx_loader_image_opts {
    enum prx_loader_image_form form;
    struct prx_fit_opts fit; /* size_px > 0: what a picture is cropped and resized to */
    bool random_crop;        /* where fit cuts something off: where, is drawn */
    double flip;             /* share of draws that are mirrored, left to right */
};

struct prx_loader_opts {
    size_t n_batch; /* samples in a batch */
    uint64_t seed;
    bool shuffle;     /* false: the order of the source, in every epoch */
    bool replacement; /* every draw is of all samples, and there are no epochs */
    /* Bounds of the window: shards are opened as long as both hold, one always is.
     * 0 = none.  Bytes are those of the parts that are read. */
    uint64_t n_window_samples, n_window_bytes;
    int n_threads; /* that read ahead; 0 = 1 */
    /* Batches are made ready beside the one in use while they fit; one always is. */
    uint64_t n_prefetch_bytes;
    uint64_t n_cache_bytes; /* keep all parts in memory if they fit; 0 = never */
    const char *spool_dir;  /* where to spool, made when needed */
    bool spool_overwrite;   /* replace what is in it */
    /* spool_dir holds, whole, what an opening of the same sources has spooled: it is
     * read instead.  Streams may be left out of the source then. */
    bool is_spooled;
    size_t rank, world; /* which slice of the batches; world 0 = 1 */

    /* Latents: field latent.npy, of so many channels; 0: none are read. */
    int64_t latent_channels;
    /* What meta.encode must say of arrays; NULL: anything. */
    const char *latent_fingerprint;
    const char *text_fingerprint;

    struct prx_loader_image_opts image;

    /* Captions by name, "long" for part long.text.npy; none: no text is read.  One is
     * chosen by the weights of the last phase that has begun; where the sample lacks
     * it, the first in this order that it has. */
    size_t n_captions;
    const char *const *captions;
    size_t n_phases; /* at least 1, the first from batch 0, if there are captions */
    struct prx_loader_phase phases[PRX_LOADER_PHASES_MAX];
    double caption_dropout;   /* share of draws that get the null caption */
    const float *null_states; /* [n_null_tokens, text_width] */
    int64_t n_null_tokens;
    int64_t text_width;
    int64_t n_text_tokens_max; /* longer captions are cut */

    /* Features by name, "dinov2" for part dinov2.feat.npy; of one shape in a set. */
    size_t n_features;
    const char *const *features;

    /* Memory of batches, so that a device can read it directly; NULL: malloc(3). */
    void *(*allocate)(void *ctx, size_t n_bytes);
    void (*deallocate)(void *ctx, void *memory);
    void *memory_ctx;

    /* Called for every sample that cannot be used; may be NULL. */
    void (*on_reject)(void *ctx, const struct prx_sample *sample);
    /* Called for every sample of a source; non-zero stops (PRX_ECANCELED). */
    int (*on_sample)(void *ctx, uint64_t n_samples);
    void *ctx;
};

/* Samples that are mixed with others. */
struct prx_loader_set {
    struct prx_source *source; /* borrowed while the loader lives; NULL: spooled */
    double weight;             /* share of the draws, of the sum of all weights */
};

/* Which sample a slot of a batch is, for the draws that training adds. */
struct prx_loader_draw {
    uint32_t sample; /* number in the index, from 0 */
    uint32_t epoch;  /* of its set */
    uint64_t id;     /* with epoch, what its random numbers are named by */
};

/* Borrowed from the loader, until its next call.  Absent parts are NULL, 0. */
struct prx_loader_batch {
    int64_t n_samples;                   /* B, of the slice */
    const struct prx_loader_draw *draws; /* [B] */

    int64_t channels, height, width; /* of the latents */
    const float *latent;             /* [B, channels, height, width] */

    int64_t image_height, image_width;
    const uint8_t *image_u8; /* [B, image_height, image_width, 3] */
    const float *image;      /* [B, 3, image_height, image_width] */

    int64_t n_tokens;    /* L: the longest's, up to a multiple of 16 */
    int64_t text_width;  /* X */
    const float *text;   /* [B, L, X], zero behind each caption */
    const int32_t *mask; /* [B, L], 1 = token present */

    struct {
        int64_t n_tokens, width; /* n_tokens 1 where the array is [width] */
        const float *values;     /* [B, n_tokens, width] */
    } features[PRX_LOADER_FEATURES_MAX];

    /* Samples that got each caption; the null caption; a caption other than the one
     * that was drawn, which they lack. */
    int64_t n_by_caption[PRX_LOADER_CAPTIONS_MAX];
    int64_t n_null, n_fallback;
    int64_t n_replaced;          /* damaged samples, replaced */
    const char *replaced_reason; /* of the last of them, or NULL */
};

/* What opening found. */
struct prx_loader_summary {
    uint64_t n_samples;
    uint64_t n_rejected;
    uint64_t n_hidden; /* by skip lists */
    uint64_t n_bytes;  /* of all parts */
    uint64_t n_index_bytes;
    size_t n_shards;
    size_t n_shapes;
    int64_t channels, height, width;      /* of the first sample's latent */
    int64_t image_height, image_width;    /* of the first sample's picture */
    char fingerprint[PRX_HASH_HEX_BYTES]; /* of keys and sizes, in order */
    bool is_spooled;
    bool is_cached;
};

struct prx_loader;

/**
 * prx_loader_open - index all samples of @sets, spooling what must be.
 *
 * @sets: one, or several with weights.  Sources are read to their end here and must
 *        stay open as long as the loader, for the places they name may be good only
 *        so long.  A source NULL stands where all of a set is in the spool.
 * @opts: copied; strings and null_states must outlive the loader.
 * Errors: PRX_ENOENT (a set without samples), PRX_EINVAL (a sample lacks a part, was
 *         encoded by something else, or has other channels; the message names
 *         it), PRX_ECORRUPT (standard input is damaged: what feeds it has
 *         failed), PRX_ECANCELED, PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_loader_open(const struct prx_loader_set *sets, size_t n_sets,
                                 const struct prx_loader_opts *opts,
                                 struct prx_loader **out);

/**
 * prx_loader_slice - how many samples of a batch of @n_batch are slice @rank of @world.
 *
 * @i_first: the first of them, from 0; may be NULL.
 */
size_t prx_loader_slice(size_t n_batch, size_t rank, size_t world, size_t *i_first);

/**
 * prx_loader_slots - how many batches of @n_batch_bytes have memory.
 *
 * The one in use, and those that fit the bound.
 */
size_t prx_loader_slots(uint64_t n_prefetch_bytes, uint64_t n_batch_bytes);

void prx_loader_summary(const struct prx_loader *loader,
                        struct prx_loader_summary *out);

/**
 * prx_loader_quality - how well the window mixes, 1 being a full shuffle.
 *
 * The number of different shards that a batch has samples of, on average over the
 * first epoch (or its first million draws), as a share of what batches drawn from all
 * samples would have.  Without windows 1 is returned at once.
 */
PRX_MUST_USE int prx_loader_quality(const struct prx_loader *loader, double *out);

/** prx_loader_seek - make batch @k (from 0) the next; only before the first next. */
PRX_MUST_USE int prx_loader_seek(struct prx_loader *loader, uint64_t k);

/**
 * prx_loader_next - the next batch; there is no last one.
 *
 * Errors: PRX_EIO, PRX_ENOENT (a file has gone), PRX_ESHAPE (states of another
 *         width), PRX_ECORRUPT (too many damaged samples in a row), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_loader_next(struct prx_loader *loader,
                                 struct prx_loader_batch *out);

/** prx_loader_key - the key of sample number @sample, added to @out. */
PRX_MUST_USE int prx_loader_key(const struct prx_loader *loader, uint32_t sample,
                                struct prx_str *out);

/** prx_loader_close - stop the threads and free all; NULL is fine. */
void prx_loader_close(struct prx_loader *loader);

#ifdef __cplusplus
}
#endif
#endif
