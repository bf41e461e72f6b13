"""Reads one answer: `fast` to its end, or `slow` at most RATE bytes a second until a line comes on standard input."""
import sys
import threading
import time

from raw import Conn, Report, request

address, port, path, size, rate = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
report = Report()
stop = threading.Event()
try:
    conn = Conn(address, port)
    conn.get("/echo/warm")
    if rate:
        threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
        conn.send(request(path))
        read, began = 0, time.monotonic()
        print("reading", flush=True)
        while not stop.is_set():
            data = conn.recv(16384)
            if not data:
                report.fail(path, "an end of file")
                break
            read += len(data)
            time.sleep(max(0, read / rate - (time.monotonic() - began)))
        report.add("read", read)
    else:
        got = conn.get(path, pattern=True)
        if (got[0], got[2]) != (200, size):
            report.fail(path, got)
        report.add("read", size)
        if "untilclose" not in path or got[1].get("connection") != "close":
            if conn.get("/echo/next")[2] != b"next":
                report.fail(path, "the next answer on the connection")
except Exception as e:
    report.fail(path, e)
report.finish()
