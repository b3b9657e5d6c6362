/* SPDX-License-Identifier: Apache-2.0 */
/* encoder_internal.h - the embedded encoders, as encoder.c opens them by name. */
#ifndef PRX_TRAIN_MODEL_ENCODER_INTERNAL_H
#define PRX_TRAIN_MODEL_ENCODER_INTERNAL_H

#include "train/encoder.h"

PRX_MUST_USE int prx_vae_dct_open(struct prx_vae **out);
PRX_MUST_USE int prx_vae_pixels_open(struct prx_vae **out);
PRX_MUST_USE int prx_text_hash_open(const struct prx_text_opts *opts,
                                    struct prx_text_tower **out);

#endif
