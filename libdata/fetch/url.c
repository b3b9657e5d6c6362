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
 * not wait.  Between calls at most URL_PENDING_BYTES lie here (curl is paused), and
 * what the kernel's buffers hold.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/fetch/url_internal.h"
#include "libdata/progress.h"

#define N_PROGRESS_BYTES ((uint64_t)1 << 20) /* of a try that was worth it */
#define N_TRIES          8
#define WAIT_MS          500
#define WAIT_MAX_MS      120000
#define CONNECT_MS       20000
#define STALL_MS         30000
#define SLOW_BYTES_S     1024 /* a second; less is a stall */
#define TURN_MS          100

static pthread_once_t is_curl_up = PTHREAD_ONCE_INIT;

static void set_up_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
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
    prx_url_try_stop(url);
    return try_again(url, "the server has nearly stopped sending");
}

static int wait_for_try(struct prx_url *url)
{
    int64_t left_ms = (url->begin_ns - prx_now_ns()) / 1000000;

    if (left_ms <= 0)
        return prx_url_try_begin(url);
    if (curl_multi_poll(url->multi, NULL, 0, left_ms < TURN_MS ? (int)left_ms : TURN_MS,
                        NULL) != CURLM_OK)
        return prx_err(PRX_EIO, "%s: waiting failed", url->name);
    return 0;
}

static int turn(struct prx_url *url)
{
    char why[CURL_ERROR_SIZE + 32];
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
        int rc = prx_url_try_judge(url, code, why, sizeof(why));
        prx_url_try_stop(url);
        if (rc == 0)
            return try_again(url, why);
        url->is_done = rc > 0;
        return rc < 0 ? rc : 0;
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
    prx_url_try_init(url);
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
    prx_url_try_stop(url);
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
        PRX_GO(prx_str_reserve(&bytes, URL_PENDING_BYTES));
        PRX_GO(
            prx_url_read(url, bytes.bytes + bytes.n_bytes, URL_PENDING_BYTES, &n_got));
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
