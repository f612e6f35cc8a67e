#!/usr/bin/env python3
"""Sends what is routed into a TUN device to one server, IP-in-IP: what a director does for a TUN service, in its plainest form.

The selftest proves with it that the lab's servers take tunnels apart, before there is a director to blame.
Runs until it is killed.
"""

import argparse
import os
import pathlib
import socket
import sys

sys.dont_write_bytecode = True

from serving.tunnel import IPPROTO_IPIP, IPPROTO_IPV6, MOST_PACKET, open_device  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="address at the other end of the tunnel, IPv4 or IPv6")
    parser.add_argument("--device", required=True, help="name of the TUN device to make")
    parser.add_argument("--mtu", type=int, default=1400)
    parser.add_argument("--ready-file", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    family = socket.AF_INET6 if ":" in arguments.server else socket.AF_INET
    outer = {4: socket.socket(family, socket.SOCK_RAW, IPPROTO_IPIP), 6: socket.socket(family, socket.SOCK_RAW, IPPROTO_IPV6)}
    device = open_device(arguments.device, arguments.mtu)
    os.set_blocking(device, True)
    arguments.ready_file.touch()
    while True:
        packet = os.read(device, MOST_PACKET)
        outer[packet[0] >> 4].sendto(packet, (arguments.server, 0))


if __name__ == "__main__":
    main()
