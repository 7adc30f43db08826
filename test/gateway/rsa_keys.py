"""RSA signatures and AES-GCM, by another library than the one payonce uses.

Debian's python3-pycryptodome (whose module is named Cryptodome) shares no code with OpenSSL, so
that a mistake in payonce's signing cannot be answered with the same mistake here.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import os
import sys
import typing

DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"


def _find_cryptodome() -> None:
    """Also for a Python that is not Debian's: the package fits every CPython 3."""
    try:
        importlib.import_module("Cryptodome")
    except ModuleNotFoundError:
        sys.path.append(DEBIAN_PACKAGES)
        try:
            importlib.import_module("Cryptodome")
        finally:
            sys.path.remove(DEBIAN_PACKAGES)


_find_cryptodome()

from Cryptodome.Cipher import AES  # noqa: E402
from Cryptodome.Hash import SHA256  # noqa: E402
from Cryptodome.PublicKey import RSA  # noqa: E402
from Cryptodome.Signature import pkcs1_15  # noqa: E402


class Key:
    """A private key, a public key or a certificate, from a PEM file."""

    def __init__(self, directory: str, name: str) -> None:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            self._key = RSA.import_key(file.read())

    def sign(self, text: bytes) -> str:
        """RSASSA-PKCS1-v1_5 with SHA-256, in base64."""
        return base64.b64encode(pkcs1_15.new(self._key).sign(SHA256.new(text))).decode()

    def has_signed(self, text: bytes, signature: str) -> bool:
        try:
            decoded = base64.b64decode(signature, validate=True)
            pkcs1_15.new(self._key).verify(SHA256.new(text), decoded)
        except (binascii.Error, ValueError, TypeError):
            return False
        # What differs only in unused bits decodes alike, but is not what a signer writes.
        return base64.b64encode(decoded).decode() == signature


def seal_gcm(key: bytes, nonce: bytes, associated_data: bytes, plaintext: bytes) -> str:
    """AES-256-GCM: the encrypted text followed by its tag, in base64."""
    cipher: typing.Any = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(associated_data)
    return base64.b64encode(b"".join(cipher.encrypt_and_digest(plaintext))).decode()


def open_gcm(key: bytes, nonce: bytes, associated_data: bytes, ciphertext: str) -> bytes:
    """ValueError if a bit of it was changed."""
    sealed = base64.b64decode(ciphertext, validate=True)
    cipher: typing.Any = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(associated_data)
    plaintext: bytes = cipher.decrypt_and_verify(sealed[:-16], sealed[-16:])
    return plaintext
