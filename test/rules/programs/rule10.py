"""Clients that end their side right behind the request: the whole answer comes, then the end of the file."""
import socket
import sys
import time

from raw import Conn, Report, request

address, port, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
report = Report()
KINDS = {
    "/echo/half": (200, b"half", 1),
    "/wait/40/half": (200, b"half", 1),
    "/denied": (403, b"denied", 1),
    "/p/wait/10/half": (200, b"half", 1),
    "/size/300000/1": (200, 300_000, 1),
    "/size/5000000/1": (200, 5_000_000, 0.3),
    "/chunks/200000/1000/0/1": (200, 200_000, 0.5),
    "/chunks/3000/500/2000/1": (200, 3000, 0.5),
    "/untilclose/100000": (200, 100_000, 0.3),
}
for warm in (True, False):
    for path, (status, body, share) in KINDS.items():
        for n in range(max(2, int(rounds * share))):
            try:
                conn = Conn(address, port)
                conn.sock.settimeout(15)
                if warm:
                    conn.get("/echo/warm")
                conn.send(request(path))
                if n % 2:
                    time.sleep(0.002)
                conn.sock.shutdown(socket.SHUT_WR)
                got = conn.answer(pattern=isinstance(body, int))
                if (got[0], got[2]) != (status, body):
                    report.fail(path, f"{got[0]} {str(got[2])[:80]}")
                rest = conn.buffer or conn.sock.recv(100)
                if rest:
                    report.fail(path, f"behind the answer: {rest[:80]!r}")
                report.add("answers")
                conn.close()
            except Exception as e:
                report.fail(f"{path} {n} {'warm' if warm else 'new'}", e)
report.finish()
