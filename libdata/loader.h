/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader.h - samples at rest become batches, in an order that is a pure function.
 *
 * Opening reads the source once and keeps, of every sample, its key and where its
 * latent and text states lie: 44 bytes, 16 more for each further caption, and the
 * key (in a folder, also the paths).  What cannot be read a second time (standard
 * input, a compressed tar) is spooled as tar shards first.
 *
 * Order.  Epoch e is a permutation of all samples drawn from (seed, e).  The
 * epochs follow one another as one endless stream; a batch is the next `batch`
 * samples of that stream that share a latent shape.  So every batch is full, and
 * a sample comes exactly once in every epoch of the stream; what an epoch leaves
 * over waits for the next one.  Batch k depends on (samples, seed, batch, k) and
 * on nothing else: seeking is counting.
 *
 * Draws.  Caption, dropout and posterior noise of a sample are drawn from (seed,
 * epoch, sample number), so they do not depend on its batch either.
 *
 * A sample that turns out damaged when its turn comes is replaced by the next one
 * of its shape, and counted; the same damage gives the same replacement.  Values
 * that are not finite are damage.  A failing disk is an error.
 *
 * Slices.  Of W processes with the same samples, each may take its slice of every
 * batch: as even as can be, in the batch's order, the first ones a sample larger.
 * The samples of other slices are not read; the slices of batch k, one after
 * another, are batch k.
 *
 * Threads read ahead; the loader itself is one thread's at a time.
 */
#ifndef PRX_LIBDATA_LOADER_H
#define PRX_LIBDATA_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/hash.h"
#include "libdata/source.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_LOADER_CAPTIONS_MAX 8

struct prx_loader_opts {
    size_t n_batch; /* samples in a batch */
    uint64_t seed;
    bool shuffle;           /* false: the order of the source, in every epoch */
    int n_threads;          /* that read ahead; 0 = 1 */
    size_t n_prefetch;      /* batches ready beside the one in use; 0 = 1 */
    uint64_t n_cache_bytes; /* keep all parts in memory if they fit; 0 = never */
    const char *spool_dir;  /* where to spool, made when needed */
    bool spool_overwrite;   /* replace what is in it */
    /* spool_dir holds, whole, what an opening of the same sources has spooled: it is
     * read instead.  Streams may be left out of the source then. */
    bool is_spooled;
    size_t rank, world; /* which slice of the batches; world 0 = 1 */

    /* Captions by name, "long" for part long.text.npy.  One is chosen by weight
     * among those a sample has; weight 0: the first that is there, where none
     * with a weight is. */
    size_t n_captions;
    const char *const *captions;
    const double *caption_weights;
    double caption_dropout;   /* share of samples that get the null caption */
    const float *null_states; /* [n_null_tokens, text_width] */
    int64_t n_null_tokens;
    int64_t text_width;
    int64_t n_text_tokens_max; /* longer captions are cut */

    int64_t latent_channels;
    /* What meta.encode must say of the parts; NULL: anything. */
    const char *latent_fingerprint;
    const char *text_fingerprint;

    /* Called for every sample that cannot be used; may be NULL. */
    void (*on_reject)(void *ctx, const struct prx_sample *sample);
    /* Called for every sample of the source; non-zero stops (PRX_ECANCELED). */
    int (*on_sample)(void *ctx, uint64_t n_samples);
    void *ctx;
};

/* Which sample a slot of a batch is, for the draws that training adds. */
struct prx_loader_draw {
    uint32_t sample; /* number in the index, from 0 */
    uint32_t epoch;
};

/* Borrowed from the loader, until its next call. */
struct prx_loader_batch {
    int64_t n_samples;                   /* B, of the slice */
    int64_t channels, height, width;     /* of the latents */
    int64_t n_tokens;                    /* L: the longest's, up to a multiple of 16 */
    int64_t text_width;                  /* X */
    const float *latent;                 /* [B, channels, height, width] */
    const float *text;                   /* [B, L, X], zero behind each caption */
    const int32_t *mask;                 /* [B, L], 1 = token present */
    const struct prx_loader_draw *draws; /* [B] */
    int64_t n_null;                      /* samples that got the null caption */
    int64_t n_replaced;                  /* damaged samples, replaced */
    const char *replaced_reason;         /* of the last of them, or NULL */
};

/* What opening found. */
struct prx_loader_summary {
    uint64_t n_samples;
    uint64_t n_rejected;
    uint64_t n_bytes; /* of all latents and text states */
    uint64_t n_index_bytes;
    size_t n_shapes;
    int64_t channels, height, width;      /* of the first sample */
    char fingerprint[PRX_HASH_HEX_BYTES]; /* of keys and sizes, in order */
    bool is_spooled;
    bool is_cached;
};

struct prx_loader;

/**
 * prx_loader_open - index all of @source, spooling what must be.
 *
 * @source: read to its end; closed by the caller, not before the loader, which reads
 *          where it points.  NULL where all is in the spool.
 * @opts: copied; strings and null_states must outlive the loader.
 * Errors: PRX_ENOENT (no samples at all), PRX_EINVAL (a sample lacks a part, was
 *         encoded by something else, or has other channels; the message names
 *         it), PRX_ECORRUPT (standard input is damaged: what feeds it has
 *         failed), PRX_ECANCELED, PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_loader_open(struct prx_source *source,
                                 const struct prx_loader_opts *opts,
                                 struct prx_loader **out);

/**
 * prx_loader_slice - how many samples of a batch of @n_batch are slice @rank of @world.
 *
 * @i_first: the first of them, from 0; may be NULL.
 */
size_t prx_loader_slice(size_t n_batch, size_t rank, size_t world, size_t *i_first);

void prx_loader_summary(const struct prx_loader *loader,
                        struct prx_loader_summary *out);

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

/** prx_loader_close - stop the threads and free all; NULL is fine. */
void prx_loader_close(struct prx_loader *loader);

#ifdef __cplusplus
}
#endif
#endif
