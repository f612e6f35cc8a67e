# The wiring of a lab: namespaces, cables (veth pairs), switches (bridges), addresses and routes.
# Sourced by `lab`, which sets NAME, ARMS, QUEUES, VLAN, MTU, DPDK and RUN_DIRECTORY.
# shellcheck shell=bash

# Runs a command inside a host of the lab being made.
on() {
    local host=$1
    shift
    ip netns exec "ulvs-$NAME-$host" "$@"
}

make_topology() {
    local host
    make_host client
    make_host director
    make_host router
    for host in server1 server2 server3; do make_host $host; done
    make_switch outside
    cable client outside outside
    connect_director outside
    cable router outside outside
    if [[ $ARMS == 2 ]]; then
        make_switch inside
        connect_director inside
        cable router inside inside
        for host in server1 server2 server3; do cable $host inside inside; done
    else
        for host in server1 server2 server3; do cable $host inside outside; done
    fi
    [[ $QUEUES == 1 ]] || spread_over_queues
    [[ -z $VLAN ]] || tag_directors_port
    number_client
    number_director
    number_router
    for host in 1 2 3; do number_server $host; done
    [[ -z $VLAN ]] || introduce_tagged_neighbours
}

make_host() {
    local host=$1
    ip netns add "ulvs-$NAME-$host"
    # dad_transmits, accept_dad: addresses are usable at once. rp_filter: DR, TUN and the router make paths asymmetric on purpose.
    # redirects: on one arm every packet leaves through the port it came in by, which must not be "corrected".
    # IPv6 has no setting against sending them.
    on "$host" sysctl -q -w \
        net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0 \
        net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0 \
        net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
        net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 \
        net.ipv6.conf.all.accept_redirects=0 net.ipv6.conf.default.accept_redirects=0
    on "$host" ip link set lo up
}

make_switch() {
    local switch=$1
    make_host "$switch"
    # Snooping would drop neighbour solicitations until the switch has learnt who listens.
    on "$switch" ip link add switch type bridge mcast_snooping 0 forward_delay 0
    on "$switch" ip link set switch mtu "$MTU" up
}

# cable HOST PORT SWITCH: a cable from HOST's port PORT to the switch, where the other end is called like the host.
cable() {
    local host=$1 port=$2 switch=$3
    # Both ends have the same number of queues: native XDP is refused on a veth with fewer RX queues than its peer has TX queues.
    ip link add "$port" netns "ulvs-$NAME-$host" mtu "$MTU" numrxqueues "$QUEUES" numtxqueues "$QUEUES" type veth \
        peer name "$host" netns "ulvs-$NAME-$switch" mtu "$MTU" numrxqueues "$QUEUES" numtxqueues "$QUEUES"
    on "$switch" ip link set "$host" master switch up
    on "$host" ip link set "$port" up
}

# A port of the director, called like the switch that it leads to.
connect_director() {
    if [[ -z $DPDK ]]; then
        cable director "$1" "$1"
    else
        cable director "wire-$1" "$1"
        make_twin "$1"
    fi
}

# Flows arrive at the director on different queues, as from a NIC.
spread_over_queues() {
    local object=$RUN_DIRECTORY/spread.o switch port
    clang -O2 -target bpf -DQUEUES="$QUEUES" -c "$LAB_DIRECTORY/spread.c" -o "$object"
    for switch in outside inside; do
        [[ $switch == outside || $ARMS == 2 ]] || continue
        for port in $(on $switch ls /sys/class/net/switch/brif); do
            [[ $port != director ]] || continue
            on $switch tc qdisc add dev "$port" clsact
            on $switch tc filter add dev "$port" ingress bpf direct-action object-file "$object" section spread
        done
    done
}

# The switch's port towards the director becomes a tagged one. There may be no VLAN support in the kernel or its bridge,
# so two small BPF programs push and pop the tag.
tag_directors_port() {
    local object=$RUN_DIRECTORY/vlan.o
    clang -O2 -target bpf -DVLAN_ID="$VLAN" -c "$LAB_DIRECTORY/vlan.c" -o "$object"
    on outside tc qdisc add dev director clsact
    on outside tc filter add dev director egress bpf direct-action object-file "$object" section push
    on outside tc filter add dev director ingress bpf direct-action object-file "$object" section pop
    # Without this the tag travels beside the packet, as for a NIC that inserts it in hardware, and XDP would not see it.
    on outside ethtool -K director txvlan off
}

# add_address HOST PORT IPV4 IPV6: one address of each family on a /24 and a /64.
add_address() {
    on "$1" ip address add "$3/24" dev "$2"
    on "$1" ip address add "$4/64" dev "$2" nodad
}

number_client() {
    add_address client outside $CLIENT4 $CLIENT6
    on client ip address add $FAR_CLIENT4/32 dev lo
    on client ip address add $FAR_CLIENT6/128 dev lo
    on client ip route add default via $DIRECTOR_OUTSIDE4
    on client ip -6 route add default via $DIRECTOR_OUTSIDE6
}

number_director() {
    local inside=inside
    [[ $ARMS == 2 ]] || inside=outside
    on director sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    add_address director outside $DIRECTOR_OUTSIDE4 $DIRECTOR_OUTSIDE6
    add_address director $inside $DIRECTOR_INSIDE4 $DIRECTOR_INSIDE6
    on director ip route add default via $ROUTER_OUTSIDE4
    on director ip -6 route add default via $ROUTER_OUTSIDE6
}

# The director's kernel has no VLAN device to resolve neighbours on, so it is told who is behind the tagged port.
introduce_tagged_neighbours() {
    introduce client $CLIENT4 $CLIENT6
    introduce router $ROUTER_OUTSIDE4 $ROUTER_OUTSIDE6
    [[ $ARMS == 2 ]] || for host in 1 2 3; do
        local ipv4=SERVER${host}_4 ipv6=SERVER${host}_6
        introduce server$host "${!ipv4}" "${!ipv6}"
    done
}

introduce() {
    local host=$1 port=outside mac
    [[ $host != server* ]] || port=inside
    mac=$(on "$host" cat "/sys/class/net/$port/address")
    on director ip neighbour add "$2" lladdr "$mac" dev outside nud permanent
    on director ip neighbour add "$3" lladdr "$mac" dev outside nud permanent
}

number_router() {
    local inside=inside
    [[ $ARMS == 2 ]] || inside=outside
    on router sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    add_address router outside $ROUTER_OUTSIDE4 $ROUTER_OUTSIDE6
    add_address router $inside $ROUTER_INSIDE4 $ROUTER_INSIDE6
    # "lock" makes the router answer larger packets with "fragmentation needed" or "packet too big".
    on router ip route add $FAR_CLIENT4/32 via $CLIENT4 mtu lock $FAR_CLIENT_MTU
    on router ip -6 route add $FAR_CLIENT6/128 via $CLIENT6 mtu lock $FAR_CLIENT_MTU
}

# Servers answer through the director (NAT needs it), except from addresses that clients reach by DR or TUN: those answers
# go to the router.
number_server() {
    local host=server$1 ipv4=SERVER$1_4 ipv6=SERVER$1_6 vip
    add_address "$host" inside "${!ipv4}" "${!ipv6}"
    on "$host" ip route add default via $DIRECTOR_INSIDE4
    on "$host" ip -6 route add default via $DIRECTOR_INSIDE6
    # The VIPs are the director's in the eyes of the network: servers own them silently. IPv6 needs no setting for that, an
    # address on lo is never announced on another port.
    on "$host" sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
    for vip in $VIP_DR4 $VIP_TUN4 $VIP_MIXED4; do
        on "$host" ip address add "$vip/32" dev lo
        on "$host" ip rule add from "$vip" lookup 100
    done
    for vip in $VIP_DR6 $VIP_TUN6 $VIP_MIXED6; do
        on "$host" ip address add "$vip/128" dev lo
        on "$host" ip -6 rule add from "$vip" lookup 100
    done
    on "$host" ip route add default via $ROUTER_INSIDE4 table 100
    on "$host" ip -6 route add default via $ROUTER_INSIDE6 table 100
}
