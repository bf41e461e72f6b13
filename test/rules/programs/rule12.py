"""Long streams of small chunks, read with blocking recv without a time limit (a limit would make it a poll)."""
import sys
import threading

from raw import Conn, Report, together

address, port, clients, total, chunk = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
report = Report()
barrier = threading.Barrier(clients)


def client(i):
    try:
        conn = Conn(address, port)
        for _ in range(3):  # until there is an upstream connection for each
            barrier.wait(20)
            conn.get("/wait/50/warm")
        plain = conn.recv

        def counted(size=65536):
            report.add("recvs")
            return plain(size)

        conn.recv = counted
        for n in range(2):
            got = conn.get(f"/chunks/{total}/{chunk}/20/{i}-{n}", pattern=True)
            if (got[0], got[2]) != (200, total):
                report.fail(i, got)
            if conn.get(f"/echo/{i}")[2] != str(i).encode():
                report.fail(i, "the next answer")
            report.add("streams")
    except Exception as e:
        report.fail(i, e)


together(clients, client)
report.finish()
