/* SPDX-License-Identifier: Apache-2.0 */
/*
 * url.h - the bytes at an http or https URL, however often the way to them breaks.
 *
 * A prx_url is one object, read from its first byte to its last.  What breaks on the
 * way is mended inside prx_url_read(): after a cut the rest is asked for by a range
 * request that holds for the same version of the object only; a server that is busy
 * is asked again, later and later, and no sooner than it says.  A try that brings at
 * least 1 MiB starts the count of tries anew.
 *
 * Bytes of two versions are never mixed: length and ETag (or else the date of the last
 * change) must stay; where a server sends everything again, what was read already
 * must have the same hash.  Without ETag and date everything is asked for again.
 *
 * Never: a body in a content encoding, a redirection to anything but http and https,
 * or from https to http, a certificate that does not verify.
 *
 * Messages name the URL without its user, password, query and fragment.
 *
 * The environment is heeded as by curl(1): http_proxy, https_proxy, no_proxy;
 * CURL_CA_BUNDLE, SSL_CERT_FILE and SSL_CERT_DIR for certificates.
 *
 * One thread at a time for each prx_url; several in several threads.
 */
#ifndef PRX_LIBDATA_URL_H
#define PRX_LIBDATA_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libdata/buf.h"
#include "libdata/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct prx_url;

struct prx_url_opts {
    /*
     * The URL was found in data, not typed by the user: no private, loopback,
     * link-local or multicast address is connected to, whatever its name resolves
     * to.  A URL that the user typed may lead there, but not by a redirection from
     * a public address.  (Nothing from data comes through a proxy that has a
     * private address.)
     */
    bool is_from_data;
    int n_tries_max;        /* in a row, without progress; 0 = 8 */
    int wait_ms;            /* before the second try, doubled from then on; 0 = 500 */
    int wait_max_ms;        /* and before any, whatever a server says; 0 = 120000 */
    int connect_timeout_ms; /* 0 = 20000 */
    /* A try ends when so much waiting has brought less than 1 KiB a second;
     * 0 = 30000. */
    int stall_timeout_ms;
    bool (*is_canceled)(void *ctx); /* asked every 100 ms of waiting; may be NULL */
    void *ctx;
};

#define PRX_URL_TAG_BYTES 256

/* What tells a version of an object from another; empty texts are not known. */
struct prx_url_id {
    bool has_n_bytes;
    uint64_t n_bytes;
    char etag[PRX_URL_TAG_BYTES]; /* with its quotes, and W/ where it is weak */
    char modified[64];            /* the date as the server wrote it */
    char type[128];               /* "text/html"; tells nothing apart */
};

/**
 * prx_url_open - make ready to read the object at @url; asks nobody yet.
 *
 * @opts: NULL for the defaults.
 * @want: the version it must be, as an earlier prx_url_probe() told; or NULL.
 * Errors: PRX_EINVAL (not an http or https URL), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_url_open(const char *url, const struct prx_url_opts *opts,
                              const struct prx_url_id *want, struct prx_url **out);

/**
 * prx_url_read - up to @n_max of the next bytes; *@n_got is 0 at the end only.
 *
 * Errors: PRX_ENOENT (404, 410), PRX_EFORMAT (a content encoding), PRX_EINVAL (an
 *         address that must not be reached), PRX_EIO (anything else that trying
 *         again does not help, or has not helped; another version), PRX_ENOMEM,
 *         PRX_ECANCELED.  After an error only prx_url_close() is of use.
 */
PRX_MUST_USE int prx_url_read(struct prx_url *url, void *bytes, size_t n_max,
                              size_t *n_got);

/** prx_url_id - what is known of the object; filled in before the first byte. */
const struct prx_url_id *prx_url_id(const struct prx_url *url);

void prx_url_close(struct prx_url *url); /* NULL is fine */

/**
 * prx_url_probe - what is at @url, asking for no more than one of its bytes.
 *
 * By a range request: URLs that are signed for reading refuse a HEAD.
 * Errors: as prx_url_read().
 */
PRX_MUST_USE int prx_url_probe(const char *url, const struct prx_url_opts *opts,
                               struct prx_url_id *out);

/**
 * prx_url_get - all bytes of a small object; PRX_EINVAL above @n_bytes_max.
 *
 * A NUL stands behind the last byte, so that text can be read as a string.
 */
PRX_MUST_USE int prx_url_get(const char *url, const struct prx_url_opts *opts,
                             uint64_t n_bytes_max, struct prx_buf **out);

/** prx_url_is - does @word begin with http:// or https://, and a host behind it? */
bool prx_url_is(const char *word);

/** prx_url_show - @url for messages, as said above; printable.  Returns @out. */
const char *prx_url_show(const char *url, char *out, size_t n_out_bytes);

/** prx_url_path_ends_with - does the path of @url, without query, end in @end? */
bool prx_url_path_ends_with(const char *url, const char *end);

/**
 * prx_url_join - add the URL of file @name, beside the object at @base, to @out.
 *
 * @name: a relative path, not yet encoded; bytes that mean something in a URL are.
 * The query of @base, which may be what grants access, is kept; its fragment not.
 */
PRX_MUST_USE int prx_url_join(const char *base, const char *name, struct prx_str *out);

#ifdef __cplusplus
}
#endif
#endif
