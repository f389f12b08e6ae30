"""A security key in software, as a browser speaks for it: WebAuthn without attestation."""

import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256

PRESENT, HAS_CREDENTIAL = 0x01, 0x40


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SoftKey:
    def __init__(self, origin: str = "https://testserver") -> None:
        self.origin = origin
        self.number = os.urandom(16)
        self.private = ec.generate_private_key(ec.SECP256R1())

    def make(self, options: str) -> str:
        """What a browser answers `navigator.credentials.create` with, as JSON."""
        asked = json.loads(options)["publicKey"]
        public = cbor.encode(dict(ES256.from_cryptography_key(self.private.public_key())))
        credential = bytes(16) + len(self.number).to_bytes(2, "big") + self.number + public
        signed = self._data(asked["rp"]["id"], PRESENT | HAS_CREDENTIAL) + credential
        made = cbor.encode({"fmt": "none", "attStmt": {}, "authData": signed})
        said = {"attestationObject": encoded(made)}
        return self._answer("webauthn.create", asked["challenge"], said)

    def use(self, options: str) -> str:
        """What a browser answers `navigator.credentials.get` with, as JSON."""
        asked = json.loads(options)["publicKey"]
        data = self._data(asked["rpId"], PRESENT)
        client = self._client("webauthn.get", asked["challenge"])
        digest = hashlib.sha256(client).digest()
        signature = self.private.sign(data + digest, ec.ECDSA(hashes.SHA256()))
        said = {"authenticatorData": encoded(data), "signature": encoded(signature)}
        return self._answer("webauthn.get", asked["challenge"], said)

    def _data(self, site: str, flags: int) -> bytes:
        return hashlib.sha256(site.encode()).digest() + bytes([flags]) + bytes(4)

    def _client(self, kind: str, challenge: str) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin}
        return json.dumps(said).encode()

    def _answer(self, kind: str, challenge: str, said: dict[str, str]) -> str:
        number = encoded(self.number)
        client = encoded(self._client(kind, challenge))
        answer = {"id": number, "rawId": number, "type": "public-key"}
        response = {"clientDataJSON": client, **said}
        return json.dumps({**answer, "response": response, "clientExtensionResults": {}})
