/*
 * The XDP filter: which frames of a device go to the director's AF_XDP sockets, and which stay with the kernel.
 *
 * It only looks, it changes nothing. The control side keeps the maps in step with the configuration; src/af_xdp/filter.rs is
 * its counterpart and shares the layout of every key and value here.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name
#define be16(value) ((__be16)__builtin_bswap16(value))
#define be32(value) ((__be32)__builtin_bswap32(value))
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "be16 and be32 are written for little-endian targets"
#endif

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

/* ---- maps ---- */

/* An IPv4 address is held v4-mapped (::ffff:a.b.c.d). */
struct address {
	__u32 words[4];
};

enum address_class {
	CLASS_KERNEL = 1, /* an address of the director's own kernel */
	CLASS_OWNED = 2,  /* a VIP or local address that only the director holds */
	CLASS_SHARED = 3, /* a VIP that the kernel holds too */
};

/* (address, port, protocol) of a virtual service or of a real server. */
struct endpoint {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

enum endpoint_class {
	ENDPOINT_PORT = 1,     /* this port */
	ENDPOINT_FRAGMENT = 2, /* port 0: only what carries no port because it is a later fragment */
	ENDPOINT_ANY_PORT = 3, /* port 0: every port */
};

struct port {
	__u32 first_socket; /* where the sockets of queue 0, 1, ... stand in `sockets` */
	__u32 queue_count;
	__u64 vlans[64]; /* one bit per VLAN id that is the director's; bit 0: untagged */
};

/* The sizes below are replaced when the program is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32); /* ifindex */
	__type(value, struct port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct address);
	__type(value, __u32); /* enum address_class */
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct endpoint);
	__type(value, __u32); /* enum endpoint_class */
} endpoints SEC(".maps");

enum counter { REDIRECTED, PASSED, NO_SOCKET, COUNTERS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* ---- headers ---- */

enum {
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_ARP = 0x0806,
	ETHERTYPE_VLAN = 0x8100, /* IEEE 802.1Q */
	ETHERTYPE_IPV6 = 0x86dd,
	ETHERTYPE_QINQ = 0x88a8, /* IEEE 802.1ad */
};

enum {
	PROTOCOL_HOP_BY_HOP = 0,
	PROTOCOL_ICMP = 1,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_ROUTING = 43,
	PROTOCOL_FRAGMENT = 44,
	PROTOCOL_AUTHENTICATION = 51,
	PROTOCOL_ICMPV6 = 58,
	PROTOCOL_DESTINATION_OPTIONS = 60,
	PROTOCOL_SCTP = 132,
};

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSION_HEADERS 8

struct ethernet_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
};

struct vlan_tag {
	__be16 control;
	__be16 type;
};

struct arp_header { /* of IPv4 over Ethernet, RFC 826 */
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_hardware[6];
	__be16 sender_protocol[2];
	__u8 target_hardware[6];
	__be16 target_protocol[2];
};

struct ipv4_header {
	__u8 version_and_length;
	__u8 service;
	__be16 total_length;
	__be16 identification;
	__be16 fragment;
	__u8 time_to_live;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct ipv6_header {
	__be32 version_and_flow;
	__be16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	struct address source;
	struct address destination;
};

struct extension_header {
	__u8 next_header;
	__u8 length;
	__be16 fragment; /* offset and flags, in a fragment header */
	__be32 rest;
};

struct ports_header { /* where TCP, UDP and SCTP agree */
	__be16 source;
	__be16 destination;
};

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

/* ---- parsing ---- */

/* What the decision needs to know about one IP packet, or about the one quoted in an ICMP error. */
struct packet {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 fragment;	/* belongs to a fragmented packet */
	__u8 has_ports; /* the two ports are valid */
};

INLINE void set_ipv4(struct address *address, __be32 ipv4)
{
	address->words[0] = 0;
	address->words[1] = 0;
	address->words[2] = be32(0xffff);
	address->words[3] = ipv4;
}

INLINE int is_multicast_or_broadcast(const struct address *address)
{
	if (address->words[0] == 0 && address->words[1] == 0 && address->words[2] == be32(0xffff))
		return (address->words[3] & be32(0xf0000000)) == be32(0xe0000000) || address->words[3] == 0xffffffff;
	return (address->words[0] & be32(0xff000000)) == be32(0xff000000);
}

/* What skip_extension_headers answers: the offset of the transport header, its protocol in the third byte, and these. */
#define MAX_OFFSET 0x3fff
#define IS_FRAGMENT (1u << 24)
#define NO_TRANSPORT (1u << 25)

/*
 * Follows IPv6 extension headers from `offset` (counted from the start of the frame). A global function, because the verifier
 * checks such a one by itself and once; inlined, its loop multiplied the states of everything around it beyond the limit.
 */
__attribute__((noinline)) __u32 skip_extension_headers(struct xdp_md *ctx, __u32 offset, __u32 protocol)
{
	void *end = (void *)(long)ctx->data_end;
	__u32 fragment = 0;

	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		struct extension_header *extension;
		__u32 next, length;

		if (offset > MAX_OFFSET)
			break;
		if (protocol != PROTOCOL_HOP_BY_HOP && protocol != PROTOCOL_ROUTING && protocol != PROTOCOL_DESTINATION_OPTIONS &&
		    protocol != PROTOCOL_FRAGMENT && protocol != PROTOCOL_AUTHENTICATION)
			return offset | (protocol & 0xff) << 16 | fragment;

		extension = (void *)(long)ctx->data + offset;
		if ((void *)(extension + 1) > end)
			break;
		next = extension->next_header;
		length = (extension->length + 1) * 8;
		if (protocol == PROTOCOL_AUTHENTICATION)
			length = (extension->length + 2) * 4; /* RFC 4302 section 2.2 */
		if (protocol == PROTOCOL_FRAGMENT) {
			length = sizeof(*extension);
			fragment = IS_FRAGMENT;
			if (extension->fragment & be16(0xfff8)) {
				protocol = next;
				break;
			}
		}
		protocol = next;
		offset += length;
	}
	return (protocol & 0xff) << 16 | fragment | NO_TRANSPORT;
}

/*
 * The parse functions return where the transport header starts, or NULL when it cannot be found (later fragment, truncated,
 * more extension headers than we follow). `known` tells whether the addresses could be read.
 */
INLINE void *parse_ipv4(void *cursor, void *end, struct packet *packet, int *known)
{
	struct ipv4_header *ip = cursor;

	if ((void *)(ip + 1) > end || ip->version_and_length >> 4 != 4)
		return (void *)0;
	set_ipv4(&packet->source, ip->source);
	set_ipv4(&packet->destination, ip->destination);
	packet->protocol = ip->protocol;
	packet->fragment = (ip->fragment & be16(0x3fff)) != 0;
	*known = 1;

	__u32 length = (ip->version_and_length & 0x0f) * 4;
	if (length < sizeof(*ip) || (ip->fragment & be16(0x1fff)))
		return (void *)0;
	return cursor + length;
}

INLINE void *parse_ipv6(struct xdp_md *ctx, void *cursor, void *end, struct packet *packet, int *known)
{
	struct ipv6_header *ip = cursor;

	if ((void *)(ip + 1) > end || (ip->version_and_flow & be32(0xf0000000)) != be32(0x60000000))
		return (void *)0;
	packet->source = ip->source;
	packet->destination = ip->destination;
	*known = 1;

	__u32 found = skip_extension_headers(ctx, (void *)(ip + 1) - (void *)(long)ctx->data, ip->next_header);
	packet->protocol = found >> 16;
	packet->fragment = (found & IS_FRAGMENT) != 0;
	if (found & NO_TRANSPORT)
		return (void *)0;
	return (void *)(long)ctx->data + (found & MAX_OFFSET);
}

INLINE void parse_ports(void *cursor, void *end, struct packet *packet)
{
	struct ports_header *header = cursor;

	if (!cursor || (void *)(header + 1) > end)
		return;
	if (packet->protocol != PROTOCOL_TCP && packet->protocol != PROTOCOL_UDP && packet->protocol != PROTOCOL_SCTP)
		return;
	packet->source_port = header->source;
	packet->destination_port = header->destination;
	packet->has_ports = 1;
}

/* ---- decisions: 1 is for the director, 0 for the kernel ---- */

INLINE __u32 class_of(const struct address *address)
{
	__u32 *class = bpf_map_lookup_elem(&addresses, address);

	return class ? *class : 0;
}

/* Whether a service or a real server of ours sits at this end of the packet. */
INLINE int claimed(const struct address *address, __be16 port, const struct packet *packet)
{
	struct endpoint key = { .address = *address, .port = port, .protocol = packet->protocol, .zero = 0 };
	__u32 *class;

	if (packet->has_ports && port && bpf_map_lookup_elem(&endpoints, &key))
		return 1;
	key.port = 0;
	class = bpf_map_lookup_elem(&endpoints, &key);
	if (!class)
		return 0;
	return *class == ENDPOINT_ANY_PORT || (packet->fragment && !packet->has_ports);
}

INLINE int either_end_claimed(const struct packet *packet)
{
	return claimed(&packet->source, packet->source_port, packet) ||
	       claimed(&packet->destination, packet->destination_port, packet);
}

/*
 * ARP for addresses that the kernel does not hold. What else arrives (answers to the kernel's own questions, too) is the
 * kernel's, which also resolves the director's next hops.
 */
INLINE int arp_is_ours(void *cursor, void *end)
{
	struct arp_header *arp = cursor;
	struct address target;

	if ((void *)(arp + 1) > end)
		return 0;
	if (arp->hardware_type != be16(1) || arp->protocol_type != be16(ETHERTYPE_IPV4) || arp->hardware_length != 6 ||
	    arp->protocol_length != 4)
		return 0;
	/* The address is only aligned to two bytes. */
	set_ipv4(&target, (__u32)arp->target_protocol[0] | (__u32)arp->target_protocol[1] << 16);
	return class_of(&target) == CLASS_OWNED;
}

INLINE int is_error(__u8 protocol, __u8 type)
{
	if (protocol == PROTOCOL_ICMP)
		return type == 3 || type == 4 || type == 11 || type == 12; /* RFC 792 */
	return type >= 1 && type <= 4;					   /* RFC 4443 section 2.1 */
}

INLINE int is_echo(__u8 protocol, __u8 type)
{
	if (protocol == PROTOCOL_ICMP)
		return type == 8 || type == 0;
	return type == 128 || type == 129;
}

/* RFC 4861: router solicitation and advertisement, neighbour solicitation and advertisement, redirect. */
INLINE int is_neighbour_discovery(const struct packet *packet, __u8 type)
{
	return packet->protocol == PROTOCOL_ICMPV6 && type >= 133 && type <= 137;
}

INLINE int neighbour_discovery_is_ours(struct icmp_header *icmp, void *end)
{
	struct address *target = (void *)(icmp + 1);
	struct address key;

	if (icmp->type != 135 || (void *)(target + 1) > end)
		return 0;
	key = *target;
	return class_of(&key) == CLASS_OWNED;
}

/* An ICMP error belongs to whom the packet belonged that it quotes. `unknown` is the answer when that carries no ports. */
INLINE int error_is_ours(struct xdp_md *ctx, struct icmp_header *icmp, void *end, __u8 protocol, int unknown)
{
	struct packet quoted = {};
	int known = 0;
	void *transport = protocol == PROTOCOL_ICMP ? parse_ipv4(icmp + 1, end, &quoted, &known)
						    : parse_ipv6(ctx, icmp + 1, end, &quoted, &known);

	if (!known)
		return unknown;
	parse_ports(transport, end, &quoted);
	if (either_end_claimed(&quoted))
		return 1;
	return quoted.has_ports ? 0 : unknown;
}

INLINE int packet_is_ours(struct xdp_md *ctx, void *cursor, void *end, int is_ipv4, int is_group_frame)
{
	struct packet packet = {};
	struct icmp_header *icmp = (void *)0;
	int known = 0;
	void *transport = is_ipv4 ? parse_ipv4(cursor, end, &packet, &known) : parse_ipv6(ctx, cursor, end, &packet, &known);

	if (!known)
		return 0;
	parse_ports(transport, end, &packet);
	if (transport && packet.protocol == (is_ipv4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6)) {
		icmp = transport;
		if ((void *)(icmp + 1) > end)
			icmp = (void *)0;
	}

	/* Before the test for multicast: a solicitation is sent to the solicited-node group. */
	if (icmp && is_neighbour_discovery(&packet, icmp->type))
		return neighbour_discovery_is_ours(icmp, end);
	if (is_group_frame || is_multicast_or_broadcast(&packet.destination))
		return 0;

	switch (class_of(&packet.destination)) {
	case CLASS_KERNEL:
		return 0;
	case CLASS_OWNED:
		return 1;
	case CLASS_SHARED:
		if (packet.fragment)
			return 1;
		if (icmp && is_error(packet.protocol, icmp->type))
			return error_is_ours(ctx, icmp, end, packet.protocol, 1);
		if (icmp && is_echo(packet.protocol, icmp->type))
			return 1;
		return either_end_claimed(&packet);
	default:
		/* Neither ours nor the kernel's: a reply of a real server on its way through us, or an error about one. */
		if (icmp && !packet.fragment && is_error(packet.protocol, icmp->type))
			return error_is_ours(ctx, icmp, end, packet.protocol, 0);
		return claimed(&packet.source, packet.source_port, &packet);
	}
}

INLINE int vlan_is_ours(const struct port *port, __u16 vlan)
{
	vlan &= 0x0fff;
	return port->vlans[vlan >> 6] >> (vlan & 63) & 1;
}

INLINE int frame_is_ours(struct xdp_md *ctx, const struct port *port)
{
	void *cursor = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethernet_header *ethernet = cursor;
	int is_group_frame, tagged = 0;
	__be16 type;

	if ((void *)(ethernet + 1) > end)
		return 0;
	is_group_frame = ethernet->destination[0] & 1;
	type = ethernet->type;
	cursor = ethernet + 1;

	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		struct vlan_tag *tag = cursor;
		__u16 vlan;

		if (type != be16(ETHERTYPE_VLAN) && type != be16(ETHERTYPE_QINQ))
			break;
		if ((void *)(tag + 1) > end)
			return 0;
		vlan = __builtin_bswap16(tag->control) & 0x0fff;
		/* VLAN id 0 only carries a priority: the frame counts as untagged (IEEE 802.1Q). */
		if (vlan) {
			if (!vlan_is_ours(port, vlan))
				return 0;
			tagged = 1;
		}
		type = tag->type;
		cursor = tag + 1;
	}
	if (!tagged && !vlan_is_ours(port, 0))
		return 0;

	if (type == be16(ETHERTYPE_ARP))
		return arp_is_ours(cursor, end);
	if (type == be16(ETHERTYPE_IPV4))
		return packet_is_ours(ctx, cursor, end, 1, is_group_frame);
	if (type == be16(ETHERTYPE_IPV6))
		return packet_is_ours(ctx, cursor, end, 0, is_group_frame);
	return 0;
}

INLINE void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

INLINE int filter(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	__u32 queue = ctx->rx_queue_index;
	struct port *port = bpf_map_lookup_elem(&ports, &ifindex);
	long action = XDP_DROP;

	if (!port || !frame_is_ours(ctx, port)) {
		count(PASSED);
		return XDP_PASS;
	}
	/*
	 * Without a socket the frame is dropped: the kernel would refuse the connection in the name of a service, or route the
	 * frame back to where it came from.
	 */
	if (queue < port->queue_count)
		action = bpf_redirect_map(&sockets, port->first_socket + queue, XDP_DROP);
	count(action == XDP_REDIRECT ? REDIRECTED : NO_SOCKET);
	return action;
}

/* For drivers that hand over a frame in several buffers. */
SEC("xdp.frags") int filter_frags(struct xdp_md *ctx)
{
	return filter(ctx);
}

/* For those that do not. */
SEC("xdp") int filter_linear(struct xdp_md *ctx)
{
	return filter(ctx);
}

char program_license[] SEC("license") = "Apache-2.0";
