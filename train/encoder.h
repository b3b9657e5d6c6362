/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encoder.h - the frozen networks around the denoiser: pictures to latents and
 * back, captions to text states.
 *
 * Chosen by name; the embedded ones ("dct", "pixels", "hash") need no file.  A
 * fingerprint names exactly what made a latent or a text state, so that stale parts
 * are found (sample metadata, encode.PART).  An open encoder is only read: any
 * number of threads may use it.
 */
#ifndef PRX_TRAIN_ENCODER_H
#define PRX_TRAIN_ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/err.h"
#include "libdata/hash.h"
#include "libdata/image.h"
#include "libdata/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_vae {
    const char *name;   /* "dct", "pixels" */
    int64_t channels;   /* C of the latent */
    int64_t downsample; /* pixels a latent cell, each way */
    char fingerprint[PRX_HASH_HEX_BYTES];
    void *impl;
    /*
     * @latent [C, H/f, W/f], shifted and scaled to about zero mean and unit variance.
     * Errors: PRX_ESHAPE (f does not divide the picture's sides), PRX_ENOMEM.
     */
    int (*encode)(const struct prx_vae *vae, const struct prx_image *image,
                  float *latent);
    /*
     * @latent [C, height, width] cells; @image is overwritten, not released.
     * NULL where this build can only encode.
     * Errors: PRX_ESHAPE (no cells), PRX_ENONFINITE, PRX_ENOMEM.
     */
    int (*decode)(const struct prx_vae *vae, const float *latent, int64_t height,
                  int64_t width, struct prx_image *image);
    void (*close)(struct prx_vae *vae);
};

/** prx_vae_open - "dct", "pixels", or the path of a model this build reads. */
PRX_MUST_USE int prx_vae_open(const char *word, struct prx_vae **out);
void prx_vae_close(struct prx_vae *vae);

struct prx_text_tower {
    const char *name;     /* "hash" */
    int64_t width;        /* D of the states = the denoiser's context_in_dim */
    int64_t n_tokens_max; /* longer captions are cut */
    char fingerprint[PRX_HASH_HEX_BYTES];
    void *impl;
    /*
     * States of @text (UTF-8), [n, width], into @states ([n_tokens_max, width]).
     * "" gives the null caption's states: at least one token.
     * Returns n > 0, or < 0.
     */
    int (*encode)(const struct prx_text_tower *tower, const char *text, float *states);
    void (*close)(struct prx_text_tower *tower);
};

struct prx_text_opts {
    int64_t width;        /* 0 = the tower's default (hash: 256) */
    int64_t n_tokens_max; /* 0 = the tower's default */
};

/** prx_text_tower_open - "hash", or the path of a model this build reads. */
PRX_MUST_USE int prx_text_tower_open(const char *word, const struct prx_text_opts *opts,
                                     struct prx_text_tower **out);
void prx_text_tower_close(struct prx_text_tower *tower);

struct prx_encode_opts {
    const struct prx_vae *vae;          /* NULL: no latents */
    const struct prx_text_tower *tower; /* NULL: no text states */
    const char *const *captions;        /* names, "long"; "txt" is the plain one */
    size_t n_captions;                  /* 0: all a sample has */
    bool f32;                           /* store float32 instead of float16 */
    bool drop_image;                    /* leave the image field out of the output */
    struct prx_image_limits limits;
};

/**
 * prx_stage_encode - add latent.npy and NAME.text.npy to samples.
 *
 * The picture is sample->image where an earlier stage left one, else the decoded
 * image field.  Caption NAME is meta.captions.NAME, else field NAME.txt; "txt" is
 * field txt.  Without names all named captions of a sample are encoded, and "txt"
 * where there is no named one.
 *
 * meta.encode.PART records of each part: fingerprint, vae or text (the encoder's
 * name), dtype ("f16", "f32"), shape, version (of this record), and input, the
 * xxh128 of the picture's or caption's bytes.  A part that has the record it would
 * get passes untouched, and so does one whose input is gone but whose encoder is
 * the same; any other one is made anew.
 *
 * Rejected: no image, sides that the VAE does not divide, a missing caption, values
 * that are not finite or overflow float16.
 * @opts is copied; names, vae and tower must outlive the stage.
 * Errors: PRX_EINVAL (a name that is not of a-z 0-9 _ -), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_stage_encode(const struct prx_encode_opts *opts,
                                  struct prx_stage *out);

#ifdef __cplusplus
}
#endif
#endif
