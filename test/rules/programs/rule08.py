"""Clients with TCP Fast Open: the first request travels in the SYN."""
import socket
import struct
import sys

from raw import Conn, Report, request

address, port, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
TCP_FASTOPEN_CONNECT = 30
report = Report()


class Fast(Conn):
    def __init__(self, how, first):
        self.sock = socket.socket()
        self.mode, self.buffer, self.limit = "blocking", b"", 5
        self.sock.settimeout(5)
        if how == "connect":
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            self.sock.connect((address, port))
            self.sock.send(first)
        else:
            self.sock.sendto(first, socket.MSG_FASTOPEN, (address, port))


for n in range(rounds):
    for how in ("connect", "sendto"):
        path = ("/echo/", "/p/echo/", "/wait/5/")[n % 3]
        try:
            conn = Fast(how, request(f"{path}{n}"))
            # tcpi_options: TCPI_OPT_SYN_DATA says that the SYN carried data and the peer took it
            options = conn.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
            if conn.answer()[2] != str(n).encode():
                report.fail(how, n)
            options = conn.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
            report.add("data_in_syn", 1 if options & 32 else 0)
            for again in range(3):
                if conn.get(f"/echo/{n}-{again}")[2] != f"{n}-{again}".encode():
                    report.fail(how, f"{n}-{again}")
            if conn.sock.getpeername() != (address, port):
                report.fail(how, f"peer {conn.sock.getpeername()}")
            report.add("connections")
            conn.close()
        except Exception as e:
            report.fail(f"{how} {n}", e)

# fast open asked for, but nothing in the SYN: the request comes later
for n in range(10):
    try:
        conn = Conn(address, port)
        if conn.get(f"/echo/{n}")[2] != str(n).encode():
            report.fail("plain", n)
    except Exception as e:
        report.fail("plain", e)
report.finish()
