#!/usr/bin/env python3
"""Writes the CycloneDX 1.5 bill of materials of the product's binary from Cargo's own data, without a network.

What is linked into it: the normal dependencies of the package for its target, as resolved with Cargo.lock. Build
scripts, macros and what only tests use are not in the binary and not in the list. The same input gives the same bytes.

sbom.py VERSION-OF-TIMESTAMP(seconds since 1970) < cargo-metadata.json, with Cargo.lock beside it
"""

import datetime
import json
import sys
import tomllib
import uuid


def main():
    epoch = int(sys.argv[1])
    metadata = json.load(sys.stdin)
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    checksums = {(it["name"], it["version"]): it.get("checksum") for it in locked}
    packages = {it["id"]: it for it in metadata["packages"]}
    nodes = {it["id"]: it for it in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]

    def is_macro(package):
        return any("proc-macro" in it["kind"] for it in packages[package]["targets"])

    def links(package):
        found = []
        for it in nodes[package]["deps"]:
            normal = any(kind["kind"] is None for kind in it["dep_kinds"])
            if normal and not is_macro(it["pkg"]):
                found.append(it["pkg"])
        return sorted(found, key=reference)

    def reference(package):
        it = packages[package]
        return f"pkg:cargo/{it['name']}@{it['version']}"

    seen, open_ = {root}, [root]
    while open_:
        for it in links(open_.pop()):
            if it not in seen:
                seen.add(it)
                open_.append(it)

    def component(package, kind):
        it = packages[package]
        entry = {
            "type": kind,
            "bom-ref": reference(package),
            "name": it["name"],
            "version": it["version"],
            "purl": reference(package),
        }
        if it.get("description"):
            entry["description"] = " ".join(it["description"].split())
        checksum = checksums.get((it["name"], it["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if it.get("license"):
            # Old crates write MIT/Apache-2.0 for MIT OR Apache-2.0.
            expression = it["license"].replace("/", " OR ")
            entry["licenses"] = [{"expression": expression}]
        if it.get("repository"):
            entry["externalReferences"] = [{"type": "vcs", "url": it["repository"]}]
        return entry

    others = sorted(seen - {root}, key=reference)
    digest = "\n".join(reference(it) for it in others)
    when = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(root, "application"),
        },
        "components": [component(it, "library") for it in others],
        "dependencies": [
            {"ref": reference(it), "dependsOn": [reference(on) for on in links(it)]} for it in [root, *others]
        ],
    }
    json.dump(document, sys.stdout, indent=1, ensure_ascii=False)
    print()


main()
