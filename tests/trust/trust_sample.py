"""A machine with keys, a trust root, records and a log, and an image that it has built."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "attestation"))

from image_sample import make_inputs

from kiln.attestation.attest import attest
from kiln.attestation.signer import Signer, Stamper
from kiln.attestation.signers import KeyRing
from kiln.attestation.trust_author import TrustStore
from kiln.attestation.verify import verify_image
from kiln.records.log import RecordLog
from kiln.records.publish import record_build
from kiln.records.store import Records
from kiln_wire import layout
from kiln_wire.finding import VerificationResult
from kiln_wire.policy import Policy
from kiln_wire.trust import StampTime, Trust, no_stamp_time
from kiln_wire.trust_root import open_trust_root

NOW = int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())
DAY = 86_400


@dataclass
class Machine:
    state: Path

    @property
    def ring(self) -> KeyRing:
        return KeyRing(self.state / "keys")

    @property
    def store(self) -> TrustStore:
        return TrustStore(self.state / "trust", self.ring)

    @property
    def log(self) -> RecordLog:
        return RecordLog(self.state, self.ring.signer("log"))

    def ready(self, now: int = NOW) -> Machine:
        self.store.ensure(now, first_roles=("image-vault",), logs=(self.log.key,))
        return self

    def document(self) -> dict[str, Any]:
        return self.store.document()

    def trust(self, now: int = NOW, stamp_time: StampTime = no_stamp_time) -> Trust:
        return Trust((), open_trust_root(self.document(), now=now), now=now, stamp_time=stamp_time)

    def image(self, directory: Path, signer: Signer | None = None, stamper: Stamper | None = None) -> Path:
        """Build, record and log an image."""
        signer = signer or self.ring.signer("image-vault")
        inputs = make_inputs(directory)
        attested = attest(inputs, signer, stamper)
        with Records(self.state) as records:
            moment = datetime.fromtimestamp(NOW, UTC)
            record = record_build(records, inputs, attested, signer, now=moment, stamper=stamper)
            self.log.catch_up(records)
        (directory / layout.LOG_PROOF).write_bytes(self.log.prove(record.sequence - 1).data)
        return directory

    def verify(self, image: Path, now: int = NOW, policy: Policy | None = None) -> VerificationResult:
        return verify_image(image, trust=self.trust(now), policy=policy)


def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state").ready()


def reasons(result: VerificationResult) -> set[tuple[str, str]]:
    return {(item.component, item.reason) for item in result.findings if item.severity == "error"}
