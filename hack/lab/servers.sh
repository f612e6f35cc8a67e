# What runs on the lab's real servers. Sourced by `lab`, which sets NAME and RUN_DIRECTORY.
# shellcheck shell=bash

start_servers() {
    local host
    for host in server1 server2 server3; do
        # setsid and </dev/null: the servers outlive this command and hold nothing of the terminal.
        on $host setsid python3 "$LAB_DIRECTORY/real_server.py" --name $host --ready-file "$RUN_DIRECTORY/$host.ready" \
            </dev/null >"$RUN_DIRECTORY/$host.log" 2>&1 &
        on $host setsid iperf3 --server </dev/null >"$RUN_DIRECTORY/$host-iperf3.log" 2>&1 &
    done
    for host in server1 server2 server3; do wait_for_server $host; done
}

wait_for_server() {
    local host=$1 attempts=0
    until [[ -e $RUN_DIRECTORY/$host.ready ]] && on "$host" ss -H -l -t -n 'sport = :5201' | grep -q .; do
        ((++attempts < 600)) || fail "$host did not become ready in 30 s (its logs are in $RUN_DIRECTORY)"
        sleep 0.05
    done
}
