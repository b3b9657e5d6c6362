/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contact.h - a sheet of pictures with labels: groups in rows, on white.
 *
 * A group is one or more pictures side by side, as a photograph and what was made
 * from its caption, with one label below.  Every cell has the size of the largest
 * picture; smaller ones are centred in it.  Reentrant.
 */
#ifndef PRX_LIBDATA_CONTACT_H
#define PRX_LIBDATA_CONTACT_H

#include <stddef.h>

#include "libdata/image.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PRX_CONTACT_SIDE_PX_MAX 65500 /* of a sheet: what a JPEG can be */

struct prx_contact {
    /* [n_groups * n_group_images]; NULL leaves a cell empty */
    const struct prx_image *const *images;
    const char *const *labels; /* [n_groups], or NULL; a NULL label is none */
    const char *title;         /* a line above, or NULL */
    size_t n_groups;
    size_t n_group_images;
    size_t n_columns;     /* groups in a row; 0: as many as 1,280 pixels hold */
    size_t n_label_lines; /* at most, cut with "..."; 0: 4 */
};

/**
 * prx_contact_draw - draw the sheet.
 *
 * @out: {0} or uninitialised; overwritten, released by the caller.
 * The last row may be shorter; a row is as high as its longest label asks.
 * Errors: PRX_EINVAL (no pictures at all, a sheet too large), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_contact_draw(const struct prx_contact *contact,
                                  struct prx_image *out);

#ifdef __cplusplus
}
#endif
#endif
