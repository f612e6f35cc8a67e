#!/usr/bin/env python3
"""Clients of the lab's selftest that put on the wire what only a balancer would: PROXY v2 headers, TOA options, VLAN tags."""

import argparse
import ipaddress
import pathlib
import re
import socket
import struct
import subprocess
import sys

sys.dont_write_bytecode = True

from serving import proxy_v2  # noqa: E402

CLAIMED_CLIENT = ("192.0.2.7", 4321)
CLAIMED_SERVER = ("192.0.2.80", 80)
PATIENCE_S = 10
TOA_OPTION = bytes([254, 8]) + struct.pack("!H", CLAIMED_CLIENT[1]) + ipaddress.ip_address(CLAIMED_CLIENT[0]).packed


def header(transport):
    return proxy_v2.build(CLAIMED_CLIENT, CLAIMED_SERVER, transport)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def proxy_tcp(address):
    with socket.create_connection((address, 8081), PATIENCE_S) as connection:
        connection.sendall(header(proxy_v2.STREAM) + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        return connection.makefile("r").read()


def proxy_greeting(address):
    with socket.create_connection((address, 2526), PATIENCE_S) as connection:
        connection.sendall(header(proxy_v2.STREAM))
        return connection.makefile("r").readline()


def proxy_udp(address):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as connection:
        connection.settimeout(PATIENCE_S)
        connection.sendto(header(proxy_v2.DGRAM) + b"payload", (address, 7001))
        return connection.recv(2048).decode()


def toa(address):
    """A bare segment with the option, from the port that the connection then uses."""
    family = family_of(address)
    with socket.socket(family) as connection:
        connection.settimeout(PATIENCE_S)
        connection.bind(("", 0))
        port = connection.getsockname()[1]
        segment = struct.pack("!HHIIBBHHH", port, 80, 0, 0, (20 + len(TOA_OPTION)) // 4 << 4, 0, 0, 0, 0) + TOA_OPTION
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            raw.sendto(segment, (address, 0))
        connection.connect((address, 80))
        connection.sendall(b"GET /toa HTTP/1.1\r\nConnection: close\r\n\r\n")
        return connection.makefile("r").read()


def vlan(lab, address):
    """Answers, as the director's tagged port would, the client's ARP request for `address`; what the client then knows."""
    command = pathlib.Path(__file__).with_name("lab")
    answerer = subprocess.Popen(
        [command, "exec", lab, "director", sys.executable, "-B", __file__, "answer-arp", address], stdout=subprocess.PIPE, text=True
    )
    answerer.stdout.readline()  # It listens.
    subprocess.run(["ip", "neigh", "flush", "dev", "outside"], check=True)
    subprocess.run(["ping", "-c", "1", "-W", "1", address], stdout=subprocess.DEVNULL)
    answerer.wait(PATIENCE_S)
    entry = subprocess.run(["ip", "neigh", "show", address], capture_output=True, text=True, check=True).stdout
    return f"reply from {entry}" if re.search("lladdr 02:00:00:00:00:07", entry) else f"neighbour: {entry}"


def answer_arp(address):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as port:
        port.bind(("outside", 0))
        port.settimeout(PATIENCE_S)
        print("listening", flush=True)
        while True:
            frame, about = port.recvfrom(2048)
            arp = frame[14:42]
            wanted = socket.inet_aton(address)
            # The kernel took the tag off before it gave the frame to this socket.
            if about[2] == socket.PACKET_OUTGOING or frame[12:14] != b"\x08\x06" or arp[24:28] != wanted:
                continue
            mine = bytes.fromhex("020000000007")
            reply = arp[:6] + b"\0\2" + mine + wanted + arp[8:18]
            port.send(arp[8:14] + mine + struct.pack("!HH", 0x8100, 7) + b"\x08\x06" + reply)
            return "answered"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lab")
    parser.add_argument("client", choices=["proxy-tcp", "proxy-udp", "proxy-greeting", "toa", "vlan", "answer-arp"])
    parser.add_argument("address")
    arguments = parser.parse_args()
    if arguments.client == "vlan":
        print(vlan(arguments.lab, arguments.address))
        return
    clients = {
        "proxy-tcp": proxy_tcp,
        "proxy-udp": proxy_udp,
        "proxy-greeting": proxy_greeting,
        "toa": toa,
        "answer-arp": answer_arp,
    }
    print(clients[arguments.client](arguments.address))


if __name__ == "__main__":
    main()
