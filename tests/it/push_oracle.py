"""A push service by other hands: Mozilla's http_ece decrypts, cryptography verifies the VAPID token (RFC 8291, RFC 8292).

Usage: push_oracle.py PORT. GET /keys tells the subscription's keys, POST /push takes a message, GET /got tells what came,
POST /expire ends the subscription.
"""

import base64
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import http_ece
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PORT = int(sys.argv[1])
KEY = ec.generate_private_key(ec.SECP256R1())
AUTH = os.urandom(16)
got, gone = [], []


def text_of(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def bytes_of(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read(headers, body):
    scheme, rest = headers["authorization"].split(" ", 1)
    if scheme.lower() != "vapid":
        raise ValueError(f"the scheme is {scheme}")
    parts = dict(it.strip().split("=", 1) for it in rest.split(","))
    signed, signature = parts["t"].rsplit(".", 1)
    raw = bytes_of(signature)
    halves = [int.from_bytes(it, "big") for it in (raw[:32], raw[32:])]
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes_of(parts["k"]))
    public.verify(utils.encode_dss_signature(*halves), signed.encode(), ec.ECDSA(hashes.SHA256()))
    claims = json.loads(bytes_of(signed.split(".")[1]))
    if claims["aud"] != f"http://localhost:{PORT}":
        raise ValueError(f"the audience is {claims['aud']}")
    if not time.time() < claims["exp"] <= time.time() + 86_400:
        raise ValueError(f"it expires at {claims['exp']}")
    if headers["content-encoding"] != "aes128gcm":
        raise ValueError(f"the encoding is {headers['content-encoding']}")
    plain = http_ece.decrypt(body, private_key=KEY, auth_secret=AUTH, version="aes128gcm")
    return {"text": plain.decode(), "claims": claims, "key": parts["k"], "ttl": headers["ttl"]}


class Handler(BaseHTTPRequestHandler):
    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/keys":
            point = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return self.answer(200, {"p256dh": text_of(point), "auth": text_of(AUTH)})
        return self.answer(200, got)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        if self.path == "/expire":
            gone.append(True)
            return self.answer(200, {})
        if gone:
            return self.answer(410, {})
        try:
            got.append(read(self.headers, body))
            return self.answer(201, {})
        except Exception as error:  # whatever it is, the test shall see it
            got.append({"error": repr(error)})
            return self.answer(400, {})

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
