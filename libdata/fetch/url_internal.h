/* SPDX-License-Identifier: Apache-2.0 */
/* url_internal.h - a URL being read, and the one try at a time that reads it. */
#ifndef PRX_URL_INTERNAL_H
#define PRX_URL_INTERNAL_H

#include <curl/curl.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "libdata/fetch/url_answer_internal.h"
#include "libdata/hash.h"
#include "libdata/url.h"

/* Left to be read, at which curl is paused. */
#define URL_PENDING_BYTES ((size_t)256 << 10)

/**
 * prx_address_is_public - may an address that data names be connected to?
 *
 * Only what IANA's registries of special-purpose addresses (RFC 6890) call globally
 * reachable, and no multicast.  An IPv4 address inside an IPv6 one (mapped, NAT64,
 * 6to4) counts as itself.  Any family but IPv4 and IPv6 is not public.
 */
bool prx_address_is_public(const struct sockaddr *address);

struct prx_url {
    char *url;
    char name[512]; /* for messages */
    struct prx_url_opts opts;
    bool is_probe; /* one byte is asked for, and none is taken */
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers; /* of the request */
    char curl_text[CURL_ERROR_SIZE];

    struct prx_str pending;
    size_t n_given; /* of pending */
    uint64_t n_in;  /* bytes of the object that have come */
    struct prx_hasher *seen;
    struct prx_url_id id;
    bool has_id;
    bool is_done;

    int n_tries; /* ended, without progress */
    int64_t begin_ns;

    /* Of one try. */
    bool is_trying; /* easy is in multi */
    bool is_judged; /* the answer's head is read, and its body is wanted */
    bool is_paused;
    bool is_redirected;
    bool is_refused; /* an address that must not be reached */
    int rc;          /* a failure that no other try would mend */
    struct prx_url_answer answer;
    uint64_t n_again; /* bytes still to come that have been seen */
    struct prx_hasher *again;
    uint64_t n_new;        /* bytes that had not come before */
    int64_t window_ns;     /* waited, */
    uint64_t window_bytes; /* and what that has brought */
    bool starts_private;   /* the URL as typed leads to a private address */
};

/**
 * prx_url_try_init - give curl the options that all tries have in common.
 *
 * url->easy is new.
 */
void prx_url_try_init(struct prx_url *url);

/** prx_url_try_begin - ask for what is missing. Errors: PRX_ENOMEM. */
PRX_MUST_USE int prx_url_try_begin(struct prx_url *url);

/** prx_url_try_stop - hang up, if there is a try. */
void prx_url_try_stop(struct prx_url *url);

/**
 * prx_url_try_judge - what the end of a try, with curl's @code, means.
 *
 * Returns 1: all is read; 0: try again, for the reason in @why; < 0: no other try
 * would do better.
 */
PRX_MUST_USE int prx_url_try_judge(struct prx_url *url, CURLcode code, char *why,
                                   size_t n_why);

#endif
