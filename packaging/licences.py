#!/usr/bin/env python3
"""Writes the list of crates in the binary and their licences, which the page Settings → About shows, from the bill of materials.

    cargo metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu |
        python3 packaging/sbom.py 0 | python3 packaging/licences.py >packaging/licences.txt
"""

import json
import sys

for it in json.load(sys.stdin)["components"]:
    licences = " AND ".join(one["expression"] for one in it.get("licenses", []))
    print(f"{it['name']} {it['version']}\t{licences or 'see its repository'}")
