/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One object at a URL, in as many tries as it takes.
 *
 *              begin_try                  the body's end
 *     waiting ──────────▶ trying ─────────────────────────▶ done
 *        ▲                  │  │
 *        └──────────────────┘  └─────▶ failed: prx_url_read() has said so
 *         a cut, a stall, 429, 5xx     404, another version, too many tries, …
 *
 * All work is done within prx_url_read(): curl's multi interface is turned while
 * there are no bytes to give, at most 100 ms at a time, so that a canceled run does
 * not wait.  Between calls at most N_PENDING_BYTES lie here (curl is paused), and
 * what the kernel's buffers hold.
 *
 * 1. seen hashes bytes [0, n_in) of the object, which is what has been given out or
 *    is pending.  A try either begins at n_in, by a range that the server confirms,
 *    or at 0, and then its first n_in bytes must have seen's hash.
 * 2. No byte is taken before the answer's head has been judged.
 */
#include "libdata/url.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "libdata/fetch/url_answer_internal.h"
#include "libdata/fetch/url_internal.h"
#include "libdata/hash.h"
#include "libdata/progress.h"

#define N_PENDING_BYTES  ((size_t)256 << 10)
#define N_PROGRESS_BYTES ((uint64_t)1 << 20) /* of a try that was worth it */
#define N_REDIRECTS_MAX  10L
#define N_TRIES          8
#define WAIT_MS          500
#define WAIT_MAX_MS      120000
#define CONNECT_MS       20000
#define STALL_MS         30000
#define SLOW_BYTES_S     1024 /* a second; less is a stall */
#define TURN_MS          100

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

    int n_tries; /* without progress */
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

static pthread_once_t is_curl_up = PTHREAD_ONCE_INIT;

static void set_up_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

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
    url->rc = prx_err(PRX_EIO, "%s: changed while it was being read: %s", url->name,
                      how);
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
    if (url->pending.n_bytes >= N_PENDING_BYTES) {
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

static void set_options(struct prx_url *url)
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

static int begin_try(struct prx_url *url)
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

static int stop_try(struct prx_url *url)
{
    url->is_trying = false;
    curl_multi_remove_handle(url->multi, url->easy);
    return 0;
}

/* Half of twice as long as last time, the rest by chance: several that failed
 * together do not come back together. */
static int64_t wait_ms(const struct prx_url *url)
{
    int64_t max_ms = url->opts.wait_max_ms, ms = url->opts.wait_ms;
    curl_off_t asked_s = 0;

    for (int i = 1; i < url->n_tries && ms < max_ms; i++)
        ms *= 2;
    uint64_t draw = prx_hash_u64(url->url, strlen(url->url),
                                 (uint64_t)getpid() * 64 + (uint64_t)url->n_tries);
    ms = ms / 2 + (int64_t)(draw % (uint64_t)(ms / 2 + 1));
    curl_easy_getinfo(url->easy, CURLINFO_RETRY_AFTER, &asked_s);
    if (asked_s > max_ms / 1000)
        return max_ms;
    return ms > asked_s * 1000 ? (ms < max_ms ? ms : max_ms) : asked_s * 1000;
}

static int try_again(struct prx_url *url, const char *why)
{
    if (url->n_new >= N_PROGRESS_BYTES)
        url->n_tries = 0;
    if (++url->n_tries >= url->opts.n_tries_max)
        return prx_err(PRX_EIO, "%s: byte %llu: %s (%d tries)", url->name,
                       (unsigned long long)url->n_in, why, url->n_tries);
    url->begin_ns = prx_now_ns() + wait_ms(url) * 1000000;
    return 0;
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
static int finish_body(struct prx_url *url)
{
    const struct prx_url_id *id = &url->id;

    if (url->n_again > 0)
        return changed(url, "it has become shorter");
    if (id->has_n_bytes && url->n_in < id->n_bytes)
        return try_again(url, "the server sends less than it said");
    url->is_done = true;
    return 0;
}

static int end_try(struct prx_url *url, CURLcode code)
{
    bool is_answered = code == CURLE_OK || code == CURLE_WRITE_ERROR;
    char why[CURL_ERROR_SIZE + 32];
    long status = 0;

    if (is_answered && is_wanted(url) && url->is_probe) {
        url->is_done = true;
        return 0;
    }
    if (url->rc < 0)
        return url->rc;
    if (url->is_refused)
        return prx_err(PRX_EINVAL, "%s: leads to a private address", url->name);
    if (code == CURLE_OUT_OF_MEMORY)
        return prx_err_nomem("a transfer");
    if (code == CURLE_OK && url->is_judged)
        return finish_body(url);
    curl_easy_getinfo(url->easy, CURLINFO_RESPONSE_CODE, &status);
    if (is_answered)
        snprintf(why, sizeof(why), "the server answers %ld", status);
    else
        snprintf(why, sizeof(why), "%s",
                 *url->curl_text ? url->curl_text : curl_easy_strerror(code));
    if (is_final(code))
        return prx_err(PRX_EIO, "%s: %s", url->name, why);
    return try_again(url, why);
}

/* --- turns ------------------------------------------------------------------ */

static int check_canceled(const struct prx_url *url)
{
    if (url->opts.is_canceled && url->opts.is_canceled(url->opts.ctx))
        return prx_err(PRX_ECANCELED, "%s: canceled", url->name);
    return 0;
}

/* Wait for the network, and see that it is not waited for in vain. */
static int wait_for_bytes(struct prx_url *url)
{
    int64_t stall_ms = url->opts.stall_timeout_ms;
    int64_t before_ns = prx_now_ns();

    if (curl_multi_poll(url->multi, NULL, 0, TURN_MS, NULL) != CURLM_OK)
        return prx_err(PRX_EIO, "%s: waiting for the network failed", url->name);
    url->window_ns += prx_now_ns() - before_ns;
    if (url->window_ns < stall_ms * 1000000)
        return 0;
    bool is_slow = url->window_bytes < (uint64_t)(stall_ms * SLOW_BYTES_S / 1000);
    url->window_ns = 0;
    url->window_bytes = 0;
    if (!is_slow)
        return 0;
    PRX_TRY(stop_try(url));
    return try_again(url, "the server has nearly stopped sending");
}

static int wait_for_try(struct prx_url *url)
{
    int64_t left_ms = (url->begin_ns - prx_now_ns()) / 1000000;

    if (left_ms <= 0)
        return begin_try(url);
    if (curl_multi_poll(url->multi, NULL, 0, left_ms < TURN_MS ? (int)left_ms : TURN_MS,
                        NULL) != CURLM_OK)
        return prx_err(PRX_EIO, "%s: waiting failed", url->name);
    return 0;
}

static int turn(struct prx_url *url)
{
    int n_running, n_left;
    CURLMsg *told;

    PRX_TRY(check_canceled(url));
    if (!url->is_trying)
        return wait_for_try(url);
    if (url->is_paused) {
        url->is_paused = false;
        curl_easy_pause(url->easy, CURLPAUSE_CONT);
    }
    if (curl_multi_perform(url->multi, &n_running) != CURLM_OK)
        return prx_err(PRX_EIO, "%s: the transfer failed", url->name);
    while ((told = curl_multi_info_read(url->multi, &n_left))) {
        CURLcode code = told->data.result;
        if (told->msg != CURLMSG_DONE)
            continue;
        int rc = end_try(url, code);
        PRX_TRY(stop_try(url));
        return rc;
    }
    return url->pending.n_bytes > 0 ? 0 : wait_for_bytes(url);
}

int prx_url_read(struct prx_url *url, void *bytes, size_t n_max, size_t *n_got)
{
    *n_got = 0;
    while (url->pending.n_bytes == 0) {
        if (url->is_done)
            return 0;
        PRX_TRY(turn(url));
    }
    size_t n_left = url->pending.n_bytes - url->n_given;
    *n_got = n_left < n_max ? n_left : n_max;
    memcpy(bytes, url->pending.bytes + url->n_given, *n_got);
    url->n_given += *n_got;
    if (url->n_given == url->pending.n_bytes) {
        prx_str_reset(&url->pending);
        url->n_given = 0;
    }
    return 0;
}

/* --- life ------------------------------------------------------------------- */

static void set_defaults(struct prx_url_opts *opts)
{
    opts->n_tries_max = opts->n_tries_max ? opts->n_tries_max : N_TRIES;
    opts->wait_ms = opts->wait_ms ? opts->wait_ms : WAIT_MS;
    opts->wait_max_ms = opts->wait_max_ms ? opts->wait_max_ms : WAIT_MAX_MS;
    opts->connect_timeout_ms =
        opts->connect_timeout_ms ? opts->connect_timeout_ms : CONNECT_MS;
    opts->stall_timeout_ms = opts->stall_timeout_ms ? opts->stall_timeout_ms : STALL_MS;
}

int prx_url_open(const char *text, const struct prx_url_opts *opts,
                 const struct prx_url_id *want, struct prx_url **out)
{
    int rc = 0;

    if (!prx_url_is(text))
        return prx_err(PRX_EINVAL, "%s: not an http or https URL", text);
    pthread_once(&is_curl_up, set_up_curl);
    struct prx_url *url = calloc(1, sizeof(*url));
    if (!url)
        return prx_err_nomem("a URL");
    if (opts)
        url->opts = *opts;
    set_defaults(&url->opts);
    prx_url_show(text, url->name, sizeof(url->name));
    if (want) {
        url->id = *want;
        url->has_id = true;
    }
    PRX_GO(prx_strdup(text, &url->url));
    url->url[strcspn(url->url, "#")] = '\0';
    PRX_GO(prx_hasher_new(&url->seen));
    PRX_GO(prx_hasher_new(&url->again));
    url->easy = curl_easy_init();
    url->multi = curl_multi_init();
    if (!url->easy || !url->multi) {
        rc = prx_err_nomem("a transfer");
        goto out;
    }
    set_options(url);
    *out = url;
    url = NULL;
out:
    prx_url_close(url);
    return rc;
}

const struct prx_url_id *prx_url_id(const struct prx_url *url)
{
    return &url->id;
}

void prx_url_close(struct prx_url *url)
{
    if (!url)
        return;
    if (url->is_trying)
        curl_multi_remove_handle(url->multi, url->easy);
    curl_easy_cleanup(url->easy);
    curl_multi_cleanup(url->multi);
    curl_slist_free_all(url->headers);
    prx_hasher_free(url->seen);
    prx_hasher_free(url->again);
    prx_str_release(&url->pending);
    free(url->url);
    free(url);
}

int prx_url_probe(const char *text, const struct prx_url_opts *opts,
                  struct prx_url_id *out)
{
    struct prx_url *url = NULL;
    int rc = 0;

    PRX_TRY(prx_url_open(text, opts, NULL, &url));
    url->is_probe = true;
    while (!url->is_done)
        PRX_GO(turn(url));
    *out = url->id;
out:
    prx_url_close(url);
    return rc;
}

int prx_url_get(const char *text, const struct prx_url_opts *opts, uint64_t n_bytes_max,
                struct prx_buf **out)
{
    struct prx_url *url = NULL;
    struct prx_str bytes = {0};
    size_t n_got;
    int rc = 0;

    PRX_TRY(prx_url_open(text, opts, NULL, &url));
    do {
        PRX_GO(prx_str_reserve(&bytes, N_PENDING_BYTES));
        PRX_GO(prx_url_read(url, bytes.bytes + bytes.n_bytes, N_PENDING_BYTES, &n_got));
        bytes.n_bytes += n_got;
        if (bytes.n_bytes > n_bytes_max) {
            rc = prx_err(PRX_EINVAL, "%s: larger than %llu bytes", url->name,
                         (unsigned long long)n_bytes_max);
            goto out;
        }
    } while (n_got > 0);
    bytes.bytes[bytes.n_bytes] = '\0';
    PRX_GO(prx_str_take(&bytes, out));
out:
    prx_str_release(&bytes);
    prx_url_close(url);
    return rc;
}
