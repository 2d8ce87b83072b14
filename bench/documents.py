"""What is done in one process: sentences, indexes, signatures."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from bench.measure import Row, compare, median_cpu
from bench.places import REPOSITORY

STANZAS = 64_000


def describe(_: Path) -> list[Row]:
    """Sentences of many kinds of people."""
    sys.path.insert(0, str(REPOSITORY / "tests/describe"))
    from sentences import HELD_OUT, OWN  # noqa: PLC0415

    from kiln.authoring.catalog.data import catalog_folder, load_catalog  # noqa: PLC0415
    from kiln.authoring.describe.interpret import interpret  # noqa: PLC0415
    from kiln.authoring.describe.model import DescribeDefaults  # noqa: PLC0415
    from kiln.errors import KilnError  # noqa: PLC0415

    catalog = load_catalog(catalog_folder({}))
    defaults = DescribeDefaults(base="debian-12", hardening="standard")
    taken = []
    for text in ["a server with SSH", *(entry[0] for entry in (*HELD_OUT, *OWN))]:
        started = time.process_time()
        try:
            interpret(text, catalog, defaults)
        except KilnError:
            continue  # a refusal ends early
        taken.append(1000 * (time.process_time() - started))
    # The first one makes the index of the catalogue.
    command = f"python -m bench describe (interpret, {len(taken) - 1} sentences)"
    return [compare("describe.sentence", statistics.median(taken[1:]), None, "ms of CPU for one", command)]


def lock(_: Path) -> list[Row]:
    """The index of a suite of 64,000 packages."""
    sys.path.insert(0, str(REPOSITORY / "tests/lock"))
    from lock_archive import deb, packages_text  # noqa: PLC0415

    from kiln.authoring.lock.packages import PackagesFile  # noqa: PLC0415

    text = packages_text([deb("package")]).replace(b"further", b"further" * 80)
    data = b"".join(text.replace(b"package", b"package-%d" % number, 1) for number in range(STANZAS))
    taken = median_cpu(lambda: PackagesFile(data, mirror="debian", suite="bookworm", path="main/Packages"), 3)
    return [compare("lock.index_64000", taken, None, "s of CPU", "python -m bench lock (PackagesFile)")]


def wire(_: Path) -> list[Row]:
    """A signature, by our own arithmetic (a device has no other) and by OpenSSL's."""
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    from kiln_wire.p256 import PublicKey  # noqa: PLC0415

    private = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
    message = b"a statement" * 100
    signature = private.sign(message, ec.ECDSA(hashes.SHA256()))
    public = private.public_key()
    formats = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key = PublicKey.load(public.public_bytes(*formats))
    own = median_cpu(lambda: key.verify(signature, message), 20)
    theirs = median_cpu(lambda: public.verify(signature, message, ec.ECDSA(hashes.SHA256())), 20)
    unit = "s of CPU for one (theirs: OpenSSL)"
    return [compare("wire.verify_signature", own, theirs, unit, "python -m bench wire (PublicKey.verify)")]
