// A tagged switch port in two programs: "push" gives what leaves the port a VLAN tag, "pop" takes it off what comes in.
// Written without headers, so that it compiles wherever there is a clang.

// The helpers' numbers are part of the kernel's stable interface (enum bpf_func_id in linux/bpf.h).
static long (*bpf_skb_vlan_push)(void *packet, unsigned short protocol_big_endian, unsigned short id) = (void *)18;
static long (*bpf_skb_vlan_pop)(void *packet) = (void *)19;

// The start of struct __sk_buff in linux/bpf.h.
struct packet {
    unsigned int len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
};

enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2 };
enum { ETH_P_8021Q_BIG_ENDIAN = 0x0081, VLAN_ID_MASK = 0x0fff };

__attribute__((section("push"), used)) int push_tag(struct packet *packet) {
    return bpf_skb_vlan_push(packet, ETH_P_8021Q_BIG_ENDIAN, VLAN_ID) ? TC_ACT_SHOT : TC_ACT_OK;
}

// As on a real tagged port, what is untagged or carries another VLAN's tag goes nowhere.
__attribute__((section("pop"), used)) int pop_tag(struct packet *packet) {
    if (!packet->vlan_present || (packet->vlan_tci & VLAN_ID_MASK) != VLAN_ID)
        return TC_ACT_SHOT;
    return bpf_skb_vlan_pop(packet) ? TC_ACT_SHOT : TC_ACT_OK;
}

__attribute__((section("license"), used)) char license_text[] = "GPL";
