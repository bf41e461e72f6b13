"""Requests that the kernel, the proxy and the kernel's own replies answer, mixed on one connection, in every way to
send and to read: each answer must be the next one's, byte for byte."""
import random
import sys
import time

from raw import MODES, Conn, Report, request, together

address, port, turns, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
report = Report()
WAYS = ["turns", "separately", "at once", "in pieces"]


def make(rng, tag):
    """(path, status, body or length of the pattern, answered by the proxy's rule)"""
    kind = rng.choice(("kernel", "kernel", "proxy", "denied", "size", "chunks"))
    if kind == "denied":
        return "/denied", 403, b"denied", False
    if kind == "size":
        n = rng.choice((0, 1, 1000, 40_000))
        return f"/size/{n}/{tag}", 200, n, False
    if kind == "chunks":
        return f"/chunks/3000/{rng.choice((100, 700))}/0/{tag}", 200, 3000, False
    return f"{'/p' if kind == 'proxy' else ''}/echo/{tag}", 200, tag.encode(), kind == "proxy"


def check(conn, wanted, where):
    path, status, body, proxied = wanted
    got = conn.answer(pattern=isinstance(body, int))
    if got[0] != status or got[2] != body or (got[1].get("x-way") == "proxy") != proxied:
        report.fail(where, f"{path}: {got[0]} {got[1]} {str(got[2])[:80]}")
        return False
    return True


def client(i):
    mode = MODES[i % len(MODES)]
    rng = random.Random(seed * 1000 + i)
    conn = Conn(address, port, mode)
    done = 0
    while done < turns:
        way = rng.choice(WAYS)
        wanted = [make(rng, f"{i}-{done}-{n}") for n in range(rng.randint(1, 6))]
        if way != "turns":  # Envoy closes when requests stand behind one that it answers itself
            wanted.sort(key=lambda w: w[0] == "/denied")
            wanted = [w for n, w in enumerate(wanted) if w[0] != "/denied" or n == len(wanted) - 1]
        where = f"{mode}, {way}, {[w[0] for w in wanted]}"
        try:
            if way == "turns":
                for w in wanted:
                    conn.send(request(w[0]))
                    if not check(conn, w, where):
                        return
            else:
                data = [request(w[0]) for w in wanted]
                if way == "at once":
                    conn.send(b"".join(data))
                elif way == "separately":
                    for d in data:
                        conn.send(d)
                        pause = rng.choice((0, 0, 0.00002, 0.0001, 0.0005))
                        end = time.perf_counter() + pause
                        while time.perf_counter() < end:
                            pass
                else:
                    whole = b"".join(data)
                    cut = rng.randint(1, len(whole) - 1)
                    conn.send(whole[:cut])
                    time.sleep(rng.choice((0, 0.0003)))
                    conn.send(whole[cut:])
                for w in wanted:
                    if not check(conn, w, where):
                        return
            done += len(wanted)
            report.add(way, len(wanted))
        except Exception as e:
            report.fail(where, e)
            return


together(len(MODES), client)
report.finish()
