"""Python's http.server, HTTP/1.1."""
import hashlib
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if self.path == "/small":
            self.answer(b"small body of python\n")
        elif self.path == "/large":
            self.answer(b"0123456789" * 30_000)
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(10):
                self.wfile.write(b"7d0\r\n" + bytes([97 + i]) * 2000 + b"\r\n")
                time.sleep(0.001)
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(b"nothing here\n", 404)

    do_HEAD = do_GET

    def do_POST(self):
        body = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(f"{len(body)} {hashlib.sha1(body).hexdigest()}\n".encode())


class Server(ThreadingHTTPServer):
    # with five, of 16 clients at once some are reset now and then, whoever connects
    request_queue_size = 128


server = Server((sys.argv[1], int(sys.argv[2])), Handler)
print("listening", flush=True)
server.serve_forever()
