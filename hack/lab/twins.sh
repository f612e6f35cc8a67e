# The director's ports where DPDK takes its cables away from the kernel: the bare cable is wire-PORT, and PORT is the twin, made
# before the director starts, so that it has its addresses and routes then. Sourced by `lab`.
# shellcheck shell=bash

make_twin() {
    local port=$1 wire=wire-$1 mac
    mac=$(on director cat "/sys/class/net/$wire/address")
    on director sysctl -q -w "net.ipv6.conf.$wire.disable_ipv6=1"
    # A NIC receives no segments longer than the MTU, and makes none of several packets.
    on "$port" ethtool -K director tso off gso off
    on director ethtool -K "$wire" gro off
    on director ip tuntap add "$port" mode tap
    on director ip link set "$port" address "$mac" mtu "$MTU" up
    [[ $DPDK != net_tap ]] || make_card "$port" "$mac"
}

# card-PORT, a TAP that DPDK's TAP driver opens, with the cable plugged in: what comes in by one goes out by the other.
# A bridge would keep for the director's kernel what is sent to the card's own MAC.
make_card() {
    local card=card-$1 wire=wire-$1
    on director ip tuntap add "$card" mode tap multi_queue
    on director sysctl -q -w "net.ipv6.conf.$card.disable_ipv6=1"
    on director ip link set "$card" address "$2" mtu "$MTU" up
    plug "$wire" "$card"
    plug "$card" "$wire"
}

# plug FROM TO
plug() {
    local object=$RUN_DIRECTORY/plug-$1.o
    clang -O2 -target bpf -DTO="$(on director cat "/sys/class/net/$2/ifindex")" -c "$LAB_DIRECTORY/plug.c" -o "$object"
    on director tc qdisc add dev "$1" clsact
    on director tc filter add dev "$1" ingress bpf direct-action object-file "$object" section plug
}
