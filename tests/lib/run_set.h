/* SPDX-License-Identifier: Apache-2.0 */
/* run_set.h - a few encoded samples for tests that train. */
#ifndef PRX_TESTS_LIB_RUN_SET_H
#define PRX_TESTS_LIB_RUN_SET_H

enum { RUN_SET_N_SAMPLES = 11 };

/**
 * prx_run_set_write - random latents of two shapes to the destination @word.
 *
 * Text states are 16 wide; the fingerprints are those of "dct" and "hash".  Fails
 * only by a failed cmocka assertion.
 */
void prx_run_set_write(const char *word);

#endif
