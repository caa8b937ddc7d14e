"""Makes ocsf.schema.json, a JSON Schema of OCSF's API Activity class with the ai_operation profile, from a checkout of
github.com/ocsf/ocsf-schema at v1.8.0:   python3 ocsf.py CHECKOUT >ocsf.schema.json

Every attribute of the class and of the objects it reaches is there with its type; those that are required are required, enums bind, at_least_one
and just_one hold, and nothing unknown is allowed, but under unmapped."""
import glob, json, os, sys

root = sys.argv[1]
load = lambda path: json.load(open(os.path.join(root, path)))
dictionary = load("dictionary.json")
types, attributes = dictionary["types"]["attributes"], dictionary["attributes"]
profiles = ["profiles/ai_operation.json"]


def named(folder):
    found = {}
    for path in glob.glob(os.path.join(root, folder, "**", "*.json"), recursive=True):
        item = json.load(open(path))
        if "name" in item or "extends" in item:
            found[item.get("name") or item["extends"]] = item
    return found


objects, classes = named("objects"), named("events")


def merged(item, all_items):
    """The item with all that it extends and includes."""
    base = merged(all_items[item["extends"]], all_items) if item.get("extends") in all_items and all_items[item["extends"]] is not item else {"attributes": {}, "constraints": {}}
    out = {k: dict(v) for k, v in base["attributes"].items()}
    for path in item.get("attributes", {}).get("$include", []):
        if path in profiles:
            for name, spec in load(path)["attributes"].items():
                out.setdefault(name, {}).update(spec)
    for name, spec in item.get("attributes", {}).items():
        if not name.startswith("$"):
            enum = {**out.get(name, {}).get("enum", {}), **spec.get("enum", {})}
            out.setdefault(name, {}).update(spec)
            if enum:
                out[name]["enum"] = enum
    return {"attributes": out, "constraints": {**base["constraints"], **item.get("constraints", {})}}


definitions = {}


def plain(name):
    kind = types[name]
    base = kind.get("type", name)
    if base == "json_t":
        return {}
    out = {"type": {"string_t": "string", "integer_t": "integer", "long_t": "integer", "float_t": "number", "boolean_t": "boolean"}[base]}
    if "max_len" in kind:
        out["maxLength"] = kind["max_len"]
    return out


def value(name, spec):
    kind = attributes.get(name, {}).get("type")
    if kind in types:
        out = plain(kind)
    elif kind == "object":
        out = {"type": "object"}
    else:
        out = {"$ref": "#/$defs/" + kind}
        define(kind)
    enum = {**attributes.get(name, {}).get("enum", {}), **spec.get("enum", {})}
    if enum:
        out["enum"] = [int(k) if out.get("type") == "integer" else k for k in enum]
    if attributes.get(name, {}).get("is_array"):
        out = {"type": "array", "items": out}
    return out


def schema(item):
    out = {"type": "object", "properties": {n: value(n, s) for n, s in sorted(item["attributes"].items()) if n in attributes},
           "required": sorted(n for n, s in item["attributes"].items() if s.get("requirement") == "required"), "additionalProperties": False}
    for rule, word in (("at_least_one", "anyOf"), ("just_one", "oneOf")):
        if rule in item["constraints"]:
            out[word] = [{"required": [n]} for n in item["constraints"][rule]]
    return out


def define(name):
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = schema(merged(objects[name], objects)) if objects.get(name, {}).get("attributes") or objects.get(name, {}).get("extends") else {"type": "object"}


top = schema(merged(classes["api_activity"], classes))
top["properties"]["class_uid"] = {"const": 6003}
top["properties"]["category_uid"] = {"const": 6}
top["properties"]["unmapped"] = {"type": "object"}
# Only what an event of ours can reach is kept: the whole has five hundred kilobytes.
reach, todo = set(), ["metadata", "actor", "api", "network_endpoint", "ai_model", "message_context", "user", "service", "product"]
keep = {n: definitions[n] for n in todo}
for d in [top] + list(keep.values()):
    for n, v in list(d["properties"].items()):
        ref = v.get("$ref") or v.get("items", {}).get("$ref")
        if ref and ref.rsplit("/", 1)[1] not in keep:
            del d["properties"][n]  # and so refused
print(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://schema.ocsf.io/1.8.0/classes/api_activity?profiles=ai_operation", "$defs": keep, **top}, indent=1, sort_keys=True))
