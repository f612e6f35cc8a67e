#!/usr/bin/env python3
"""What a client asks of a virtual service where curl and dig do not reach. Runs inside a client's network namespace.

  probe.py udp ADDRESS PORT [--count N] [--bytes N] [--attempts N]
                                                      echo requests, each from a new port; prints the first line of each answer
  probe.py error ADDRESS PORT [--ttl N] [--bytes N] [--dont-fragment]
                                                      one datagram; prints the answer or the ICMP error it brings
  probe.py greet ADDRESS PORT                         waits for the server's greeting, then sends a line and expects it back

Ends with status 0 if what came back is what was asked for, 1 with a sentence otherwise.
"""

import argparse
import select
import socket
import struct
import sys

PATIENCE_S = 10  # Detects a failure; nothing is measured with it.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000
ORIGIN_ICMP, ORIGIN_ICMP6 = 2, 3
NAMES = {
    (ORIGIN_ICMP, 3, 3): "port-unreachable",
    (ORIGIN_ICMP, 3, 4): "packet-too-big",
    (ORIGIN_ICMP, 11, 0): "time-exceeded",
    (ORIGIN_ICMP6, 1, 4): "port-unreachable",
    (ORIGIN_ICMP6, 2, 0): "packet-too-big",
    (ORIGIN_ICMP6, 3, 0): "time-exceeded",
}


class Failed(Exception):
    """The service did not do what was asked for."""


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def payload(count):
    """`count` bytes that are different at every offset of a fragment boundary."""
    return b"".join(b"%07d " % at for at in range(count // 8 + 1))[:count]


def connected(arguments):
    probe = socket.socket(family_of(arguments.address), socket.SOCK_DGRAM)
    if arguments.source:
        probe.bind((arguments.source, 0))
    probe.connect((arguments.address, arguments.port))
    return probe


def udp(arguments):
    sent = payload(arguments.bytes)
    for number in range(arguments.count):
        with connected(arguments) as probe:
            try:
                answer = ask(probe, sent, arguments.attempts)
            except OSError as error:
                raise Failed(f"datagram {number + 1} of {arguments.count}: {error}") from error
        about, _, echoed = answer.partition(b"\n")
        if echoed != sent:
            raise Failed(f"datagram {number + 1}: {len(sent)} bytes were sent, {len(echoed)} other ones came back")
        print(about.decode())


def ask(probe, sent, attempts):
    """Sends until an answer comes. UDP needs a second attempt when the first one finds out the path MTU."""
    probe.settimeout(PATIENCE_S / attempts)
    for attempt in range(attempts):
        probe.send(sent)
        try:
            return probe.recv(65535)
        except TimeoutError:
            if attempt + 1 == attempts:
                raise


def error(arguments):
    with connected(arguments) as probe:
        six = probe.family == socket.AF_INET6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        probe.setsockopt(level, IPV6_RECVERR if six else IP_RECVERR, 1)
        if arguments.ttl:
            probe.setsockopt(level, socket.IPV6_UNICAST_HOPS if six else socket.IP_TTL, arguments.ttl)
        if arguments.dont_fragment:
            probe.setsockopt(level, IPV6_MTU_DISCOVER if six else IP_MTU_DISCOVER, PMTUDISC_PROBE)
        try:
            probe.send(payload(arguments.bytes))
        except OSError as problem:
            raise Failed(str(problem)) from problem
        waiting = select.poll()
        waiting.register(probe, select.POLLIN | select.POLLERR)
        if not waiting.poll(PATIENCE_S * 1000):
            raise Failed("neither an answer nor an ICMP error came")
        try:
            _, ancillary, _, _ = probe.recvmsg(0, 1024, MSG_ERRQUEUE)
        except BlockingIOError:
            print("answer", probe.recv(65535).partition(b"\n")[0].decode())
            return
        print(describe(ancillary))


def describe(ancillary):
    """`NAME from=ADDRESS info=N`, from a struct sock_extended_err and the sockaddr behind it; info is the MTU, if any."""
    for _, kind, data in ancillary:
        if kind not in (IP_RECVERR, IPV6_RECVERR):
            continue
        _, origin, icmp_type, code, info = struct.unpack_from("=IBBBxI", data)
        name = NAMES.get((origin, icmp_type, code), f"origin-{origin}-type-{icmp_type}-code-{code}")
        offender = data[16:]
        family = struct.unpack_from("=H", offender)[0]
        start, size = (4, 4) if family == socket.AF_INET else (8, 16)
        return f"{name} from={socket.inet_ntop(family, offender[start:start + size])} info={info}"
    raise Failed("an error without a description came")


def greet(arguments):
    try:
        source = (arguments.source, 0) if arguments.source else None
        with socket.create_connection((arguments.address, arguments.port), PATIENCE_S, source) as probe:
            lines = probe.makefile("rwb")
            greeting = lines.readline().decode().strip()
            lines.write(b"hello\n")
            lines.flush()
            echoed = lines.readline()
    except OSError as problem:
        raise Failed(str(problem)) from problem
    if not greeting.startswith("220 ") or echoed != b"hello\n":
        raise Failed(f"the greeting was {greeting!r}, the echo {echoed!r}")
    print(greeting)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("probe", choices=["udp", "error", "greet"])
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--source", help="send from this address")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--attempts", type=int, default=1)
    parser.add_argument("--bytes", type=int, default=64)
    parser.add_argument("--ttl", type=int)
    parser.add_argument("--dont-fragment", action="store_true")
    arguments = parser.parse_args()
    try:
        {"udp": udp, "error": error, "greet": greet}[arguments.probe](arguments)
    except Failed as problem:
        sys.exit(f"{arguments.probe} to {arguments.address} port {arguments.port}: {problem}")


if __name__ == "__main__":
    main()
