"""FINs of upstreams: behind an answer, shortly after it, and on idle connections while the client waits in recv."""
import select
import sys
import threading

from raw import Conn, Report, together

address, port, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
report = Report()


def behind(i):
    """The FIN is in the segment of the answer, which must be whole, and the connection must go on."""
    conn = Conn(address, port, ("blocking", "poll", "edge", "small")[i])
    for n in range(rounds):
        try:
            for kind in ("fin", "echo"):
                status, _, body = conn.get(f"/{kind}/{i}-{n}")
                if status != 200 or body != f"{i}-{n}".encode():
                    report.fail(f"{kind} {n}", f"{status} {body[:80]!r}")
                report.add("answers")
        except Exception as e:
            report.fail(f"behind {i} {n}", e)
            conn = Conn(address, port)


def after(i):
    """The FIN comes a little later: the next request may meet it, and is then served or gets a clean 503."""
    conn = Conn(address, port)
    for n in range(rounds):
        try:
            status, _, body = conn.get(f"/finlater/{n % 7 * 30}/{i}-{n}")
            if status == 200 and body == f"{i}-{n}".encode():
                report.add("later")
            elif status == 503:
                report.add("clean_503")
            else:
                report.fail(f"finlater {n}", f"{status} {body[:80]!r}")
        except Exception as e:
            report.fail(f"finlater {i} {n}", e)
            conn = Conn(address, port)


together(4, behind)
together(2, after)

# Idle: the test closes the server's idle connections when told; these clients must not notice anything.
waiting = [Conn(address, port) for _ in range(8)]
together(8, lambda i: waiting[i].get(f"/wait/50/{i}"))
ended = []


def wait_in_recv(conn):
    try:
        ended.append(conn.sock.recv(1000))
    except OSError as e:
        ended.append(e)


for c in waiting[:4]:
    threading.Thread(target=wait_in_recv, args=(c,), daemon=True).start()
print("idle", flush=True)
sys.stdin.readline()
if ended:
    report.fail("a blocked recv ended", repr(ended))
if select.select([c.sock for c in waiting[4:]], [], [], 0)[0]:
    report.fail("idle", "a client's connection became readable")
for i, c in enumerate(waiting[4:]):
    try:
        status, _, body = c.get(f"/echo/again-{i}")
        if status != 200 or body != f"again-{i}".encode():
            report.fail("after idle", f"{status} {body[:80]!r}")
        report.add("after_idle")
    except Exception as e:
        report.fail("after idle", e)
report.finish()
