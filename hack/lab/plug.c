// Two interfaces plugged together: what one receives the other sends. TO is the other's number.
// Written without headers, so that it compiles wherever there is a clang.

// The helper's number is part of the kernel's stable interface (enum bpf_func_id in linux/bpf.h).
static long (*bpf_redirect)(unsigned int interface, unsigned long flags) = (void *)23;

__attribute__((section("plug"), used)) int send_on(void *packet) { return bpf_redirect(TO, 0); }

__attribute__((section("license"), used)) char license_text[] = "GPL";
