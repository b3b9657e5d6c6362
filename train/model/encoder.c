/* SPDX-License-Identifier: Apache-2.0 */
/* Encoders by the word a user writes. */
#include "train/encoder.h"

#include <string.h>

#include "train/model/encoder_internal.h"

int prx_vae_open(const char *word, struct prx_vae **out)
{
    if (strcmp(word, "dct") == 0)
        return prx_vae_dct_open(out);
    if (strcmp(word, "pixels") == 0)
        return prx_vae_pixels_open(out);
    return prx_err(PRX_EINVAL, "no VAE '%s' in this build; there are: dct, pixels",
                   word);
}

void prx_vae_close(struct prx_vae *vae)
{
    if (vae)
        vae->close(vae);
}

int prx_text_tower_open(const char *word, const struct prx_text_opts *opts,
                        struct prx_text_tower **out)
{
    if (strcmp(word, "hash") == 0)
        return prx_text_hash_open(opts, out);
    return prx_err(PRX_EINVAL, "no text tower '%s' in this build; there is: hash",
                   word);
}

void prx_text_tower_close(struct prx_text_tower *tower)
{
    if (tower)
        tower->close(tower);
}
