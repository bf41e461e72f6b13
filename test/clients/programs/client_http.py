"""Python http.client: one connection for everything."""
import hashlib
import sys
from http.client import HTTPConnection
from urllib.parse import urlparse


def letters(n):
    return (b"abcdefghijklmnopqrstuvwxyz" * (n // 26 + 1))[:n]


def pieces(n):
    for at in range(0, n, 7000):
        yield letters(n)[at : at + 7000]


for arg in sys.argv[1:]:
    name, url = arg.split("=")
    connection = HTTPConnection(urlparse(url).netloc, timeout=15)

    def ask(op, path, method="GET", body=None, **kw):
        connection.request(method, path, body, **kw)
        r = connection.getresponse()
        content = r.read()
        sha1 = hashlib.sha1(content).hexdigest()
        print(name, op, r.status, len(content), sha1, r.getheader("content-type", "-"), flush=True)

    for i in (1, 2, 3):
        ask(f"small-{i}", "/small")
    ask("head", "/small", "HEAD")
    ask("missing", "/missing")
    ask("post-small", "/echo", "POST", letters(100))
    ask("post-large", "/echo", "POST", letters(200_000))
    ask("post-chunked", "/echo", "POST", pieces(50_000), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    ask("chunked", "/chunked")
    ask("large", "/large")
    ask("small-4", "/small")
