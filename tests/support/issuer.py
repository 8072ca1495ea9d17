"""A small OpenID Connect issuer: a process of its own with its own keys, over real HTTP.

``GET /jwks`` publishes its public keys, ``POST /token`` signs the claims it is sent, ``POST /rotate`` makes a new key.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx

from tests.support.processes import ROOT
from tests.support.running import PATIENCE_SECONDS, free_ports, wait_until


@dataclass
class Issuer:
    """The issuer's process as a test sees it."""

    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.issuer", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, seconds=30, what="the issuer answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def token(self, claims: dict[str, Any], **how: str) -> str:
        """The claims signed with the newest key; ``alg`` and ``kid`` may be others than its own."""
        return httpx.post(f"{self.url}/token", json={"claims": claims, **how}, timeout=PATIENCE_SECONDS).text

    def rotate(self) -> None:
        httpx.post(f"{self.url}/rotate", timeout=PATIENCE_SECONDS).raise_for_status()

    def asked(self) -> int:
        """How often its keys were fetched."""
        return int(httpx.get(f"{self.url}/asked", timeout=PATIENCE_SECONDS).text)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/asked", timeout=30).status_code == 200
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def running_issuer() -> Iterator[Issuer]:
    issuer = Issuer(free_ports(1)[0])
    issuer.start()
    try:
        yield issuer
    finally:
        issuer.stop()


def serve(port: int) -> None:
    """The process itself: RSA and elliptic keys in turn."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    keys: list[tuple[str, str, Any]] = []
    asked = 0

    def rotate() -> None:
        number = len(keys)
        if number % 2:
            keys.append((f"key-{number}", "ES256", ec.generate_private_key(ec.SECP256R1())))
        else:
            keys.append((f"key-{number}", "RS256", rsa.generate_private_key(65537, 2048)))

    def published() -> dict[str, Any]:
        makers = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}
        newest = [
            {**makers[alg].to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, alg, key in keys[-2:]
        ]
        shared = {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"}
        return {"keys": [*newest, shared, {"kty": "unknown", "kid": "odd"}, "nonsense"]}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal asked
            if self.path == "/jwks":
                asked += 1
                self._say(json.dumps(published()))
            else:
                self._say(str(asked))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/rotate":
                rotate()
                self._say("")
                return
            wanted = json.loads(body)
            kid, alg, key = keys[-1]
            alg = wanted.get("alg", alg)
            secret = b"secret" if alg == "HS256" else None if alg == "none" else key
            headers = {"kid": wanted.get("kid", kid)}
            self._say(jwt.encode(wanted["claims"], secret, algorithm=alg, headers=headers))

        def log_message(self, *_: object) -> None:
            pass

        def _say(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    rotate()
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
