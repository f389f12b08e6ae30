"""Calls to public servers: TLS with the name of the server, at the address that was looked at."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from annotate.connections import addresses, client
from annotate.connections.client import Server, asking, asking_async, body_of
from tests.model_server import Handler, ModelServer

NAME = "models.example"


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """It stands for one on the internet: its name leads to two addresses, of which one is dead."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, SHA256())
    )
    file = tmp_path / "both.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    script = ModelServer()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (Handler,), {"script": script}))
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(file)
    httpd.socket = ours.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setattr(client, "_tls", lambda: ssl.create_default_context(cafile=str(file)))
    real, dead, alive = socket.getaddrinfo, "127.0.0.9", "127.0.0.1"

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in (NAME, "other.example"):
            return [(socket.AF_INET, 1, 6, "", (each, port)) for each in (dead, alive)]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(
        addresses, "is_public", lambda each: each in ipaddress.ip_network("127.0.0.0/8")
    )
    script.url = f":{httpd.server_port}/v1"
    yield script
    httpd.shutdown()
    httpd.server_close()


def at_once(server: Server) -> bytes:
    with asking(server, "GET", "models") as response:
        return body_of(response)


@async_to_sync
async def waiting(server: Server) -> bytes:
    async with asking_async(server, "GET", "models") as response:
        return await response.aread()


WAYS = pytest.mark.parametrize("ask", [at_once, waiting])


@WAYS
def test_a_server_is_called_by_its_name_at_the_address_that_answers(
    tls_server: ModelServer, ask: Callable[[Server], bytes]
) -> None:
    assert b"cook-1" in ask(Server(f"https://{NAME}{tls_server.url}", "key"))


@WAYS
def test_a_server_that_cannot_prove_its_name_is_not_called(
    tls_server: ModelServer, ask: Callable[[Server], bytes]
) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        ask(Server(f"https://other.example{tls_server.url}", "key"))
    assert tls_server.listed == 0
