/* SPDX-License-Identifier: Apache-2.0 */
/* Failures of liblmdb: positive ones are errno's, negative ones its own. */
#include <errno.h>
#include <lmdb.h>

#include "libdata/lmdb_internal.h"

int prx_err_lmdb(int code, const char *path)
{
    switch (code) {
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
        return prx_err(PRX_ECORRUPT, "%s: %s", path, mdb_strerror(code));
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return prx_err(PRX_EFORMAT, "%s: %s", path, mdb_strerror(code));
    }
    if (code < 0)
        return prx_err(PRX_EIO, "%s: %s", path, mdb_strerror(code));
    errno = code;
    return prx_err_sys("%s", path);
}
