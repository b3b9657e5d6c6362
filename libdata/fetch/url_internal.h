/* SPDX-License-Identifier: Apache-2.0 */
/* url_internal.h - what the files of this folder share. */
#ifndef PRX_URL_INTERNAL_H
#define PRX_URL_INTERNAL_H

#include <stdbool.h>
#include <sys/socket.h>

/**
 * prx_address_is_public - may an address that data names be connected to?
 *
 * Only what IANA's registries of special-purpose addresses (RFC 6890) call globally
 * reachable, and no multicast.  An IPv4 address inside an IPv6 one (mapped, NAT64,
 * 6to4) counts as itself.  Any family but IPv4 and IPv6 is not public.
 */
bool prx_address_is_public(const struct sockaddr *address);

#endif
