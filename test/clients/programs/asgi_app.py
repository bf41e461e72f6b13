"""The paths of the other servers, as an ASGI application (uvicorn) and as a WSGI one (gunicorn)."""
import asyncio
import hashlib


def answer(path, body, name):
    if path == "/small":
        return 200, f"small body of {name}\n".encode()
    if path == "/large":
        return 200, b"0123456789" * 30_000
    if path == "/echo":
        return 200, f"{len(body)} {hashlib.sha1(body).hexdigest()}\n".encode()
    return 404, b"nothing here\n"


def pieces():
    return [bytes([97 + i]) * 2000 for i in range(10)]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    plain = (b"content-type", b"text/plain")
    if scope["path"] == "/chunked":
        await send({"type": "http.response.start", "status": 200, "headers": [plain]})
        for piece in pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0.001)
        return await send({"type": "http.response.body", "body": b""})
    status, data = answer(scope["path"], body, "uvicorn")
    headers = [plain, (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


def wsgi(environ, start):
    body = environ["wsgi.input"].read()
    path = environ["PATH_INFO"]
    if path == "/chunked":
        start("200 OK", [("Content-Type", "text/plain")])
        return iter(pieces())
    status, data = answer(path, body, "gunicorn")
    head = environ["REQUEST_METHOD"] == "HEAD"
    start(f"{status} {'OK' if status == 200 else 'Not Found'}", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [b"" if head else data]
