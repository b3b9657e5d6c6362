/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims: taken by link(2), kept by a heart beat, taken over from the dead.
 *
 * To take a claim away it is renamed to a name that only we use, so that of several
 * processes one succeeds, and then looked at: where it turns out to be another one
 * than was judged, since somebody was faster, it is put back.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libdata/job/job_internal.h"
#include "libdata/progress.h"

#define TIMEOUT_MS  60000
#define BEAT_NS_MAX ((int64_t)5000000000)

static int claim_path(const struct prx_claims *claims, uint64_t i_unit,
                      struct prx_str *path)
{
    return prx_str_printf(path, "%s%06" PRIu64 ".claim", claims->folder, i_unit);
}

static bool is_ours(const struct prx_claims *claims, const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && st.st_dev == claims->dev &&
           st.st_ino == claims->ino;
}

/* Until the claims are closed: touch the card, look after the claim. */
static void *beat(void *arg)
{
    struct prx_claims *claims = arg;
    int64_t beat_ns = claims->timeout_ns / 8;

    if (beat_ns > BEAT_NS_MAX)
        beat_ns = BEAT_NS_MAX;
    pthread_mutex_lock(&claims->mutex);
    while (!claims->is_closing) {
        int64_t until_ns = prx_now_ns() + beat_ns;
        struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
        /* A beat that fails is as good as none: others may take over. */
        (void)futimens(claims->fd, NULL);
        if (claims->held && !is_ours(claims, claims->held))
            atomic_store(&claims->has_lost, true);
        pthread_cond_timedwait(&claims->closing, &claims->mutex, &until);
    }
    pthread_mutex_unlock(&claims->mutex);
    return NULL;
}

static int open_card(struct prx_claims *claims)
{
    struct prx_str path = {0};
    struct stat st;
    int rc = 0;

    PRX_GO(prx_card_init(&claims->card));
    PRX_GO(prx_str_printf(&path, "%s%s.card", claims->folder, claims->card.nonce));
    PRX_GO(prx_strdup(path.bytes, &claims->card_path));
    PRX_GO(prx_card_write(&claims->card, claims->card_path));
    claims->fd = open(claims->card_path, O_RDWR | O_CLOEXEC);
    if (claims->fd < 0 || fstat(claims->fd, &st) < 0) {
        rc = prx_err_sys("%s", claims->card_path);
        goto out;
    }
    claims->dev = st.st_dev;
    claims->ino = st.st_ino;
out:
    prx_str_release(&path);
    return rc;
}

int prx_claims_open(struct prx_claims *claims, const char *folder, uint64_t n_units,
                    int timeout_ms)
{
    pthread_condattr_t monotonic;
    int rc = 0;

    *claims = (struct prx_claims){
        .folder = folder,
        .fd = -1,
        .timeout_ns = (int64_t)(timeout_ms ? timeout_ms : TIMEOUT_MS) * 1000000,
    };
    pthread_mutex_init(&claims->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&claims->closing, &monotonic);
    pthread_condattr_destroy(&monotonic);
    claims->watches = calloc(n_units + 1, sizeof(*claims->watches));
    if (!claims->watches) {
        rc = prx_err_nomem("units of work");
        goto out;
    }
    PRX_GO(open_card(claims));
    claims->has_heart = pthread_create(&claims->heart, NULL, beat, claims) == 0;
    if (!claims->has_heart)
        rc = prx_err(PRX_EIO, "no thread to show that this process lives");
out:
    if (rc < 0)
        prx_claims_close(claims);
    return rc;
}

void prx_claims_close(struct prx_claims *claims)
{
    if (!claims->folder)
        return;
    prx_claims_drop(claims);
    if (claims->has_heart) {
        pthread_mutex_lock(&claims->mutex);
        claims->is_closing = true;
        pthread_cond_signal(&claims->closing);
        pthread_mutex_unlock(&claims->mutex);
        pthread_join(claims->heart, NULL);
    }
    if (claims->fd >= 0) {
        unlink(claims->card_path);
        close(claims->fd);
    }
    free(claims->card_path);
    free(claims->watches);
    pthread_cond_destroy(&claims->closing);
    pthread_mutex_destroy(&claims->mutex);
    *claims = (struct prx_claims){.fd = -1};
}

/* Remove the claim at @path if it is the one of @nonce.  1: it was, and is gone. */
static int take_away(const struct prx_claims *claims, const char *path,
                     const char *nonce)
{
    struct prx_str aside = {0};
    struct prx_card card;
    struct timespec touched;
    int rc = 0;

    PRX_GO(prx_str_printf(&aside, "%s%s.aside", claims->folder, claims->card.nonce));
    if (rename(path, aside.bytes) < 0) {
        if (errno != ENOENT)
            rc = prx_err_sys("%s", path);
        goto out;
    }
    rc = prx_card_read(&card, aside.bytes, &touched);
    if (rc == 0 && strcmp(card.nonce, nonce) == 0)
        rc = 1;
    else if (rc == 0 && link(aside.bytes, path) < 0 && errno != EEXIST)
        rc = prx_err_sys("%s", path);
    unlink(aside.bytes);
out:
    prx_str_release(&aside);
    return rc;
}

/* Has the claim that @card is on not been touched for the time-out? */
static bool is_silent(const struct prx_claims *claims, struct prx_watch *watch,
                      const struct prx_card *card, const struct timespec *touched)
{
    int64_t now_ns = prx_now_ns();

    if (strcmp(watch->nonce, card->nonce) != 0 ||
        watch->touched.tv_sec != touched->tv_sec ||
        watch->touched.tv_nsec != touched->tv_nsec) {
        memcpy(watch->nonce, card->nonce, PRX_NONCE_BYTES);
        watch->touched = *touched;
        watch->since_ns = now_ns;
    }
    return now_ns - watch->since_ns >= claims->timeout_ns;
}

/* 1: the claim at @path was of one that is dead or silent, and is gone. */
static int evict(struct prx_claims *claims, uint64_t i_unit, const char *path,
                 char heir_of[PRX_NONCE_BYTES])
{
    struct prx_card card;
    struct timespec touched;
    int rc = prx_card_read(&card, path, &touched);

    if (rc == PRX_ENOENT) /* just given back */
        return 0;
    PRX_TRY(rc);
    bool is_dead = prx_card_is_dead(&card, &claims->card);
    if (!is_dead && !is_silent(claims, &claims->watches[i_unit], &card, &touched))
        return 0;
    rc = take_away(claims, path, card.nonce);
    if (rc == 1 && is_dead)
        memcpy(heir_of, card.nonce, PRX_NONCE_BYTES);
    return rc;
}

/* 1: ours; 0: there is one.  NFS may say so of one that it has just made for us. */
static int link_claim(const struct prx_claims *claims, const char *path)
{
    if (link(claims->card_path, path) == 0)
        return 1;
    if (errno != EEXIST)
        return prx_err_sys("%s: a hard link", path);
    return is_ours(claims, path);
}

int prx_claims_take(struct prx_claims *claims, uint64_t i_unit,
                    char heir_of[PRX_NONCE_BYTES])
{
    struct prx_str path = {0};
    int rc = 0;

    PRX_BUG_IF(claims->held);
    heir_of[0] = '\0';
    PRX_GO(claim_path(claims, i_unit, &path));
    PRX_GO(link_claim(claims, path.bytes));
    if (rc == 0) {
        PRX_GO(evict(claims, i_unit, path.bytes, heir_of));
        if (rc == 1)
            PRX_GO(link_claim(claims, path.bytes));
    }
    if (rc == 1) {
        pthread_mutex_lock(&claims->mutex);
        claims->held = path.bytes;
        path = (struct prx_str){0};
        atomic_store(&claims->has_lost, false);
        pthread_mutex_unlock(&claims->mutex);
    }
out:
    prx_str_release(&path);
    return rc;
}

bool prx_claims_has(const struct prx_claims *claims)
{
    return claims->held && is_ours(claims, claims->held);
}

void prx_claims_drop(struct prx_claims *claims)
{
    struct prx_error before;

    prx_err_save(&before);
    pthread_mutex_lock(&claims->mutex);
    char *path = claims->held;
    claims->held = NULL;
    pthread_mutex_unlock(&claims->mutex);
    if (path && is_ours(claims, path) &&
        take_away(claims, path, claims->card.nonce) < 0)
        prx_err_restore(&before); /* why it is dropped says more */
    free(path);
}
