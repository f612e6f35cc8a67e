// Takes IP-in-IP tunnels apart on a real server: what `ip tunnel add mode ipip` does where the kernel has it, as fast. An XDP program for the server's port:
// the outer header (IPv4 or IPv6, without options) goes, the inner packet goes on to the server's stack.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

static long (*bpf_xdp_adjust_head)(struct xdp_md *frame, int delta) = (void *)BPF_FUNC_xdp_adjust_head;

#define SWAPPED(value) __builtin_bswap16(value)

__attribute__((section("xdp"), used)) int decapsulate(struct xdp_md *frame) {
    void *end = (void *)(long)frame->data_end;
    struct ethhdr *ethernet = (void *)(long)frame->data;
    if ((void *)(ethernet + 1) > end)
        return XDP_PASS;

    int outer;
    __u8 inner;
    if (ethernet->h_proto == SWAPPED(ETH_P_IP)) {
        struct iphdr *ip = (void *)(ethernet + 1);
        if ((void *)(ip + 1) > end || ip->ihl != 5)
            return XDP_PASS;
        outer = sizeof(*ip);
        inner = ip->protocol;
    } else if (ethernet->h_proto == SWAPPED(ETH_P_IPV6)) {
        struct ipv6hdr *ip = (void *)(ethernet + 1);
        if ((void *)(ip + 1) > end)
            return XDP_PASS;
        outer = sizeof(*ip);
        inner = ip->nexthdr;
    } else {
        return XDP_PASS;
    }
    if (inner != IPPROTO_IPIP && inner != IPPROTO_IPV6)
        return XDP_PASS;

    struct ethhdr own = *ethernet;
    own.h_proto = inner == IPPROTO_IPIP ? SWAPPED(ETH_P_IP) : SWAPPED(ETH_P_IPV6);
    if (bpf_xdp_adjust_head(frame, outer))
        return XDP_DROP;
    end = (void *)(long)frame->data_end;
    ethernet = (void *)(long)frame->data;
    if ((void *)(ethernet + 1) > end)
        return XDP_DROP;
    *ethernet = own;
    return XDP_PASS;
}
