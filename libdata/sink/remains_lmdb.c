/* SPDX-License-Identifier: Apache-2.0 */
/* What an unfinished LMDB environment says about itself. */
#include <errno.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>

#include "libdata/lmdb_internal.h"
#include "libdata/sink/sink_internal.h"

static int read_progress(MDB_env *env, struct prx_lmdb_remains *out)
{
    MDB_val name = {strlen(PRX_LMDB_PROGRESS), (void *)(uintptr_t)PRX_LMDB_PROGRESS};
    MDB_val value;
    MDB_txn *txn = NULL;
    MDB_stat stat;
    MDB_dbi dbi;

    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (code != 0)
        return code;
    code = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (code == 0)
        code = mdb_stat(txn, dbi, &stat);
    if (code == 0)
        code = mdb_get(txn, dbi, &name, &value);
    if (code == 0 && value.mv_size == sizeof(out->n_progress))
        memcpy(&out->n_progress, value.mv_data, sizeof(out->n_progress));
    if (code == MDB_NOTFOUND) {
        out->is_complete = stat.ms_entries > 0;
        code = 0;
    }
    mdb_txn_abort(txn);
    return code;
}

/* Its map is not to be looked into where the file has been cut short. */
static bool is_cut(MDB_env *env, uint64_t n_file_bytes)
{
    MDB_envinfo info;
    MDB_stat stat;

    return mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &stat) != 0 ||
           n_file_bytes / stat.ms_psize <= info.me_last_pgno;
}

int prx_lmdb_remains_read(const char *folder, const char *data_path,
                          struct prx_lmdb_remains *out)
{
    struct stat st;
    MDB_env *env = NULL;

    *out = (struct prx_lmdb_remains){0};
    if (stat(data_path, &st) < 0)
        return errno == ENOENT ? 0 : prx_err_sys("%s", data_path);
    if (st.st_size == 0)
        return 0;
    int code = mdb_env_create(&env);
    if (code == 0)
        code = mdb_env_open(env, folder, MDB_RDONLY, 0666);
    if (code == 0 && !is_cut(env, (uint64_t)st.st_size))
        code = read_progress(env, out);
    if (env)
        mdb_env_close(env);
    return code == 0 || code == MDB_INVALID ? 0 : prx_err_lmdb(code, data_path);
}
