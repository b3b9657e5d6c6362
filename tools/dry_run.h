/* SPDX-License-Identifier: Apache-2.0 */
/* dry_run.h - prx-train --dry-run: parameters, memory, work, the resolved recipe. */
#ifndef PRX_TOOLS_DRY_RUN_H
#define PRX_TOOLS_DRY_RUN_H

#include "train/recipe.h"

/**
 * dry_run_print - what training @recipe, resolved, takes, to standard output.
 *
 * The numbers are comments, so that the output is a recipe.  An encoder that this
 * build lacks is a warning, and the study's sizes are taken.
 */
PRX_MUST_USE int dry_run_print(const struct prx_recipe *recipe);

#endif
