/* SPDX-License-Identifier: Apache-2.0 */
/* backends.h - groups of tests that run once on each backend; *state is the backend. */
#ifndef PRX_TESTS_LIB_BACKENDS_H
#define PRX_TESTS_LIB_BACKENDS_H

/* Set-ups and the tear-down for cmocka_run_group_tests_name(). */
int prx_open_ref(void **state);
int prx_open_cpu(void **state); /* of two threads */
int prx_close_backend(void **state);

#endif
