"""A parent instance that is not the agent: it speaks the enclave's protocol and owns the line to KMS.

usage: parent.py VSOCK PORT NODE NAME BLOB KMS ACTION…     AWS credentials from the environment

VSOCK is the unix socket of the machine's vsock, PORT the enclave's, KMS the HOST:PORT everything asked for is
connected to. BLOB is opened as NODE's key NAME, and one JSON object is printed for each answer: {"key": HEX}, or
{"class", "code", "message"} of a refusal; "sent" is how many bytes came from KMS on the last connection.

open                what an honest parent does
cut N               the line ends after N bytes from KMS
flip N              bit 0 of the Nth byte from KMS is flipped
delay SECONDS       every piece from KMS comes that late
stranger HOST:PORT  another server answers for KMS
replay              a second open gets, byte for byte, what KMS sent in the first
hold                keeps the connection, on which a further request is announced, until a line is read; prints
                    {"key", "data_key_id"} first
"""

import json
import os
import socket
import struct
import sys
import threading
import time

import cbor2

HELLO, OPEN = 0, 2
REFUSED, DELIVERED = 2, 0
CLASSES = ["denied", "damaged", "unavailable", "misuse", "internal"]


class Line:
    """The way from the enclave to KMS: HTTP CONNECT on a port of the parent."""

    def __init__(self, vsock, kms):
        self.port = 0x30000000 | int.from_bytes(os.urandom(3), "big")
        self.kms = kms
        self.path = f"{vsock}_{self.port}"
        self.change = None
        self.end = None
        self.delay = 0
        self.recorded = []
        self.replayed = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            enclave, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(enclave,), daemon=True).start()

    def serve(self, enclave):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = enclave.recv(4096)
            if not piece:
                return
            head += piece
        enclave.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if self.replayed is not None:
            enclave.recv(4096)
            send(enclave, self.replayed)
            enclave.recv(4096)
            return
        host, port = self.kms.rsplit(":", 1)
        kms = socket.create_connection((host, int(port)))
        threading.Thread(target=pump, args=(enclave, kms), daemon=True).start()
        sent, self.recorded = 0, []
        while True:
            piece = kms.recv(65536)
            if not piece:
                break
            self.recorded.append(piece)
            if self.delay:
                time.sleep(self.delay)
            if self.change:
                piece = self.change(piece, sent)
            if self.end is not None:
                piece = piece[: self.end - sent]
            sent += len(piece)
            if not send(enclave, piece) or sent == self.end:
                break
        for end in (enclave, kms):
            hang_up(end)


def send(stream, piece):
    try:
        stream.sendall(piece)
        return True
    except OSError:
        return False


def hang_up(stream):
    try:
        # Closing alone waits for the thread that reads from it.
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    stream.close()


def pump(source, sink):
    while True:
        try:
            piece = source.recv(65536)
        except OSError:
            return
        if not piece or not send(sink, piece):
            return


def flip_at(place):
    def change(piece, sent):
        at = place - sent
        if 0 <= at < len(piece):
            piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        return piece

    return change


class Enclave:
    """One connection to the enclave's service."""

    def __init__(self, vsock, port):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(vsock)
        self.stream.sendall(f"CONNECT {port}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            byte = self.stream.recv(1)
            assert byte, f"no connection: {answer!r}"
            answer += byte
        assert answer.startswith(b"OK "), answer
        reply, _ = self.ask([HELLO, 1, "parent.py"], b"")
        assert reply[0] == HELLO, reply

    def read(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            assert piece, "the enclave ended the connection"
            data += piece
        return data

    def ask(self, request, payload):
        message = cbor2.dumps(request)
        self.stream.sendall(struct.pack(">II", len(message), len(payload)) + message + payload)
        lengths = struct.unpack(">II", self.read(8))
        return cbor2.loads(self.read(lengths[0])), self.read(lengths[1])

    def open(self, node, name, blob, line, more=False):
        credentials = [
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ.get("AWS_SESSION_TOKEN"),
            None,
        ]
        # No signed TPM policies, nothing of Azure.
        context = [credentials, f"vsock:{line.port}", [], [[], None]]
        reply, payload = self.ask([OPEN, node, [[name, len(blob)]], more, context], blob)
        if reply[0] != OPEN:
            return refusal(reply[1])
        outcome = reply[1][0]
        if outcome[0] == DELIVERED:
            return {"key": payload[: outcome[1]].hex()}
        return refusal(outcome[1])


def refusal(found):
    return {"class": CLASSES[found[0]], "code": found[1], "message": found[2]}


def tell(answer):
    print(json.dumps(answer), flush=True)


def main():
    vsock, port, node, name, path, kms, action, *more = sys.argv[1:]
    with open(path, "rb") as file:
        blob = file.read()
    line = Line(vsock, more[0] if action == "stranger" else kms)
    enclave = Enclave(vsock, port)
    if action == "cut":
        line.end = int(more[0])
    elif action == "flip":
        line.change = flip_at(int(more[0]))
    elif action == "delay":
        line.delay = float(more[0])
    elif action not in ("open", "stranger", "replay", "hold"):
        sys.exit(__doc__)
    answer = enclave.open(node, name, blob, line, more=action == "hold")
    answer["sent"] = sum(map(len, line.recorded))
    if action == "hold":
        header = cbor2.loads(cbor2.loads(blob)[2])
        answer["data_key_id"] = header[9].hex()
    tell(answer)
    if action == "hold":
        sys.stdin.readline()
    if action == "replay":
        line.replayed = b"".join(line.recorded)
        tell(Enclave(vsock, port).open(node, name, blob, line))
    os.unlink(line.path)


if __name__ == "__main__":
    main()
