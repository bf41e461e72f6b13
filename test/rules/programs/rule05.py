"""Many requests in flight at different points of their answers; each connection's end must be a reset.

The kernel has a quirk: a recv that was already blocked in a socket of a socket map is woken by the reset but says EAGAIN
(tcp_msg_wait_data looks at the queues only); the reset is what the next call says. It is never an end of file.
"""
import sys
import threading

from raw import Conn, Report, request, together

address, port, clients = sys.argv[1], sys.argv[2], int(sys.argv[3])
report = Report()
KINDS = ["/silence", "/half/length", "/half/chunked", "/half/big", "/p/half/length", "/p/silence"]
ready = threading.Semaphore(0)


def wait(i):
    kind = KINDS[i % len(KINDS)]
    try:
        conn = Conn(address, port, ("blocking", "epoll", "poll")[i // len(KINDS) % 3], limit=40)
        conn.get(f"/echo/{i}")
        conn.send(request(kind))
        if "half" in kind:
            while not conn.buffer:
                conn._more()
        ready.release()
        try:
            conn.answer()
        except BlockingIOError:
            if conn.mode != "blocking":
                raise
            report.add("quirk")
            conn.answer()
        report.fail(kind, "a whole answer")
    except ConnectionResetError:
        report.add("reset")
    except EOFError:
        report.fail(kind, "an end of file")
    except Exception as e:
        report.fail(kind, e)


def announce():
    for _ in range(clients):
        ready.acquire()
    print("in flight", flush=True)


threading.Thread(target=announce, daemon=True).start()
together(clients, wait)
report.finish()
