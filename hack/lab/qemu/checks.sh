# What is asked of the program in the guest. Sourced by `run`.
# shellcheck shell=bash

# Emulation is slow, and a first packet waits for neighbours to be resolved.
ANSWER_TIMEOUT_S=20
declare -A MACS=([outside]=52:54:00:00:00:01 [inside]=52:54:00:00:00:02)

client() { "$LAB" exec $NAME client "$@"; }
server() { local host=$1; shift; "$LAB" exec $NAME "$host" "$@"; }
get() { client curl --silent --show-error --globoff --max-time $ANSWER_TIMEOUT_S "$@"; }
bracket() { [[ $1 == *:* ]] && echo "[$1]" || echo "$1"; }

# check TITLE COMMAND…: the command succeeds.
check() {
    local title=$1 output
    shift
    if output=$("$@" 2>&1); then
        ((++PASSED))
        printf '  ok      %s\n' "$title"
    else
        FAILED_CHECKS+=("$title")
        printf '  FAILED  %s\n%s\n' "$title" "$(sed 's/^/          /' <<<"$output")"
    fi
}

# eventually COMMAND…: the command succeeds within the time that is usual for the whole to settle.
eventually() {
    local attempts=0
    until "$@" >/dev/null 2>&1; do
        ((++attempts < 30)) || break
        sleep 1
    done
    "$@"
}

# testpmd makes the guest a piece of wire between the two switches, so client and server1 are given routes to each other as if
# they were on one network.
check_testpmd() {
    local address
    client ip route add $SERVER1_4/32 dev outside
    client ip -6 route add $SERVER1_6/128 dev outside
    server server1 ip route add $CLIENT4/32 dev inside
    server server1 ip -6 route add $CLIENT6/128 dev inside
    # Without a period for its statistics it would wait for a key, and see the end of the input.
    guest "dpdk-testpmd -l 0,1 --in-memory -a ${CARDS[outside]} -a ${CARDS[inside]} -- --forward-mode=io --total-num-mbufs=16384 --rxq=$QUEUES --txq=$QUEUES --stats-period 1000 >/run/testpmd.log 2>&1 &"
    check "the first ping of $SERVER1_4" eventually client ping -c 1 -W 2 $SERVER1_4
    for address in $SERVER1_4 $SERVER1_6; do
        check "5 pings of $address" client ping -q -c 5 -i 0.3 -W $ANSWER_TIMEOUT_S "$address"
        check "HTTP from $address" get "http://$(bracket $address)/"
    done
    check "testpmd ends" testpmd_ends
    guest "grep -E 'Probe PCI|Error|Cause|-packets:' /run/testpmd.log" | sed 's/^/  /'
}

testpmd_ends() {
    guest killall -INT dpdk-testpmd
    eventually guest "! pidof dpdk-testpmd"
}

# The guest's side of what the lab gives its director's kernel, on the ports' twins.
number_guest() {
    guest "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0" &&
        guest "echo 0 | tee /proc/sys/net/ipv6/conf/*/accept_dad /proc/sys/net/ipv4/conf/*/rp_filter >/dev/null" &&
        guest "ip address add $DIRECTOR_OUTSIDE4/24 dev outside && ip address add $DIRECTOR_OUTSIDE6/64 dev outside" &&
        guest "ip address add $DIRECTOR_INSIDE4/24 dev inside && ip address add $DIRECTOR_INSIDE6/64 dev inside" &&
        guest "ip link set outside up && ip link set inside up" &&
        guest "ip route add default via $ROUTER_OUTSIDE4 && ip -6 route add default via $ROUTER_OUTSIDE6"
}

# answers_from VIP: requests by HTTP, one connection each, and one by DNS; all must be answered by a server.
answers_from() {
    local answers
    # Not get: here curl itself makes four addresses of one.
    answers=$(client curl --silent --show-error --max-time $ANSWER_TIMEOUT_S --header 'Connection: close' \
        --resolve "web.example:80:$(bracket "$1")" "http://web.example/?[1-4]" 2>&1)
    [[ $(grep -c '^server=server[123] ' <<<"$answers") == 4 ]] || { echo "$answers"; return 1; }
    answers=$(client dig +short +tries=1 +timeout=$ANSWER_TIMEOUT_S -t TXT "@$1" name.example)
    [[ $answers == *server[123]* ]] || { echo "$answers"; return 1; }
}

# A page of several hundred segments, in both directions at once on the path: what is lost or damaged is seen by curl.
a_download_from() {
    [[ $(get "http://$(bracket "$1")/bytes/300000" | wc -c) == 300000 ]]
}

is_in_log() { guest "grep -E '$1' /run/ulvsd.log"; }

check_ulvsd() {
    local method vip4 vip6
    guest "ULVS_LOG=info ulvsd --config /etc/ulvs.toml >/run/ulvsd.log 2>&1 &"
    check "the director is ready" eventually is_in_log ready
    # Nothing of the rest could succeed, and its log says why.
    ((${#FAILED_CHECKS[@]} == 0)) || { show_log; return 0; }
    check "its ports' twins take addresses" number_guest
    check "ping of the kernel behind the port" eventually client ping -c 1 -W 5 $DIRECTOR_OUTSIDE4
    # NAT last: with cards that hash both sides its packets are handed over between workers, the others' are not.
    for method in DR TUN FULLNAT NAT; do
        ((QUEUES == 1)) || [[ $method != NAT ]] || check "DR, TUN and FullNAT: every packet came to its worker" nothing_was_redirected
        vip4=VIP_${method}4 vip6=VIP_${method}6
        check "$method, HTTP and DNS, ${!vip4}" answers_from "${!vip4}"
        check "$method, HTTP and DNS, ${!vip6}" answers_from "${!vip6}"
    done
    check "300 kB through NAT" a_download_from $VIP_NAT4
    check "300 kB through FullNAT" a_download_from $VIP_FULLNAT6
    ((QUEUES == 1)) || check "every worker has had packets" every_worker_worked
    check "a link that goes down is seen, and the twin follows" link_goes off
    check "a link that comes back is seen too" link_goes on
    check "… and carries packets again" answers_from $VIP_NAT4
    guest "ulvs counters; ulvs workers" | sed 's/^/  | /' || true
    check "SIGTERM ends the director" director_ends
    check "every packet buffer came back to its pool" no_buffer_is_lost
    show_log
}

show_log() { guest "cat /run/ulvsd.log" | sed 's/^/  | /'; }

# In the table of counters, the first column is the name, the second the sum, and one for each worker follows.
every_worker_worked() {
    local counters
    counters=$(guest "ulvs counters")
    awk -v workers="$QUEUES" '$1 == "received" { for (at = 3; at < 3 + workers; at++) busy += $at > 0 } END { exit busy != workers }' \
        <<<"$counters" || { echo "$counters"; return 1; }
}

# Of a card that is told key and table. Counters that are 0 are not shown.
nothing_was_redirected() {
    local counters
    counters=$(guest "ulvs counters")
    if ! grep -q '^received ' <<<"$counters" || grep -qE '^(redirected|rss_differs) ' <<<"$counters"; then
        echo "$counters"
        return 1
    fi
}

# link_goes off|on: the cable is pulled or plugged in; the director has the port's twin follow, so that the kernel's routes do.
link_goes() {
    monitor "set_link outside $1"
    eventually twin_has_carrier "$([[ $1 == on ]] && echo 1 || echo 0)"
}
twin_has_carrier() { guest "cat /sys/class/net/outside/carrier; grep -qx $1 /sys/class/net/outside/carrier"; }

no_buffer_is_lost() { ! is_in_log "did not come back"; }

director_ends() {
    guest killall -TERM ulvsd
    eventually guest "! pidof ulvsd" && is_in_log "has stopped"
}
