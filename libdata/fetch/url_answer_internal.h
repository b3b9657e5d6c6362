/* SPDX-License-Identifier: Apache-2.0 */
/* url_answer_internal.h - what the head of an HTTP answer says, as far as we ask. */
#ifndef PRX_URL_ANSWER_INTERNAL_H
#define PRX_URL_ANSWER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/url.h"

/* Of the last answer only: a redirection's is forgotten. */
struct prx_url_answer {
    struct prx_url_id id; /* without n_bytes */
    char encoding[64];    /* Content-Encoding, "" for identity */
    bool has_range;       /* a Content-Range of bytes, */
    uint64_t first_byte;  /* which begins there */
    bool has_total;       /* and tells the whole length */
    uint64_t n_total;
    bool is_elsewhere; /* has a Location */
};

/**
 * prx_url_answer_add - read one line, with its end, of an answer's head.
 *
 * A status line forgets what came before it.  What makes no sense is passed over:
 * that is as if the server had not said it.
 */
void prx_url_answer_add(struct prx_url_answer *answer, const char *line, size_t n_line);

/** prx_url_status_is_passing - may the same request be answered otherwise later? */
bool prx_url_status_is_passing(long status);

#endif
