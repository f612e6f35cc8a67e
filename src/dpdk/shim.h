/* What of DPDK the director uses: the headers, and in C what Rust cannot say or what differs between DPDK's releases (22.11 to 24.11).
 * src/dpdk/build.rs turns this file into Rust declarations; functions here and DPDK's inline ones get a real symbol each. */
#define _GNU_SOURCE
#define ALLOW_EXPERIMENTAL_API
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_thash.h>
#include <rte_version.h>

/* DPDK's own errno: a thread-local variable behind a macro. */
static inline int ulvs_errno(void)
{
	return rte_errno;
}

/* The release that is running, for the log; it may be newer than the headers. */
static inline const char *ulvs_version(void)
{
	return rte_version();
}

/* A port's link. struct rte_eth_link has bit fields, and since 23.11 an anonymous union around them. Returns 0 or a negative errno. */
static inline int ulvs_link(uint16_t port, uint32_t *speed_mbps, int *is_up)
{
	struct rte_eth_link link = {0};
	int status = rte_eth_link_get_nowait(port, &link);

	*speed_mbps = link.link_speed;
	*is_up = link.link_status == RTE_ETH_LINK_UP;
	return status;
}

/* Places in struct rte_mbuf, against which src/dpdk/mbuf.rs checks its own declaration: in DPDK's the unions' names change. */
enum ulvs_mbuf_layout {
	ULVS_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	ULVS_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	ULVS_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	ULVS_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	ULVS_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	ULVS_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	ULVS_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	ULVS_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	ULVS_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	ULVS_MBUF_POOL = offsetof(struct rte_mbuf, pool),
	ULVS_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	ULVS_MBUF_HASH = offsetof(struct rte_mbuf, hash),
	ULVS_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	ULVS_MBUF_SIZE = sizeof(struct rte_mbuf),
};

/* Macros that bindgen cannot evaluate. */
static const uint64_t ULVS_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t ULVS_RX_HAS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t ULVS_RX_IP_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t ULVS_RX_IP_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t ULVS_RX_IP_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t ULVS_RX_L4_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t ULVS_RX_L4_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;
static const uint64_t ULVS_RX_L4_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t ULVS_TX_IS_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t ULVS_TX_IS_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t ULVS_TX_TCP = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t ULVS_TX_UDP = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t ULVS_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint32_t ULVS_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS;
static const uint32_t ULVS_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS;
static const uint64_t ULVS_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t ULVS_RX_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t ULVS_RX_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t ULVS_RX_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t ULVS_RX_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t ULVS_TX_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t ULVS_TX_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t ULVS_TX_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t ULVS_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t ULVS_TX_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t ULVS_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t ULVS_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t ULVS_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t ULVS_RSS_SOURCE_ONLY = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L4_SRC_ONLY;
static const uint64_t ULVS_RSS_DESTINATION_ONLY = RTE_ETH_RSS_L3_DST_ONLY | RTE_ETH_RSS_L4_DST_ONLY;
static const uint32_t ULVS_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint32_t ULVS_RETA_GROUP = RTE_ETH_RETA_GROUP_SIZE;
static const int ULVS_VLAN_STRIP = RTE_ETH_VLAN_STRIP_OFFLOAD;
static const uint32_t ULVS_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const int ULVS_ANY_SOCKET = SOCKET_ID_ANY;
static const uint32_t ULVS_CACHE_LIMIT = RTE_MEMPOOL_CACHE_MAX_SIZE;
