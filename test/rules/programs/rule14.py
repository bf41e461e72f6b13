"""Words in order under load: large answers through the kernel to many clients, while one measures how long small take."""
import sys
import threading
import time

from raw import Conn, Report, together

address, port, clients, rounds, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
SAMPLES = 60
report = Report()
done = threading.Event()
took = []


def measure():
    conn = Conn(address, port, "poll")
    n = 0
    while not done.is_set():
        n += 1
        began = time.perf_counter()
        try:
            if conn.get(f"/echo/{n}")[2] != str(n).encode():
                report.fail("measure", n)
        except Exception as e:
            report.fail("measure", e)
            return
        took.append(time.perf_counter() - began)
        time.sleep(0.001)


def client(i):
    try:
        conn = Conn(address, port, ("poll", "epoll", "edge", "select")[i % 4])
        n = -1
        # on a fast machine the rounds are over before there are samples enough
        while (n := n + 1) < rounds or (len(took) < SAMPLES and meter.is_alive()):
            got = conn.get(f"/size/{size}/{i}-{n}", pattern=True)
            if (got[0], got[2]) != (200, size):
                report.fail(f"{i}-{n}", got)
            report.add("words", size // 8)
    except Exception as e:
        report.fail(i, e)


meter = threading.Thread(target=measure)
meter.start()
together(clients, client)
done.set()
meter.join()
took.sort()
report.numbers.update(
    samples=len(took), p50_us=round(took[len(took) // 2] * 1e6), p99_us=round(took[len(took) * 99 // 100] * 1e6)
)
report.finish()
