#!/usr/bin/env python3
"""A server for functions in Python, with the standard library alone.

    from elapse_server import serve
    def handle(body: bytes, query: dict) -> bytes: ...
    serve(handle)

It answers where the worker wants it ($LISTEN_FDS, $ELAPSE_SOCKET or $PORT), a thread for each connection; see WIRE.md.
An exception becomes a failed invocation. Started by itself it gives every body back, after the `duration_ns` asked for.
"""
import os
import socket
import socketserver
import sys
import time
import traceback
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

BODY_LIMIT = 16 << 20


def _handler(handle):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it, a small answer waits for the acknowledgement of its head.
        wbufsize = -1

        def _answer(self, status, body):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def do_GET(self):
            self._answer(200 if self.path == "/" else 404, b"ready\n")

        def do_POST(self):
            url = urlsplit(self.path)
            try:
                length = int(self.headers.get("content-length", "0"))
            except ValueError:
                length = -1
            if not 0 <= length <= BODY_LIMIT:
                self.close_connection = True
                return self._answer(400, b"content-length is missing, malformed or above 16 MiB\n")
            body = self.rfile.read(length)
            if url.path != "/invoke":
                return self._answer(404, b"there are GET / and POST /invoke\n")
            query = {key: values[-1] for key, values in parse_qs(url.query).items()}
            try:
                self._answer(200, handle(body, query) or b"")
            except Exception as error:  # the function's own fault, told to its caller
                traceback.print_exc()
                self._answer(500, f"{type(error).__name__}: {error}\n".encode())

        def address_string(self):
            return "worker"

        def log_message(self, *args):
            pass

    return Handler


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener, handler):
        super().__init__(None, handler, bind_and_activate=False)
        self.socket = listener

    def get_request(self):
        return self.socket.accept()[0], ("worker", 0)


def _listener():
    if os.environ.get("LISTEN_FDS", "0") != "0":
        return socket.socket(fileno=3)
    path = os.environ.get("ELAPSE_SOCKET")
    if path:
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
    elif "PORT" in os.environ:
        listener = socket.create_server(("0.0.0.0", int(os.environ["PORT"])))
    else:
        sys.exit("neither LISTEN_FDS, ELAPSE_SOCKET nor PORT says where to listen")
    listener.listen(128)
    return listener


def serve(handle):
    """Answers invocations with handle(body, query) for ever."""
    _Server(_listener(), _handler(handle)).serve_forever()


def _echo(body, query):
    time.sleep(int(query.get("duration_ns", "0")) / 1e9)
    if query.get("fail") == "1":
        raise RuntimeError("the invocation was asked to fail")
    return body


if __name__ == "__main__":
    serve(_echo)
