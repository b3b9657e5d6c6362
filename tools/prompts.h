/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prompts.h - the prompts of a run, from the command line or a file.
 *
 * A file has one prompt a line: "PROMPT", "KEY<TAB>PROMPT", or a JSON object with
 * "prompt" and perhaps "key".  Empty lines are left out.
 */
#ifndef PRX_TOOLS_PROMPTS_H
#define PRX_TOOLS_PROMPTS_H

#include <stddef.h>

#include "libdata/err.h"
#include "libdata/image.h"

struct prompt {
    char *text;                 /* owned */
    char *key;                  /* of the sample it belongs to, owned; NULL: none */
    struct prx_image reference; /* that sample's picture; without pixels: none */
};

struct prompts {
    struct prompt *list;
    size_t n;
    size_t cap;
};

void prompts_release(struct prompts *prompts);

/** prompts_add - one more, @key may be NULL; both are copied. */
PRX_MUST_USE int prompts_add(struct prompts *prompts, const char *key,
                             const char *text);

/** prompts_read - those of the file at @path; PRX_ECORRUPT names the line. */
PRX_MUST_USE int prompts_read(struct prompts *prompts, const char *path);

/**
 * prompts_find_references - take the pictures of prompts with a key from @word.
 *
 * @word: a source.  Pictures are cropped about their centre to the aspect wanted,
 * and resized.  A key that is not there is warned of.
 */
PRX_MUST_USE int prompts_find_references(struct prompts *prompts, const char *word,
                                         int width_px, int height_px);

#endif
