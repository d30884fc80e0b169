"""A small HTTP/2 client that may misbehave: frames are made by hand, header blocks are literal, nothing is checked that
a test does not look at."""

import socket
import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}  # RFC 7541's static table


def frame(type, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([type, flags]) + struct.pack(">I", stream) + payload


def _string(s):
    n = len(s)
    if n < 127:
        return bytes([n]) + s
    n -= 127
    out = b"\x7f"
    while n > 127:
        out += bytes([n % 128 + 128])
        n //= 128
    return out + bytes([n]) + s


def block(method, path, *headers, scheme="http", authority="x"):
    """A header block: every field literal, without indexing (RFC 7541, 6.2.2)."""
    fields = [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority), *headers]
    return b"".join(b"\0" + _string(k.encode("latin-1")) + _string(v.encode("latin-1")) for k, v in fields)


class H2:
    """A connection; `sock` may be a TLS socket."""

    def __init__(self, sock, settings=b"", deadline=20, begun=0):  # begun: bytes of the preface that were sent already
        self.sock, self.data, self.next = sock, b"", 1
        self.replies, self.resets, self.goaways = {}, {}, []  # goaways: their last streams
        self.timeout = deadline
        sock.settimeout(deadline)
        sock.sendall(PREFACE[begun:] + frame(SETTINGS, payload=settings))

    @classmethod
    def connect(cls, port, **kw):
        return cls(socket.create_connection(("127.0.0.1", port)), **kw)

    def send(self, data):
        """False when the server is gone; that is seen by reading, after what it said last."""
        try:
            self.sock.sendall(data)
            return True
        except (ConnectionResetError, BrokenPipeError):
            return False

    def ask(self, method, path, body=None, *headers, end=True):
        """Send a request; its stream."""
        stream, self.next = self.next, self.next + 2
        flags = END_HEADERS | (END_STREAM if body is None and end else 0)
        out = frame(HEADERS, flags, stream, block(method, path, *headers))
        if body is not None:
            parts = [body[i:i + 16384] for i in range(0, len(body), 16384)] or [b""]
            out += b"".join(frame(DATA, 0, stream, p) for p in parts[:-1]) + frame(DATA, END_STREAM if end else 0, stream, parts[-1])
        self.send(out)
        return stream

    def read_frame(self):
        """(type, flags, stream, payload); EOFError at the end.  Notes replies, answers what the protocol wants answered."""
        while len(self.data) < 9 or len(self.data) < 9 + int.from_bytes(self.data[:3], "big"):
            try:
                more = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                more = b""
            if not more:
                raise EOFError
            self.data += more
        n = int.from_bytes(self.data[:3], "big")
        type, flags, stream = self.data[3], self.data[4], int.from_bytes(self.data[5:9], "big")
        payload, self.data = self.data[9:9 + n], self.data[9 + n:]
        if type == HEADERS:
            first = payload[0]
            status = STATUS[first & 127] if first & 128 else int(payload[2:5])
            self.replies[stream] = [status, b"", flags & END_STREAM]
        elif type == DATA:
            self.replies[stream][1] += payload
            self.replies[stream][2] = flags & END_STREAM
            if payload:
                update = struct.pack(">I", n)
                self.send(frame(WINDOW_UPDATE, 0, 0, update) + frame(WINDOW_UPDATE, 0, stream, update))
        elif type == RST_STREAM:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif type == GOAWAY:
            self.goaways.append(int.from_bytes(payload[:4], "big"))
        elif type == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK))
        return type, flags, stream, payload

    def reply(self, stream):
        """(status, body), or ("reset", code)."""
        while stream not in self.resets and not (stream in self.replies and self.replies[stream][2]):
            self.read_frame()
        if stream in self.resets:
            return "reset", self.resets[stream]
        return self.replies[stream][0], self.replies[stream][1]

    def get(self, path):
        return self.reply(self.ask("GET", path))

    def wait_closed(self):
        """Until the server closes; True."""
        try:
            while True:
                self.read_frame()
        except EOFError:
            return True

    def close(self):
        self.sock.close()
