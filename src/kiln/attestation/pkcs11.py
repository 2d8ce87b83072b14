"""Signing with a key in a token that speaks PKCS#11: a smart card, an HSM, SoftHSM.

The key is named by a URI of RFC 7512: `pkcs11:token=T;object=LABEL?module-path=/lib.so&pin-source=env:NAME`. The
library is loaded only when such a key is used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from kiln.attestation.trust import refused
from kiln_wire.keys import load_key
from kiln_wire.spki import KeyFormatError, VerifyingKey

SCHEME: Final = "pkcs11"
_HALF_BYTES: Final = 32
_HINT: Final = "look with `pkcs11-tool --list-objects` which tokens and labels there are"
_PATH_KEYS: Final = frozenset({"token", "object", "id"})
_QUERY_KEYS: Final = frozenset({"module-path", "pin-source"})


class TokenSigner:
    """Signs with a private key in a token."""

    def __init__(self, private: Any, public: VerifyingKey, session: Any) -> None:
        self._private = private
        self._public = public
        self._session = session  # closing it would end the key

    @property
    def public_key(self) -> VerifyingKey:
        """The key that verifies."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*. Raises KilnError(ATTESTATION, "token-failed")."""
        import pkcs11  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature  # noqa: PLC0415

        try:
            if self._public.algorithm == "ed25519":
                return bytes(self._private.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
            raw = self._private.sign(hashlib.sha256(message).digest(), mechanism=pkcs11.Mechanism.ECDSA)
        except pkcs11.PKCS11Error as error:
            raise refused("token-failed", f"the token could not sign: {error!r}", _HINT) from error
        numbers = (int.from_bytes(part, "big") for part in (raw[:_HALF_BYTES], raw[_HALF_BYTES:]))
        return encode_dss_signature(*numbers)


def open_token(uri: str, read_secret: Callable[[str], bytes]) -> TokenSigner:
    """Return the signer of the key that *uri* names; *read_secret* resolves the reference to the PIN.

    Raises KilnError(ATTESTATION): `bad-signer` (the URI), `token-failed` (module, token, PIN or key).
    """
    import pkcs11  # noqa: PLC0415

    path, query = parse_uri(uri)
    if "module-path" not in query or "token" not in path or not path.keys() & {"object", "id"}:
        raise refused("bad-signer", f"{uri[:120]} names no module, token or object", "see docs/keys.md")
    pin = read_secret(query["pin-source"]).decode("utf-8") if "pin-source" in query else None
    wanted: dict[str, Any] = {}
    if "object" in path:
        wanted["label"] = path["object"]
    if "id" in path:
        wanted["id"] = path["id"].encode("latin-1")
    try:
        token = pkcs11.lib(query["module-path"]).get_token(token_label=path["token"])
        session = _log_in(token, pin)
        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **wanted)
        public = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, **wanted)
        return TokenSigner(private, _public_key(public), session)
    except pkcs11.PKCS11Error as error:
        raise refused("token-failed", f"no key for {uri[:120]}: {error!r}", _HINT) from error
    except (RuntimeError, KeyFormatError, KeyError, ValueError) as error:
        raise refused("token-failed", f"{uri[:120]}: {error}", _HINT) from error


def _log_in(token: Any, pin: str | None) -> Any:
    import pkcs11  # noqa: PLC0415

    try:
        return token.open(user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:  # a login is the process's, not the session's (PKCS #11, section 2.6.4)
        return token.open()


def parse_uri(uri: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the attributes of path and query. Raises KilnError(ATTESTATION, "bad-signer")."""
    match = re.fullmatch(r"pkcs11:([^?]*)(?:\?(.*))?", uri)
    if match is None:
        raise refused("bad-signer", f"{uri[:120]!r} is not a pkcs11: URI", "see docs/keys.md")
    parts = []
    for text, separator, known in ((match[1], ";", _PATH_KEYS), (match[2] or "", "&", _QUERY_KEYS)):
        pairs = [item.partition("=") for item in text.split(separator) if item]
        values = {key: unquote(value, "latin-1" if key == "id" else "utf-8") for key, _, value in pairs}
        if not values.keys() <= known or len(values) != len(pairs):
            raise refused("bad-signer", f"{uri[:120]}: only {', '.join(sorted(known))}, each once", "see docs/keys.md")
        parts.append(values)
    return parts[0], parts[1]


def _public_key(public: Any) -> VerifyingKey:
    import pkcs11  # noqa: PLC0415
    from pkcs11.util.ec import encode_ec_public_key  # noqa: PLC0415

    if public.key_type == pkcs11.KeyType.EC:
        return load_key(encode_ec_public_key(public))
    from kiln_wire.ed25519 import Ed25519Key  # noqa: PLC0415

    # CKA_EC_POINT of an Edwards key is an OCTET STRING around the 32 bytes (PKCS #11 3.0, section 2.3.5)
    return Ed25519Key(bytes(public[pkcs11.Attribute.EC_POINT])[-_HALF_BYTES:])
