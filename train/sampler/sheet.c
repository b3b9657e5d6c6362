/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures in their order, and the groups that they form on a sheet. */
#include "train/sheet.h"

#include <stdlib.h>

#include "libdata/contact.h"

int prx_sheet_init(struct prx_sheet *sheet)
{
    sheet->kept = calloc(sheet->n_prompts, sheet->n_images * sizeof(*sheet->kept));
    return sheet->kept ? 0 : prx_err_nomem("the sheet's pictures");
}

void prx_sheet_put(struct prx_sheet *sheet, const struct prx_generate_job *job,
                   struct prx_image *image)
{
    struct prx_image *kept =
        &sheet->kept[job->i_prompt * sheet->n_images + job->i_image];

    prx_image_release(kept);
    *kept = *image;
    *image = (struct prx_image){0};
}

int prx_sheet_draw(const struct prx_sheet *sheet, struct prx_image *out)
{
    const size_t n_made = sheet->n_images;
    const size_t n_group = n_made + (sheet->references ? 1 : 0);
    const struct prx_image **images =
        calloc(sheet->n_prompts, n_group * sizeof(*images));
    const struct prx_contact contact = {
        .images = images,
        .labels = sheet->labels,
        .title = sheet->title,
        .n_groups = sheet->n_prompts,
        .n_group_images = n_group,
        .n_columns = sheet->n_columns,
    };

    if (!images)
        return prx_err_nomem("a sheet");
    for (size_t i = 0; i < sheet->n_prompts; i++) {
        const struct prx_image **group = images + i * n_group;
        if (sheet->references)
            *group++ = sheet->references[i];
        for (size_t j = 0; j < n_made; j++) {
            const struct prx_image *kept = &sheet->kept[i * n_made + j];
            group[j] = kept->pixels ? kept : NULL;
        }
    }
    int rc = prx_contact_draw(&contact, out);
    free(images);
    return rc;
}

void prx_sheet_release(struct prx_sheet *sheet)
{
    for (size_t i = 0; sheet->kept && i < sheet->n_prompts * sheet->n_images; i++)
        prx_image_release(&sheet->kept[i]);
    free(sheet->kept);
    sheet->kept = NULL;
}
