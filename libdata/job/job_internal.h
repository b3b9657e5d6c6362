/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job_internal.h - a job from within; cards and claims: who works on which unit.
 *
 * A card is a file that says which process it is of:
 *
 *     {"host": H, "machine": M, "nonce": N, "pid": P, "started": T}
 *
 * H is for people.  M names the running system and its process numbers: where it is
 * the reader's own, P and T (clock ticks after boot) tell whether that process is
 * still there.  A thread touches the card while its process lives.
 *
 * A claim is a hard link to a card: link(2) fails where there is one already.
 */
#ifndef PRX_JOB_INTERNAL_H
#define PRX_JOB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "libdata/buf.h"
#include "libdata/job.h"

#define PRX_NONCE_BYTES 17 /* 16 hex digits and a NUL */

struct prx_card {
    char nonce[PRX_NONCE_BYTES];
    char machine[128]; /* "" where the system does not tell */
    int64_t pid;
    uint64_t started;
};

PRX_MUST_USE int prx_card_init(struct prx_card *card);
PRX_MUST_USE int prx_card_write(const struct prx_card *card, const char *path);

/**
 * prx_card_read - read the card at @path, and when it was touched.
 *
 * The file is opened, not only looked at: that makes NFS ask its server.
 * Errors: PRX_ENOENT, PRX_ECORRUPT, PRX_EIO, PRX_ENOMEM.
 */
PRX_MUST_USE int prx_card_read(struct prx_card *card, const char *path,
                               struct timespec *touched);

/** prx_card_is_dead - is the process of @card known to be gone, by @reader's? */
bool prx_card_is_dead(const struct prx_card *card, const struct prx_card *reader);

/* How long a claim has not been touched, as far as this process has seen. */
struct prx_watch {
    char nonce[PRX_NONCE_BYTES];
    struct timespec touched;
    int64_t since_ns;
};

struct prx_claims {
    const char *folder; /* with a slash behind, borrowed */
    struct prx_card card;
    char *card_path;
    int fd;    /* of the card */
    dev_t dev; /* of the card, and of the claims that are ours */
    ino_t ino;
    int64_t timeout_ns;
    struct prx_watch *watches; /* of each unit */

    pthread_t heart;
    bool has_heart;
    pthread_mutex_t mutex; /* for the two below */
    pthread_cond_t closing;
    bool is_closing;
    char *held;           /* path of the claim that we have, or NULL */
    atomic_bool has_lost; /* it was taken over */
};

PRX_MUST_USE int prx_claims_open(struct prx_claims *claims, const char *folder,
                                 uint64_t n_units, int timeout_ms);
void prx_claims_close(struct prx_claims *claims);

/**
 * prx_claims_take - claim unit @i_unit.
 *
 * @heir_of: of whom we take it over and may use the work; "" where there is nobody.
 * Returns 1, or 0 where it is claimed.  Errors: PRX_EIO, PRX_ENOENT (the job's
 * folder has gone), PRX_ENOMEM.
 */
PRX_MUST_USE int prx_claims_take(struct prx_claims *claims, uint64_t i_unit,
                                 char heir_of[PRX_NONCE_BYTES]);

/** prx_claims_has - is what was claimed still ours, as the file system has it now? */
bool prx_claims_has(const struct prx_claims *claims);

/** prx_claims_drop - give the claim back, if it is still ours. */
void prx_claims_drop(struct prx_claims *claims);

struct prx_job {
    struct prx_job_opts opts;
    char *folder; /* of the destination, with a slash behind, or "" */
    char *base;   /* "%06d.tar" */
    char *dir;    /* of the job, with a slash behind */
    bool is_finished;
    struct prx_claims claims;
    bool *are_done; /* units that are published */
    uint64_t n_done;
    uint64_t i_next; /* the unit to look at next */

    struct prx_unit unit; /* claimed; its sink NULL: none */
    char *work;           /* unit.folder, owned */
};

/**
 * prx_job_wait - wait a moment, and call on_wait.
 *
 * @n_moments: of 100 ms, 1 at first; more the next time.
 */
PRX_MUST_USE int prx_job_wait(const struct prx_job *job, int *n_moments);

/** prx_job_format - the path "…/000012.NAME", or "…/000012" where @name is "". */
PRX_MUST_USE int prx_job_format(const struct prx_job *job, uint64_t i_unit,
                                const char *name, struct prx_str *path);

/**
 * prx_job_is_in - is @name in @folder?
 *
 * That is opened, not only looked at: so NFS asks its server.
 */
bool prx_job_is_in(const char *folder, const char *name);

/** prx_job_has_index - does the destination's index stand: is the job finished? */
bool prx_job_has_index(const struct prx_job *job);

/** prx_job_remove - remove the tree at @path; what cannot be removed stays. */
void prx_job_remove(const char *path);

#endif
