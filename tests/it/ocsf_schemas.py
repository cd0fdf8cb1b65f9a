"""Writes the JSON schemas of the OCSF classes that are named on the command line, as one object by class number."""

import json
import sys

from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=sys.argv[1]))
classes = {}
for uid in sys.argv[2:]:
    name = schema.lookup_class_name_from_uid(class_uid=int(uid))
    classes[uid] = schema.get_class_schema(class_name=name, profiles=[])
json.dump(classes, sys.stdout)
