/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint_internal.h - the steps of a checkpoint's life that its files share. */
#ifndef PRX_CHECKPOINT_INTERNAL_H
#define PRX_CHECKPOINT_INTERNAL_H

#include "libdata/err.h"

/* Sum every file below @dir into @dir/manifest.json, and make all names durable. */
PRX_MUST_USE int prx_checkpoint_manifest_write(const char *dir);

/* Take the name from the checkpoint at @path, then remove it. */
PRX_MUST_USE int prx_checkpoint_remove(const char *path);

#endif
