/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sheet.h - pictures that were made, kept until they stand together on one sheet.
 *
 * A group for every prompt, with the prompt below it: first the photograph that
 * belongs to it, where there is one, then what was made.  libdata/contact.h draws it.
 * A struct prx_sheet is one thread's at a time.
 */
#ifndef PRX_TRAIN_SHEET_H
#define PRX_TRAIN_SHEET_H

#include "train/generate.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_sheet {
    /* Set before prx_sheet_init(); all borrowed. */
    const char *const *labels; /* [n_prompts] */
    /* [n_prompts], NULL leaves a cell empty; or NULL: there are no such cells */
    const struct prx_image *const *references;
    const char *title; /* or NULL */
    size_t n_prompts;
    uint32_t n_images; /* made of each prompt */
    size_t n_columns;  /* prompts in a row; 0: what 1,280 pixels hold */

    struct prx_image *kept; /* private: [n_prompts * n_images] */
};

PRX_MUST_USE int prx_sheet_init(struct prx_sheet *sheet);

/** prx_sheet_put - take the pixels of @image, the picture of @job. */
void prx_sheet_put(struct prx_sheet *sheet, const struct prx_generate_job *job,
                   struct prx_image *image);

/**
 * prx_sheet_draw - draw what was put; a picture that is missing leaves its cell empty.
 *
 * @out: overwritten, released by the caller.
 * Errors: as prx_contact_draw().
 */
PRX_MUST_USE int prx_sheet_draw(const struct prx_sheet *sheet, struct prx_image *out);
void prx_sheet_release(struct prx_sheet *sheet);

#ifdef __cplusplus
}
#endif
#endif
