/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One try to read an object: the request, its answer judged, the body taken.
 *
 * 1. seen hashes bytes [0, n_in) of the object, which is what has been given out or
 *    is pending.  A try either begins at n_in, by a range that the server confirms,
 *    or at 0, and then its first n_in bytes must have seen's hash.
 * 2. No byte is taken before the answer's head has been judged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libdata/fetch/url_internal.h"

#define N_REDIRECTS_MAX 10L

/* --- what curl calls -------------------------------------------------------- */

static curl_socket_t open_socket(void *ctx, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    struct prx_url *url = ctx;

    (void)purpose;
    if (!prx_address_is_public(&address->addr)) {
        if (url->opts.is_from_data || (url->is_redirected && !url->starts_private)) {
            url->is_refused = true;
            return CURL_SOCKET_BAD;
        }
        url->starts_private |= !url->is_redirected;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t take_header(char *line, size_t size, size_t n_line, void *ctx)
{
    struct prx_url *url = ctx;

    (void)size; /* 1 */
    prx_url_answer_add(&url->answer, line, n_line);
    url->is_redirected |= url->answer.is_elsewhere;
    return n_line;
}

static int changed(struct prx_url *url, const char *how)
{
    url->rc =
        prx_err(PRX_EIO, "%s: changed while it was being read: %s", url->name, how);
    return url->rc;
}

/* Is this the version that earlier answers were about?  The first is believed. */
static int check_id(struct prx_url *url, const struct prx_url_id *now)
{
    struct prx_url_id *id = &url->id;

    if (!url->has_id)
        *id = *now;
    url->has_id = true;
    if (id->has_n_bytes && now->has_n_bytes && id->n_bytes != now->n_bytes)
        return changed(url, "it has another length");
    if (*id->etag && *now->etag) {
        if (strcmp(id->etag, now->etag) != 0)
            return changed(url, "it has another ETag");
    } else if (*id->modified && *now->modified &&
               strcmp(id->modified, now->modified) != 0) {
        return changed(url, "it has another date");
    }
    if (!id->has_n_bytes) {
        id->has_n_bytes = now->has_n_bytes;
        id->n_bytes = now->n_bytes;
    }
    memcpy(id->type, now->type, sizeof(id->type));
    return 0;
}

/* 1: the body is wanted; 0: try again; < 0. */
static int judge_answer(struct prx_url *url)
{
    struct prx_url_answer *answer = &url->answer;
    bool has_range = url->is_probe || url->n_in > 0;
    long status = 0;

    curl_easy_getinfo(url->easy, CURLINFO_RESPONSE_CODE, &status);
    if (prx_url_status_is_passing(status))
        return 0;
    /* Of an empty object not even the first byte can be asked for. */
    bool is_empty =
        status == 416 && url->is_probe && answer->has_total && answer->n_total == 0;
    if (is_empty)
        status = 206;
    if (status == 416 && url->n_in > 0)
        return changed(url, "it has become shorter");
    if (status == 404 || status == 410)
        return prx_err(PRX_ENOENT, "%s: the server answers %ld, it is not there",
                       url->name, status);
    if (status != 200 && !(status == 206 && has_range))
        return prx_err(PRX_EIO, "%s: the server answers %ld", url->name, status);
    if (*answer->encoding)
        return prx_err(PRX_EFORMAT, "%s: comes in encoding %s, which nobody asked for",
                       url->name, answer->encoding);
    if (status == 206 && !is_empty &&
        (!answer->has_range || answer->first_byte != url->n_in))
        return prx_err(PRX_EIO, "%s: the server sends another range than it was asked",
                       url->name);
    struct prx_url_id now = answer->id;
    curl_off_t n_body = -1;
    curl_easy_getinfo(url->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &n_body);
    if (status == 206) {
        now.has_n_bytes = answer->has_total;
        now.n_bytes = answer->has_total ? answer->n_total : 0;
    } else if (n_body >= 0) {
        now.has_n_bytes = true;
        now.n_bytes = (uint64_t)n_body;
    }
    PRX_TRY(check_id(url, &now));
    url->n_again = status == 200 && !url->is_probe ? url->n_in : 0;
    return 1;
}

static bool is_wanted(struct prx_url *url)
{
    if (!url->is_judged && url->rc == 0) {
        int verdict = judge_answer(url);
        url->is_judged = verdict > 0;
        url->rc = verdict < 0 ? verdict : 0;
    }
    return url->is_judged && url->rc == 0;
}

/* Bytes that have been seen, come again: [0, n_in), of which n_again are missing. */
static int check_again(struct prx_url *url, const char *bytes, size_t n_bytes)
{
    char was[PRX_HASH_HEX_BYTES], is[PRX_HASH_HEX_BYTES];

    if (url->n_again == url->n_in)
        prx_hasher_reset(url->again);
    prx_hasher_add(url->again, bytes, n_bytes);
    url->n_again -= n_bytes;
    if (url->n_again > 0)
        return 0;
    prx_hasher_hex(url->seen, was);
    prx_hasher_hex(url->again, is);
    return strcmp(was, is) == 0 ? 0 : changed(url, "it has other bytes");
}

static int take_new(struct prx_url *url, const char *bytes, size_t n_bytes)
{
    if (url->id.has_n_bytes && n_bytes > url->id.n_bytes - url->n_in)
        return changed(url, "it has become longer");
    PRX_TRY(prx_str_add(&url->pending, bytes, n_bytes));
    prx_hasher_add(url->seen, bytes, n_bytes);
    url->n_in += n_bytes;
    url->n_new += n_bytes;
    return 0;
}

static size_t take_body(char *bytes, size_t size, size_t n_bytes, void *ctx)
{
    struct prx_url *url = ctx;
    size_t n_again = 0;

    (void)size; /* 1 */
    if (url->pending.n_bytes >= URL_PENDING_BYTES) {
        url->is_paused = true;
        return CURL_WRITEFUNC_PAUSE; /* these bytes will be handed over again */
    }
    if (!is_wanted(url) || url->is_probe)
        return CURL_WRITEFUNC_ERROR;
    url->window_bytes += n_bytes;
    if (url->n_again > 0) {
        n_again = n_bytes < url->n_again ? n_bytes : (size_t)url->n_again;
        url->rc = check_again(url, bytes, n_again);
    }
    if (url->rc == 0 && n_again < n_bytes)
        url->rc = take_new(url, bytes + n_again, n_bytes - n_again);
    return url->rc < 0 ? CURL_WRITEFUNC_ERROR : n_bytes;
}

/* --- tries ------------------------------------------------------------------ */

/* Certificates from where curl(1) takes them. */
static void set_certificates(CURL *easy)
{
    const char *bundle = getenv("CURL_CA_BUNDLE"), *folder = getenv("SSL_CERT_DIR");

    if (!bundle || !*bundle)
        bundle = getenv("SSL_CERT_FILE");
    if (bundle && *bundle)
        curl_easy_setopt(easy, CURLOPT_CAINFO, bundle);
    if (folder && *folder)
        curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
}

void prx_url_try_init(struct prx_url *url)
{
    CURL *easy = url->easy;
    bool is_https = strncasecmp(url->url, "https", 5) == 0;

    curl_easy_setopt(easy, CURLOPT_URL, url->url);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, url->curl_text);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "prx");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, N_REDIRECTS_MAX);
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR,
                     is_https ? "https" : "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)url->opts.connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 128L << 10);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, url);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, url);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, url);
    set_certificates(easy);
}

static int add_request_header(struct prx_url *url, const char *name, const char *text)
{
    char line[PRX_URL_TAG_BYTES + 32];

    snprintf(line, sizeof(line), "%s: %s", name, text);
    struct curl_slist *grown = curl_slist_append(url->headers, line);
    if (!grown)
        return prx_err_nomem("a request");
    url->headers = grown;
    return 0;
}

/*
 * Ask for the rest where there is something that the server can compare; RFC 9110
 * wants a strong ETag for that, or else the date.
 */
static int set_range(struct prx_url *url)
{
    const struct prx_url_id *id = &url->id;
    bool is_strong = *id->etag == '"';
    char range[32];

    curl_easy_setopt(url->easy, CURLOPT_RANGE, NULL);
    if (url->is_probe)
        curl_easy_setopt(url->easy, CURLOPT_RANGE, "0-0");
    if (url->n_in == 0 || (!is_strong && !*id->modified))
        return 0;
    snprintf(range, sizeof(range), "%llu-", (unsigned long long)url->n_in);
    curl_easy_setopt(url->easy, CURLOPT_RANGE, range);
    return add_request_header(url, "If-Range", is_strong ? id->etag : id->modified);
}

int prx_url_try_begin(struct prx_url *url)
{
    curl_slist_free_all(url->headers);
    url->headers = NULL;
    PRX_TRY(add_request_header(url, "Accept-Encoding", "identity"));
    PRX_TRY(set_range(url));
    curl_easy_setopt(url->easy, CURLOPT_HTTPHEADER, url->headers);
    url->curl_text[0] = '\0';
    url->is_judged = url->is_paused = url->is_redirected = url->is_refused = false;
    url->answer = (struct prx_url_answer){0};
    url->n_again = url->n_new = 0;
    url->window_ns = 0;
    url->window_bytes = 0;
    if (curl_multi_add_handle(url->multi, url->easy) != CURLM_OK)
        return prx_err_nomem("a transfer");
    url->is_trying = true;
    return 0;
}

void prx_url_try_stop(struct prx_url *url)
{
    if (url->is_trying)
        curl_multi_remove_handle(url->multi, url->easy);
    url->is_trying = false;
}

/* Failures that the next try would meet again. */
static bool is_final(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_FAILED_INIT:
    case CURLE_NOT_BUILT_IN:
        return true;
    default:
        return false;
    }
}

/* The body has come to an end that curl thinks is right. */
static int judge_body(struct prx_url *url, char *why, size_t n_why)
{
    const struct prx_url_id *id = &url->id;

    if (url->n_again > 0)
        return changed(url, "it has become shorter");
    if (!id->has_n_bytes || url->n_in == id->n_bytes)
        return 1;
    snprintf(why, n_why, "the server sends less than it said");
    return 0;
}

int prx_url_try_judge(struct prx_url *url, CURLcode code, char *why, size_t n_why)
{
    bool is_answered = code == CURLE_OK || code == CURLE_WRITE_ERROR;
    long status = 0;

    if (is_answered && is_wanted(url) && url->is_probe)
        return 1;
    if (url->rc < 0)
        return url->rc;
    if (url->is_refused)
        return prx_err(PRX_EINVAL, "%s: leads to a private address", url->name);
    if (code == CURLE_OUT_OF_MEMORY)
        return prx_err_nomem("a transfer");
    if (code == CURLE_OK && url->is_judged)
        return judge_body(url, why, n_why);
    curl_easy_getinfo(url->easy, CURLINFO_RESPONSE_CODE, &status);
    if (is_answered)
        snprintf(why, n_why, "the server answers %ld", status);
    else
        snprintf(why, n_why, "%s",
                 *url->curl_text ? url->curl_text : curl_easy_strerror(code));
    if (is_final(code))
        return prx_err(PRX_EIO, "%s: %s", url->name, why);
    return 0;
}
