/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which keys come twice, however many there are, in bounded memory.
 *
 * Every key goes to an unlinked temporary file, behind its hash.  At the end the file
 * is read as often as needed for the hashes of one reading, those in one range, to
 * fit in memory, where they are sorted; what has the same hash is then compared.  So
 * a key costs 16 bytes and its length of disk, and in its reading 16 bytes of memory.
 *
 *     record = hash u64, i_shard u32, n_key u16, is_good u8, key, NUL
 *
 * Samples of one key are one group.  A good one is a duplicate of the first good one
 * before it; and whatever it is, of the one before it in its own shard, since neither
 * a reader nor a skip list can tell those apart.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdata/hash.h"
#include "libdata/outfile.h"
#include "libdata/sample.h"
#include "libdata/verify/verify_internal.h"

#define NOBODY UINT32_MAX

struct record {
    uint64_t hash;
    uint32_t i_shard;
    uint16_t n_key;
    uint8_t is_good;
    char key[PRX_KEY_BYTES_MAX + 1];
};

struct place {
    uint64_t hash;
    uint64_t at_bytes; /* of the record; also the order in which they came */
};

/* A key that comes twice. */
struct twin {
    uint64_t at_bytes;
    uint32_t i_first_shard;
};

/* The samples of one key seen so far. */
struct head {
    char *key;
    uint32_t i_first_good, i_last;
};

struct verify_keys {
    FILE *spool;
    char *folder;
    struct prx_paths shards;
    uint64_t n_keys, n_keys_a_pass;

    /* Of one pass. */
    struct place *places;
    size_t n_places, cap_places;
    struct twin *twins;
    size_t n_twins, cap_twins;
    struct head *heads; /* of one hash */
    size_t n_heads, cap_heads;
};

static int failed(const struct verify_keys *keys)
{
    return prx_err_sys("keys kept in %s", keys->folder);
}

int prx_verify_keys_new(const char *folder, uint64_t n_keys_a_pass,
                        struct verify_keys **out)
{
    struct verify_keys *keys = calloc(1, sizeof(*keys));
    int fd = -1, rc = 0;

    if (!keys)
        return prx_err_nomem("keys");
    keys->n_keys_a_pass = n_keys_a_pass;
    PRX_GO(prx_strdup(folder, &keys->folder));
    PRX_GO(prx_temp_open(folder, &fd));
    keys->spool = fdopen(fd, "w+");
    if (!keys->spool)
        PRX_GO(failed(keys));
    fd = -1;
    *out = keys;
    keys = NULL;
out:
    if (fd >= 0)
        close(fd);
    prx_verify_keys_free(keys);
    return rc;
}

static void forget_heads(struct verify_keys *keys)
{
    while (keys->n_heads > 0)
        free(keys->heads[--keys->n_heads].key);
}

void prx_verify_keys_free(struct verify_keys *keys)
{
    if (!keys)
        return;
    forget_heads(keys);
    if (keys->spool)
        fclose(keys->spool);
    prx_paths_release(&keys->shards);
    free(keys->places);
    free(keys->twins);
    free(keys->heads);
    free(keys->folder);
    free(keys);
}

/* Samples come shard by shard. */
static int find_shard(struct verify_keys *keys, const char *shard, uint32_t *out)
{
    size_t n = keys->shards.n_paths;

    if (n == 0 || strcmp(keys->shards.paths[n - 1], shard) != 0)
        PRX_TRY(prx_paths_add(&keys->shards, shard));
    *out = (uint32_t)(keys->shards.n_paths - 1);
    return 0;
}

static bool put(struct verify_keys *keys, const void *bytes, size_t n_bytes)
{
    return fwrite(bytes, n_bytes, 1, keys->spool) == 1;
}

int prx_verify_keys_add(struct verify_keys *keys, const char *shard, const char *key,
                        bool is_good)
{
    size_t n_key = strlen(key);
    uint64_t hash = prx_hash_u64(key, n_key, 0);
    uint16_t n_key_16 = (uint16_t)n_key;
    uint8_t is_good_8 = is_good;
    uint32_t i_shard;

    PRX_BUG_IF(n_key > PRX_KEY_BYTES_MAX);
    PRX_TRY(find_shard(keys, shard, &i_shard));
    if (!put(keys, &hash, sizeof(hash)) || !put(keys, &i_shard, sizeof(i_shard)) ||
        !put(keys, &n_key_16, sizeof(n_key_16)) ||
        !put(keys, &is_good_8, sizeof(is_good_8)) || !put(keys, key, n_key + 1))
        return failed(keys);
    keys->n_keys++;
    return 0;
}

/* The record where the spool stands; it is our own, in a file without a name. */
static int get_record(struct verify_keys *keys, struct record *record,
                      uint64_t *n_bytes)
{
    FILE *spool = keys->spool;

    if (fread(&record->hash, sizeof(record->hash), 1, spool) != 1 ||
        fread(&record->i_shard, sizeof(record->i_shard), 1, spool) != 1 ||
        fread(&record->n_key, sizeof(record->n_key), 1, spool) != 1 ||
        fread(&record->is_good, sizeof(record->is_good), 1, spool) != 1 ||
        fread(record->key, (size_t)record->n_key + 1, 1, spool) != 1)
        return ferror(spool) ? failed(keys) : prx_err(PRX_EIO, "keys are cut off");
    *n_bytes = 15 + (uint64_t)record->n_key + 1;
    return 0;
}

static int get_record_at(struct verify_keys *keys, uint64_t at_bytes,
                         struct record *record)
{
    uint64_t n_bytes;

    if (fseeko(keys->spool, (off_t)at_bytes, SEEK_SET) < 0)
        return failed(keys);
    return get_record(keys, record, &n_bytes);
}

/* Room for one more of @n elements; NULL and a failure where there is none. */
static void *grow(void *array, size_t n, size_t *cap, size_t n_element_bytes)
{
    if (n < *cap)
        return array;
    size_t n_more = *cap ? *cap * 2 : 256;
    void *grown = realloc(array, n_more * n_element_bytes);
    if (!grown) {
        prx_err_nomem("keys");
        return NULL;
    }
    *cap = n_more;
    return grown;
}

#define GROW(keys, what)                                                   \
 do {                                                                      \
  void *grown_ = grow((keys)->what, (keys)->n_##what, &(keys)->cap_##what, \
                      sizeof(*(keys)->what));                              \
  if (!grown_)                                                             \
   return PRX_ENOMEM;                                                      \
  (keys)->what = grown_;                                                   \
 } while (0)

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->at_bytes < y->at_bytes ? -1 : x->at_bytes > y->at_bytes;
}

static int compare_twins(const void *a, const void *b)
{
    const struct twin *x = a, *y = b;

    return x->at_bytes < y->at_bytes ? -1 : x->at_bytes > y->at_bytes;
}

/* All places with hashes of range @i_pass. */
static int gather(struct verify_keys *keys, uint64_t i_pass, uint64_t n_passes)
{
    struct record record;
    uint64_t at_bytes = 0, n_bytes;

    keys->n_places = 0;
    if (fseeko(keys->spool, 0, SEEK_SET) < 0)
        return failed(keys);
    for (uint64_t i = 0; i < keys->n_keys; i++, at_bytes += n_bytes) {
        PRX_TRY(get_record(keys, &record, &n_bytes));
        if ((record.hash >> 32) * n_passes >> 32 != i_pass)
            continue;
        GROW(keys, places);
        keys->places[keys->n_places++] = (struct place){record.hash, at_bytes};
    }
    if (keys->n_places > 0)
        qsort(keys->places, keys->n_places, sizeof(*keys->places), compare_places);
    return 0;
}

static int find_head(struct verify_keys *keys, const char *key, struct head **out)
{
    struct head head = {.i_first_good = NOBODY, .i_last = NOBODY};

    for (size_t i = 0; i < keys->n_heads; i++) {
        *out = &keys->heads[i];
        if (strcmp((*out)->key, key) == 0)
            return 0;
    }
    GROW(keys, heads);
    PRX_TRY(prx_strdup(key, &head.key));
    *out = &keys->heads[keys->n_heads++];
    **out = head;
    return 0;
}

/* Places [i, i_end) have one hash, which nearly always means one key. */
static int compare_group(struct verify_keys *keys, size_t i, size_t i_end)
{
    struct record record;
    struct head *head;

    forget_heads(keys);
    for (; i < i_end; i++) {
        uint64_t at_bytes = keys->places[i].at_bytes;
        PRX_TRY(get_record_at(keys, at_bytes, &record));
        PRX_TRY(find_head(keys, record.key, &head));
        uint32_t i_first = head->i_last == record.i_shard ? record.i_shard
                           : record.is_good               ? head->i_first_good
                                                          : NOBODY;
        if (i_first != NOBODY) {
            GROW(keys, twins);
            keys->twins[keys->n_twins++] = (struct twin){at_bytes, i_first};
        }
        head->i_last = record.i_shard;
        if (record.is_good && head->i_first_good == NOBODY)
            head->i_first_good = record.i_shard;
    }
    return 0;
}

int prx_verify_keys_each(struct verify_keys *keys,
                         int (*fn)(void *ctx, const char *shard, const char *key,
                                   const char *first_shard),
                         void *ctx)
{
    uint64_t n_passes = keys->n_keys / keys->n_keys_a_pass + 1;
    struct record record;

    for (uint64_t i_pass = 0; i_pass < n_passes; i_pass++) {
        keys->n_twins = 0;
        PRX_TRY(gather(keys, i_pass, n_passes));
        for (size_t i = 0, i_end; i < keys->n_places; i = i_end) {
            for (i_end = i + 1; i_end < keys->n_places; i_end++)
                if (keys->places[i_end].hash != keys->places[i].hash)
                    break;
            if (i_end - i > 1)
                PRX_TRY(compare_group(keys, i, i_end));
        }
        if (keys->n_twins > 0)
            qsort(keys->twins, keys->n_twins, sizeof(*keys->twins), compare_twins);
        for (size_t i = 0; i < keys->n_twins; i++) {
            const struct twin *twin = &keys->twins[i];
            PRX_TRY(get_record_at(keys, twin->at_bytes, &record));
            int rc = fn(ctx, keys->shards.paths[record.i_shard], record.key,
                        keys->shards.paths[twin->i_first_shard]);
            PRX_TRY(rc);
        }
    }
    return 0;
}
