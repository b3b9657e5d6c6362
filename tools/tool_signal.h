/* SPDX-License-Identifier: Apache-2.0 */
/* tool_signal.h - being asked to stop, or to save. */
#ifndef PRX_TOOLS_TOOL_SIGNAL_H
#define PRX_TOOLS_TOOL_SIGNAL_H

#include <stdbool.h>

/** tool_signal - SIGINT or SIGTERM once one has come, 0 before.  Loops look at it. */
int tool_signal(void);

/** tool_signal_set - take a signal that came to another process of the same work. */
void tool_signal_set(int number);

/** tool_save_wanted - has SIGUSR1 come since this was asked last? */
bool tool_save_wanted(void);

/**
 * tool_catch_signals - from here on; called once, before any thread begins.
 *
 * @saves: SIGUSR1 too; otherwise it ends the program, as it does any other.
 */
void tool_catch_signals(bool saves);

#endif
