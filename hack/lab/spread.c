// What a NIC's RSS does, on a switch port: packets of one flow take one queue, different flows take different queues. The kernel's
// bridge would put everything into queue 0. As with RSS, fragments are spread by their addresses alone.
// Written without headers, so that it compiles wherever there is a clang.

// The helper's number is part of the kernel's stable interface (enum bpf_func_id in linux/bpf.h).
static unsigned int (*bpf_get_hash_recalc)(void *packet) = (void *)34;

// The start of struct __sk_buff in linux/bpf.h.
struct packet {
    unsigned int len, pkt_type, mark, queue_mapping;
};

enum { TC_ACT_OK = 0 };

__attribute__((section("spread"), used)) int spread_flows(struct packet *packet) {
    // The kernel takes the number less one as the queue of receipt, and sends on by the same queue.
    packet->queue_mapping = 1 + bpf_get_hash_recalc(packet) % QUEUES;
    return TC_ACT_OK;
}

__attribute__((section("license"), used)) char license_text[] = "GPL";
