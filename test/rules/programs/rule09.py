"""Concurrent clients, each request with its own token."""
import random
import sys

from raw import Conn, Report, together

address, port, clients, requests = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
report = Report()


def client(i):
    rng = random.Random(i)
    conn = Conn(address, port, ("poll", "epoll", "edge")[i % 3], limit=30)
    try:
        for n in range(requests):
            path = f"/wait/{rng.randint(1, 3)}" if rng.random() < 0.05 else "/echo"
            status, _, body = conn.get(f"{path}/{i}-{n}")
            if status != 200 or body != f"{i}-{n}".encode():
                report.fail(f"{i}-{n}", f"{status} {body[:80]!r}")
                return
        report.add("answers", requests)
    except Exception as e:
        report.fail(f"{i}-{n}", e)


together(clients, client)
report.finish()
