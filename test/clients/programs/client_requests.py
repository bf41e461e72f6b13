"""Python requests (urllib3)."""
import hashlib
import sys

import requests


def letters(n):
    return (b"abcdefghijklmnopqrstuvwxyz" * (n // 26 + 1))[:n]


def pieces(n):
    for at in range(0, n, 7000):
        yield letters(n)[at : at + 7000]


for arg in sys.argv[1:]:
    name, url = arg.split("=")
    session = requests.Session()

    def ask(op, path, method="GET", **kw):
        r = session.request(method, url + path, timeout=15, **kw)
        sha1 = hashlib.sha1(r.content).hexdigest()
        print(name, op, r.status_code, len(r.content), sha1, r.headers.get("content-type", "-"), flush=True)

    for i in (1, 2, 3):
        ask(f"small-{i}", "/small")
    ask("head", "/small", "HEAD")
    ask("missing", "/missing")
    ask("post-small", "/echo", "POST", data=letters(100))
    ask("post-large", "/echo", "POST", data=letters(200_000))
    ask("post-chunked", "/echo", "POST", data=pieces(50_000))
    ask("chunked", "/chunked")
    ask("large", "/large")
    ask("small-4", "/small")
