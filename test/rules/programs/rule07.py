"""What the waiting calls say about answers that the kernel redirected, and about answers that came natively."""
import array
import fcntl
import select
import socket
import sys
import termios
import time

from raw import Conn, Report, request

address, port = sys.argv[1], sys.argv[2]
report = Report()


def available(sock):
    buffer = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, buffer)
    return buffer[0]


def waits(sock, name):
    """Whether the call says readable, at once."""
    if name == "select":
        return bool(select.select([sock], [], [], 0)[0])
    if name == "poll":
        p = select.poll()
        p.register(sock, select.POLLIN)
        return bool(p.poll(0))
    e = select.epoll()
    e.register(sock, select.EPOLLIN | (select.EPOLLET if name == "edge" else 0))
    try:
        return bool(e.poll(0))
    finally:
        e.close()


CALLS = ["select", "poll", "epoll", "edge"]
for n in range(60):
    for way in ("", "/p"):
        try:
            where = f"{'native' if way else 'redirected'} {n}"
            conn = Conn(address, port)
            conn.sock.settimeout(10)
            conn.get("/echo/warm")
            for call in CALLS:
                if waits(conn.sock, call):
                    report.fail(where, f"{call}: readable before anything was asked")
            if available(conn.sock):
                report.fail(where, "FIONREAD before anything was asked")
            sent = time.monotonic()
            conn.send(request(f"{way}/wait/3/token-{n}"))
            p = select.epoll()
            p.register(conn.sock, select.EPOLLIN | select.EPOLLET)
            if not p.poll(10):
                report.fail(where, "epoll waited in vain")
            if time.monotonic() - sent < 0.003:
                report.fail(where, "epoll returned before the answer")
            p.close()
            time.sleep(0.001)
            for call in CALLS:
                if not waits(conn.sock, call):
                    report.fail(where, f"{call}: not readable")
            counted = available(conn.sock)
            peeked = conn.sock.recv(65536, socket.MSG_PEEK)
            data = conn.sock.recv(65536)
            if not data.endswith(f"token-{n}".encode()) or peeked != data:
                report.fail(where, f"peek {peeked[-40:]!r}, recv {data[-40:]!r}")
            # The answer's bytes are counted when they were redirected (natively received ones are the known exception).
            if not way and counted != len(data):
                report.fail(where, f"FIONREAD {counted}, {len(data)} bytes were there")
            report.add("proxied" if b"x-way: proxy" in data else "kernel")
            for call in CALLS:
                if waits(conn.sock, call):
                    report.fail(where, f"{call}: still readable")
            if available(conn.sock):
                report.fail(where, "FIONREAD after everything was read")
            conn.close()
        except Exception as e:
            report.fail(where, e)

# MSG_DONTWAIT: EAGAIN before the answer, never afterwards; a time limit is kept
conn = Conn(address, port)
conn.get("/echo/warm")
for n in range(50):
    conn.send(request(f"/wait/5/{n}"))
    try:
        early = conn.sock.recv(100, socket.MSG_DONTWAIT)
        report.fail("MSG_DONTWAIT", f"{early!r} before the answer")
    except BlockingIOError:
        pass
    select.select([conn.sock], [], [], 10)
    try:
        if not conn.sock.recv(65536, socket.MSG_DONTWAIT).endswith(str(n).encode()):
            report.fail("MSG_DONTWAIT", "not the answer")
    except BlockingIOError:
        report.fail("MSG_DONTWAIT", "EAGAIN though select said readable")
conn.sock.settimeout(0.1)
began = time.monotonic()
try:
    conn.send(request("/wait/400/late"))
    conn.sock.recv(100)
    report.fail("time limit", "recv returned")
except TimeoutError:
    if not 0.09 < time.monotonic() - began < 0.35:
        report.fail("time limit", f"after {time.monotonic() - began:.3f} s")
conn.sock.settimeout(10)
if conn.answer()[2] != b"late":
    report.fail("time limit", "the answer was lost")
report.finish()
