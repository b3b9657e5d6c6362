/* SPDX-License-Identifier: Apache-2.0 */
/* Sources and LMDBs told as text. */
#include "tests/lib/tell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lmdb.h>

#include "libdata/hash.h"

char *prx_tell_source(struct prx_scratch *scratch, const char *word,
                      const struct prx_source_opts *opts)
{
    struct prx_source *source;
    struct prx_sample sample = {0};
    struct prx_str out = {0};
    uint64_t serial = 0;
    int got;

    assert_int_equal(prx_source_open(&word, 1, opts, &source), 0);
    assert_int_equal(prx_str_puts(&out, ""), 0);
    while ((got = prx_source_next(source, &sample)) == 1) {
        assert_int_equal(sample.serial, serial++);
        assert_non_null(sample.origin);
        assert_int_equal(prx_str_puts(&out, sample.key), 0);
        if (sample.reject_reason) {
            const char *reason = sample.reject_reason;
            const char *root = strstr(reason, scratch->root);
            assert_int_equal(
                prx_str_printf(&out, "! %s",
                               root ? root + strlen(scratch->root) + 1 : reason),
                0);
        } else {
            assert_int_equal(prx_sample_load(&sample), 0);
            assert_int_equal(prx_str_puts(&out, ":"), 0);
        }
        for (size_t i = 0; i < sample.n_fields && !sample.reject_reason; i++)
            assert_int_equal(prx_str_printf(&out, " %s=%.*s", sample.fields[i].name,
                                            (int)sample.fields[i].n_bytes,
                                            (char *)sample.fields[i].bytes->bytes),
                             0);
        assert_int_equal(prx_str_puts(&out, "\n"), 0);
    }
    assert_int_equal(got, 0);
    prx_sample_release(&sample);
    prx_source_close(source);
    return out.bytes;
}

/* lmdb.h's functions return 0, or what is wrong. */
static void need(int code)
{
    if (code != 0)
        fail_msg("LMDB: %s", mdb_strerror(code));
}

char *prx_tell_lmdb(const char *path)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val name, value;
    struct prx_str out = {0};
    char hash[PRX_HASH_HEX_BYTES];
    int code;

    need(mdb_env_create(&env));
    need(mdb_env_open(env, path, MDB_RDONLY, 0));
    need(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn));
    need(mdb_dbi_open(txn, NULL, 0, &dbi));
    need(mdb_cursor_open(txn, dbi, &cursor));
    assert_int_equal(prx_str_puts(&out, ""), 0);
    while ((code = mdb_cursor_get(cursor, &name, &value, MDB_NEXT)) == 0) {
        prx_hash_hex(value.mv_data, value.mv_size, hash);
        assert_int_equal(prx_str_printf(&out, "%.*s %zu %s\n", (int)name.mv_size,
                                        (char *)name.mv_data, value.mv_size, hash),
                         0);
    }
    assert_int_equal(code, MDB_NOTFOUND);
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return out.bytes;
}
