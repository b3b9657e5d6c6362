/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes as one trainer: who they are, and sums of tensors through a
 * bucket on the host.
 *
 * The bucket is filled with parameter after parameter, large ones in parts, so that
 * many small tensors cost one message and a large one costs no memory.
 */
#include "train/dist.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libdata/hash.h"
#include "train/run/dist_internal.h"

#define BUCKET_BYTES ((size_t)4 << 20)

/* --- who is there --------------------------------------------------------------- */

/* A number of the environment; 0 where there is none. */
static long read_number(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (!text)
        return 0;
    long number = strtol(text, &end, 10);
    return *end ? 0 : number;
}

/* How many processes a launcher has started, and which of them this is. */
static void ask_launcher(long *world, long *rank)
{
    static const char *const names[][2] = {
        {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
        {"PMI_SIZE", "PMI_RANK"},
        {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        *world = read_number(names[i][0]);
        *rank = read_number(names[i][1]);
        if (*world > 0)
            return;
    }
    *world = 1;
    *rank = 0;
}

int prx_dist_open(struct prx_dist *dist)
{
    long world, rank;

    *dist = (struct prx_dist){.world = 1, .teller = -1};
    ask_launcher(&world, &rank);
    if (world == 1)
        return 0;
    int rc = prx_dist_mpi_open(dist);
    if (rc == 0 && dist->world != world)
        rc = prx_err(PRX_EINVAL,
                     "%ld processes were started, but MPI knows of %d: the launcher is"
                     " not that of this build's MPI, or does not offer it one",
                     world, dist->world);
    if (rc < 0 && rank > 0)
        prx_err_clear();
    if (rc == 0) {
        dist->bucket = malloc(BUCKET_BYTES);
        rc = prx_dist_agree(dist, dist->bucket ? 0 : prx_err_nomem("gradients"));
    }
    if (rc < 0)
        prx_dist_close(dist);
    return rc;
}

void prx_dist_close(struct prx_dist *dist)
{
    if (dist->ops)
        dist->ops->close();
    free(dist->bucket);
    *dist = (struct prx_dist){.world = 1, .teller = -1};
}

void prx_dist_abort(struct prx_dist *dist)
{
    if (dist->ops)
        dist->ops->abort();
}

bool prx_dist_is_alone(const struct prx_dist *dist)
{
    return !dist || !dist->ops;
}

bool prx_dist_is_first(const struct prx_dist *dist)
{
    return !dist || dist->rank == 0;
}

/* --- numbers -------------------------------------------------------------------- */

/* A failure in the high half is its rank, so that the least is the lowest rank's. */
int prx_dist_agree(struct prx_dist *dist, int rc)
{
    int64_t first = INT64_MAX;

    if (prx_dist_is_alone(dist))
        return rc < 0 ? rc : 0;
    if (rc < 0)
        first = (int64_t)((uint64_t)dist->rank << 32 | (uint32_t)rc);
    PRX_TRY(dist->ops->min(&first));
    if (first == INT64_MAX)
        return 0;
    dist->teller = (int)(first >> 32);
    if (dist->teller != dist->rank)
        prx_err_clear();
    return (int)(uint32_t)(first & UINT32_MAX);
}

int prx_dist_sum(struct prx_dist *dist, double *values, size_t n)
{
    return prx_dist_is_alone(dist) ? 0 : dist->ops->sum(values, n);
}

int prx_dist_max(struct prx_dist *dist, double *values, size_t n)
{
    return prx_dist_is_alone(dist) ? 0 : dist->ops->max(values, n);
}

int prx_dist_share(struct prx_dist *dist, void *bytes, size_t n_bytes)
{
    return prx_dist_is_alone(dist) ? 0 : dist->ops->share(bytes, n_bytes);
}

/* --- tensors -------------------------------------------------------------------- */

enum part { VALUES,
            GRADS };

/* A place in the sequence of all bytes of a store's values or gradients. */
struct place {
    size_t i_param;
    size_t i_byte;
};

/*
 * Copy bytes from @at on, at most a bucket of them, to or from @bucket; @at moves
 * behind them.  *@n_copied: 0 at the end.
 */
static int copy(struct prx_param_store *store, enum part part, struct place *at,
                bool is_into_bucket, float *bucket, size_t *n_copied)
{
    struct prx_backend *be = store->be;

    *n_copied = 0;
    while (at->i_param < store->n_params && *n_copied < BUCKET_BYTES) {
        struct prx_param *param = store->params[at->i_param];
        struct prx_tensor *tensor = part == GRADS ? &param->grad : &param->value;
        size_t n_left =
            prx_tensor_is_absent(tensor) ? 0 : prx_tensor_bytes(tensor) - at->i_byte;
        size_t n = BUCKET_BYTES - *n_copied;
        n = n < n_left ? n : n_left;
        if (n > 0) {
            /* A place in device memory: computed, and only the copy follows it. */
            char *device = (char *)tensor->data + at->i_byte;
            char *host = (char *)bucket + *n_copied;
            PRX_TRY(is_into_bucket ? be->copy_out(be, host, device, n)
                                   : be->copy_in(be, device, host, n));
        }
        *n_copied += n;
        at->i_byte += n;
        if (n == n_left)
            *at = (struct place){.i_param = at->i_param + 1};
    }
    return 0;
}

int prx_dist_sum_grads(struct prx_dist *dist, struct prx_param_store *store)
{
    struct place at = {0}, end = {0};
    size_t n = 0;

    if (prx_dist_is_alone(dist))
        return 0;
    do {
        PRX_TRY(copy(store, GRADS, &end, true, dist->bucket, &n));
        PRX_TRY(dist->ops->sum_f32(dist->bucket, n / sizeof(*dist->bucket)));
        PRX_TRY(copy(store, GRADS, &at, false, dist->bucket, &n));
    } while (n > 0);
    return 0;
}

static int digest_values(struct prx_dist *dist, struct prx_param_store *store,
                         char out[PRX_HASH_HEX_BYTES])
{
    struct prx_hasher *hasher = NULL;
    struct place at = {0};
    size_t n = 0;
    int rc = 0;

    PRX_GO(prx_hasher_new(&hasher));
    do {
        PRX_GO(copy(store, VALUES, &at, true, dist->bucket, &n));
        prx_hasher_add(hasher, dist->bucket, n);
    } while (n > 0);
    prx_hasher_hex(hasher, out);
out:
    prx_hasher_free(hasher);
    return rc;
}

int prx_dist_check_values(struct prx_dist *dist, struct prx_param_store *store)
{
    char own[PRX_HASH_HEX_BYTES] = "", first[PRX_HASH_HEX_BYTES];

    if (prx_dist_is_alone(dist))
        return 0;
    PRX_TRY(prx_dist_agree(dist, digest_values(dist, store, own)));
    memcpy(first, own, sizeof(first));
    PRX_TRY(prx_dist_share(dist, first, sizeof(first)));
    int rc = 0;
    if (strcmp(own, first) != 0)
        rc = prx_err(PRX_ECORRUPT,
                     "ranks have diverged: these are other weights than rank 0's");
    return prx_dist_agree(dist, rc);
}
