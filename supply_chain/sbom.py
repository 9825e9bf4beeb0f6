"""The software bill of materials: CycloneDX, made from the lock file alone, the same each time."""

from __future__ import annotations

import json
import tomllib
import uuid
from hashlib import sha256
from pathlib import Path
from typing import Any

from supply_chain.lock import LOCK, ROOT, Pinned, read_lock

SBOM = ROOT / "sbom.cdx.json"


def write_sbom(path: Path = SBOM, lock: Path = LOCK) -> int:
    """Write the bill of what a lock file pins, and return how many packages it names.

    Raises:
        LockError: the lock file is not as it should be.
        InvalidBillError: what was made breaks the schema of CycloneDX.
    """
    packages = read_lock(lock)
    text = _render(packages, lock)
    _validate(text)
    path.write_text(text, "utf-8")
    return len(packages)


class InvalidBillError(Exception):
    """A bill breaks the schema of CycloneDX."""


def _validate(text: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise InvalidBillError(str(fault))


def _render(packages: list[Pinned], lock: Path) -> str:
    from cyclonedx.model import (
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        Property,
        XsUri,
    )
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    root = Component(
        name=project["name"],
        version=project["version"],
        type=ComponentType.APPLICATION,
        bom_ref=project["name"],
        description=project["description"],
        licenses=[DisjunctiveLicense(id=project["license"])],
    )
    bom = Bom()
    bom.metadata.component = root
    components = {}
    for one in packages:
        purl = PackageURL("pypi", None, one.name, one.version)
        # The hashes are those of files that may be installed; a reference to the package stands for them all.
        files = ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION,
            url=XsUri(purl.to_string()),
            comment="files of this version that may be installed",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in one.hashes],
        )
        components[one] = Component(
            name=one.name,
            version=one.version,
            type=ComponentType.LIBRARY,
            bom_ref=purl.to_string(),
            purl=purl,
            external_references=[files],
            properties=[Property(name="mnemoduck:marker", value=one.marker)] if one.marker else None,
        )
    bom.components.update(components.values())
    names = {one.name for one in packages}
    needs: dict[str, list[Any]] = {}
    for one in packages:
        for name in one.needed_by or ("",):
            needs.setdefault(name if name in names else "", []).append(components[one])
    bom.register_dependency(root, needs.get("", []))
    for one, component in components.items():  # of a name there may be several, for different Pythons
        bom.register_dependency(component, needs.get(one.name, []))
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    # A moment and a random number would make each bill another one.
    document["metadata"].pop("timestamp", None)
    document["metadata"].pop("tools", None)
    digest = sha256(lock.read_bytes()).hexdigest()
    document["serialNumber"] = f"urn:uuid:{uuid.UUID(hex=digest[:32], version=4)}"
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
