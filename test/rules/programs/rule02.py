"""Requests while upstreams die: until a line comes, each is served or gets a clean 503, and no system call fails."""
import signal
import sys
import threading

from raw import Conn, Report, together

address, port, clients = sys.argv[1], sys.argv[2], int(sys.argv[3])
report = Report()
stop = threading.Event()
signal.signal(signal.SIGPIPE, lambda *_: report.fail("signal", "SIGPIPE"))


def ask(i):
    n, conn = 0, None
    while not stop.is_set():
        n += 1
        where = "connect"
        try:
            conn = conn or Conn(address, port)
            where = "send"
            conn.send(f"GET /echo/{i}-{n} HTTP/1.1\r\nHost: rules.test\r\n\r\n".encode())
            where = "recv"
            status, headers, body = conn.answer()
            if status == 200 and body == f"{i}-{n}".encode():
                report.add("served")
            elif status == 503 and b"upstream connect error" in body:
                report.add("clean_503")
            else:
                report.fail(f"{i}-{n}", f"{status} {body[:100]!r}")
            if headers.get("connection") == "close":
                conn.close()
                conn = None
        except Exception as e:
            report.fail(f"{where} {i}-{n}", e)
            conn = None
        if n == 100 and i == 0:
            print("asking", flush=True)


threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
together(clients, ask)
report.finish()
