"""Refused and odd requests of every kind on one socket each: the same socket must send and be answered afterwards."""
import socket
import sys
import time

from raw import Conn, Report, request

address, port = sys.argv[1], sys.argv[2]
report = Report()
big = b"x" * 3_000_000
CASES = {
    # name: (bytes or pieces, statuses)
    "denied": (request("/denied"), [403]),
    "proxied by rule": (request("/p/echo/1"), [200]),
    "unknown": (request("/nothing"), [404]),
    "upstream resets": (request("/reset/1"), [503]),
    "upstream resets again": (request("/reset/2"), [503]),
    "upstream is silent": (request("/t/silence"), [504]),
    "FIN behind the answer": (request("/fin/1"), [200]),
    "a head of 20 kB": (request("/echo/1", "x-long: " + "a" * 20000), [200]),
    "a head of 100 headers": (request("/echo/1", *[f"x-{i}: {i}" for i in range(90)]), [200]),
    "a path to normalise": (request("//echo//1/../1"), [200, 404]),
    "an absolute URI": (b"GET http://rules.test/echo/1 HTTP/1.1\r\nHost: rules.test\r\n\r\n", [200]),
    "a chunked body": (
        b"POST /echo/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        [200],
    ),
    "a body of 3 MB": (request("/echo/1", method="POST", body=big), [200]),
    "a body of 300 kB": (request("/echo/1", method="POST", body=big[:300_000]), [200]),
    "a head in pieces": ([bytes([b]) for b in request("/echo/1")], [200]),
    "three at once": (request("/echo/1") + request("/p/echo/1") + request("/denied"), [200, 200, 403]),
    "empty lines before": (b"\r\n" + request("/echo/1"), [200]),
    "OPTIONS": (request("/echo/1", method="OPTIONS"), [200]),
    "a large answer": (request("/size/3000000/1"), [200]),
}


def once(conn, name, data, statuses):
    pieces = data if isinstance(data, list) else [data]
    for piece in pieces:
        conn.send(piece)
        if len(pieces) > 1:
            time.sleep(0.001)
    if len(statuses) == 3:
        got = [conn.answer()[0] for _ in statuses]
        if got != statuses:
            report.fail(name, got)
        return
    status, headers, _ = conn.answer()
    if status not in statuses:
        report.fail(name, status)
    if headers.get("connection") == "close":
        report.fail(name, "the connection is to be closed")


def usable(conn, name):
    for n in range(3):
        status, _, body = conn.get(f"/echo/after-{n}")
        if (status, body) != (200, f"after-{n}".encode()):
            report.fail(f"after {name}", f"{status} {body[:80]!r}")
        report.add("after")


for name, (data, statuses) in CASES.items():
    try:
        conn = Conn(address, port)
        usable(conn, f"nothing, before {name}")
        for _ in range(3):
            once(conn, name, data, statuses)
            usable(conn, name)
        error = conn.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            report.fail(name, f"SO_ERROR {error}")
        report.add("cases")
        conn.close()
    except Exception as e:
        report.fail(name, e)

try:  # and all on one socket
    conn = Conn(address, port)
    for name, (data, statuses) in CASES.items():
        once(conn, name, data, statuses)
        usable(conn, f"{name} (one socket for all)")
except Exception as e:
    report.fail(f"{name} (one socket for all)", e)
report.finish()
