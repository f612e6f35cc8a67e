"""TCP option 254 ("TOA"): a FullNAT balancer writes the client's address into it; here it is seen without a kernel module.

Kind 254, then the length (8 for IPv4, 20 for IPv6), the client's port, the client's address.
"""

import collections
import ctypes
import ipaddress
import socket
import struct

TOA_KIND = 254
ADDRESS_LENGTH = {8: 4, 20: 16}
ETH_P_ALL = 0x0003
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
MOST_CONNECTIONS = 100_000
ENOUGH_OF_A_PACKET = 256


class ToaSniffer:
    """Watches packets to one TCP port. A socket for an event loop: call `drain` when it is readable."""

    def __init__(self, port):
        self.clients = collections.OrderedDict()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        attach_filter(self.socket, tcp_to_port(port))

    def fileno(self):
        return self.socket.fileno()

    def client_of(self, peer):
        """The client that the option named for the connection from `peer`, or None.

        The kernel hands a packet to this socket before it hands it to TCP, so what a request brought is already here.
        """
        self.drain()
        return self.clients.get((str(ipaddress.ip_address(peer[0])), peer[1]))

    def drain(self):
        while True:
            try:
                packet = self.socket.recv(ENOUGH_OF_A_PACKET)
            except (BlockingIOError, InterruptedError):
                return
            try:
                self.note(packet)
            except (struct.error, IndexError, ValueError):
                pass  # A truncated packet.

    def note(self, packet):
        if packet[0] >> 4 == 4:
            source, tcp = packet[12:16], packet[(packet[0] & 0xF) * 4 :]
        else:
            source, tcp = packet[8:24], packet[40:]
        client = read_option(tcp[20 : (tcp[12] >> 4) * 4])
        if client:
            self.clients[(str(ipaddress.ip_address(source)), struct.unpack_from("!H", tcp)[0])] = client
            if len(self.clients) > MOST_CONNECTIONS:
                self.clients.popitem(last=False)


def read_option(options):
    """The client in the list of TCP options, or None."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        length = options[at + 1]
        if length < 2:
            return None
        if options[at] == TOA_KIND and length in ADDRESS_LENGTH:
            port = struct.unpack_from("!H", options, at + 2)[0]
            return str(ipaddress.ip_address(bytes(options[at + 4 : at + 4 + ADDRESS_LENGTH[length]]))), port
        at += length
    return None


def tcp_to_port(port):
    """A classic BPF program over packets that begin with the IP header; without it iperf3's traffic would come here too."""
    load_byte, load_half_indexed, load_half, shift_right = 0x30, 0x48, 0x28, 0x74
    load_header_length, jump_if_equal, give_back = 0xB1, 0x15, 0x06
    return [
        (load_byte, 0, 0, 0),  # 0: version and header length
        (shift_right, 0, 0, 4),
        (jump_if_equal, 0, 5, 4),  # 2: IPv4, or on to 8
        (load_byte, 0, 0, 9),  # 3: protocol
        (jump_if_equal, 0, 8, socket.IPPROTO_TCP),  # 4: or drop at 13
        (load_header_length, 0, 0, 0),
        (load_half_indexed, 0, 0, 2),  # 6: destination port
        (jump_if_equal, 4, 5, port),  # 7: keep at 12, or drop at 13
        (load_byte, 0, 0, 6),  # 8: IPv6 next header
        (jump_if_equal, 0, 3, socket.IPPROTO_TCP),  # 9: or drop at 13
        (load_half, 0, 0, 42),
        (jump_if_equal, 0, 1, port),  # 11
        (give_back, 0, 0, ENOUGH_OF_A_PACKET),  # 12: keep
        (give_back, 0, 0, 0),  # 13: drop
    ]


def attach_filter(sniffer, program):
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code)
    sniffer.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(memory)))
