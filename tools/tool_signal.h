/* SPDX-License-Identifier: Apache-2.0 */
/* tool_signal.h - being asked to stop. */
#ifndef PRX_TOOLS_TOOL_SIGNAL_H
#define PRX_TOOLS_TOOL_SIGNAL_H

/** tool_signal - SIGINT or SIGTERM once one has come, 0 before.  Loops look at it. */
int tool_signal(void);

/** tool_catch_signals - from here on; called once, before any thread begins. */
void tool_catch_signals(void);

#endif
