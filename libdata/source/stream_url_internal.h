/* SPDX-License-Identifier: Apache-2.0 */
/* stream_url_internal.h - what a URL's fragment says of the bytes there. */
#ifndef PRX_STREAM_URL_INTERNAL_H
#define PRX_STREAM_URL_INTERNAL_H

#include "libdata/buf.h"
#include "libdata/hash.h"
#include "libdata/source/stream_internal.h"
#include "libdata/url.h"

/* "#bytes=N&xxh128=HEX", either or both. */
struct prx_url_pin {
    bool has_n_bytes;
    uint64_t n_bytes;
    char xxh128[PRX_HASH_HEX_BYTES]; /* "" where it is not known */
};

/** prx_url_pin_parse - what @url pins. Errors: PRX_EINVAL (another fragment). */
PRX_MUST_USE int prx_url_pin_parse(struct prx_url_pin *pin, const char *url);

/** prx_url_pin_format - add the fragment that says @pin to @out. */
PRX_MUST_USE int prx_url_pin_format(const struct prx_url_pin *pin, struct prx_str *out);

/**
 * prx_stream_url - the object at @url, which must be what it is pinned to.
 *
 * Other bytes are PRX_ECORRUPT, at the end at the latest.
 * @id: the version it must be, copied; or NULL.
 */
PRX_MUST_USE int prx_stream_url(const char *url, const struct prx_url_id *id,
                                struct prx_stream **out);

#endif
