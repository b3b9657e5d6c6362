/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample_out.h - where pictures that were made go: samples, a labelled sheet, both.
 *
 * As samples they are numbered, each with its prompt as txt and how it was made
 * in json.  The sheet has a group for every prompt: first the photograph that
 * belongs to it, where there is one, then what was made.
 */
#ifndef PRX_TOOLS_SAMPLE_OUT_H
#define PRX_TOOLS_SAMPLE_OUT_H

#include "libdata/sink.h"
#include "tools/prompts.h"
#include "train/generate.h"
#include "train/sheet.h"

struct sample_out {
    /* Set before sample_out_open(); all borrowed. */
    const char *tool_name;
    const char *dest;      /* a folder, FILE.tar, "-"; NULL: no samples */
    const char *grid_path; /* FILE.png, .jpg or .webp; NULL: no sheet */
    bool overwrite;
    enum prx_image_format format; /* of samples */
    int quality;
    bool has_references;
    size_t n_grid_columns; /* 0: what fits */
    const struct prompts *prompts;
    uint32_t n_images; /* of each prompt */
    const struct prx_generator *gen;
    const struct prx_generate_opts *opts;

    /* Private. */
    enum prx_image_format grid_format;
    struct prx_sink *sink;
    struct prx_sheet sheet;
    const char **labels;                 /* [prompts->n], of the sheet */
    const struct prx_image **references; /* [prompts->n], of the sheet; NULL: none */
};

/** sample_out_check - refuse what cannot be written, before any work is done. */
PRX_MUST_USE int sample_out_check(struct sample_out *out);
PRX_MUST_USE int sample_out_open(struct sample_out *out);

/** sample_out_put - the next picture; for the sheet its pixels are taken. */
PRX_MUST_USE int sample_out_put(struct sample_out *out,
                                const struct prx_generate_job *job,
                                struct prx_image *image);

/** sample_out_finish - draw the sheet, name everything. */
PRX_MUST_USE int sample_out_finish(struct sample_out *out);

/** sample_out_release - after finish, or to abort. */
void sample_out_release(struct sample_out *out);

#endif
