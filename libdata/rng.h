/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.h - counter-based random numbers: every draw is a pure function of its name.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy
 * as 1, 2, 3", SC 2011).  A stream is named by (seed, purpose, epoch, sample);
 * its i-th draw depends on nothing else: not on thread, rank, batch or order.
 * So a run that is resumed, or continued on another number of processes, takes
 * the same noise, timesteps, crops and captions for the same samples.
 *
 * Reentrant; a struct prx_rng is used by one thread at a time.
 */
#ifndef PRX_LIBDATA_RNG_H
#define PRX_LIBDATA_RNG_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a draw is for.  Values are part of the on-disk contract: never renumber. */
enum prx_rng_purpose {
    PRX_RNG_INIT = 1,     /* parameter initialisation; sample = parameter number */
    PRX_RNG_SHUFFLE = 2,  /* order of samples */
    PRX_RNG_NOISE = 3,    /* diffusion noise */
    PRX_RNG_TIMESTEP = 4, /* timesteps */
    PRX_RNG_CAPTION = 5,  /* caption choice and dropout */
    PRX_RNG_CROP = 6,     /* crop and flip */
    PRX_RNG_LATENT = 7,   /* posterior draws */
    PRX_RNG_ROUTE = 8,    /* token routing */
    PRX_RNG_SAMPLER = 9,  /* start noise of sampling; sample = prompt number */
    PRX_RNG_TEST = 10,
    PRX_RNG_MIX = 11, /* which set a draw is of; sample = number of the draw */
};

struct prx_rng {
    uint32_t key[2];
    uint32_t counter[4];
    uint32_t block[4];
    unsigned n_used; /* words of block already given out; 4 = none left */
};

/** prx_philox - the bare bijection: 4 words from a 4-word counter and 2-word key. */
void prx_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/**
 * prx_rng_init - open the stream (seed, purpose, epoch, sample).
 *
 * key = seed; counter = {draw block, purpose | epoch << 8, sample low, high}.
 * @epoch < 2^24; 2^34 words in a stream.
 */
void prx_rng_init(struct prx_rng *rng, uint64_t seed, enum prx_rng_purpose purpose,
                  uint32_t epoch, uint64_t sample);

uint32_t prx_rng_u32(struct prx_rng *rng);

/** prx_rng_below - uniform in [0, n), without bias; n > 0. */
uint64_t prx_rng_below(struct prx_rng *rng, uint64_t n);

/** prx_rng_uniform - uniform in [0, 1), a multiple of 2^-24. */
float prx_rng_uniform(struct prx_rng *rng);

/** prx_rng_normal - N(0,1) floats by Box-Muller, computed in double. */
void prx_rng_normal(struct prx_rng *rng, float *out, size_t n);

#ifdef __cplusplus
}
#endif
#endif
