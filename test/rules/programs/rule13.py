"""Churn: a new connection for each request; half of them closed in order, some reset, some with a request unanswered."""
import socket
import struct
import sys

from raw import Conn, Report, request, together

address, port, total, clients = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
report = Report()


def client(i):
    for n in range(total // clients):
        try:
            conn = Conn(address, port, source=f"127.0.0.{2 + i}")
            if n % 4 != 3:
                status, _, body = conn.get(f"/echo/{i}-{n}" if n % 4 else "/denied")
                if body != (f"{i}-{n}".encode() if n % 4 else b"denied"):
                    report.fail(f"{i}-{n}", f"{status} {body[:80]!r}")
            elif n % 8 == 7:
                conn.send(request(f"/echo/{i}-{n}")[: 10 + n % 60])  # leaves in the middle of it
            if n % 2:
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
            report.add("connections")
        except Exception as e:
            report.fail(f"{i}-{n}", e)


together(clients, client)
report.finish()
