"""Makes vectors.json from docs/leaf-format.md alone, sharing no code with the SQL or the Go."""
import hashlib, itertools, json, struct, uuid

sha = lambda b: hashlib.sha256(b).digest()
FIELDS = ["agent_id", "user_id", "action_type", "input_summary", "output_summary", "latency_ms", "metadata"]

def value(name, v):
    if v is None:
        return b"\x00"
    b = uuid.UUID(v).bytes if name == "agent_id" else struct.pack(">i", v) if name == "latency_ms" else v.encode()
    return b"\x01" + struct.pack(">I", len(b)) + b

def vector(what, **e):
    salt = bytes.fromhex(e["salt"])
    commitments = b""
    for n, name in enumerate(FIELDS, 1):
        n = bytes([n])
        commitments += sha(b"konstruct/field/v1" + n + sha(salt + n) + value(name, e.get(name)))
    leaf = (b"konstruct/event/v1" + uuid.UUID(e["tenant_id"]).bytes + uuid.UUID(e["id"]).bytes +
            struct.pack(">qqh", e["created_at"], e["recorded_at"], e["mode"]) + commitments)
    return {"what": what, **e, "commitments": commitments.hex(), "leaf_hash": sha(b"\x00" + leaf).hex()}

base = dict(tenant_id="11111111-1111-4111-8111-111111111111", id="018f4e5a-0000-7000-8000-000000000001", salt="000102030405460708090a0b0c0d0e0f",
            created_at=820454400000007, recorded_at=820454400123456, mode=0, action_type="llm_call", metadata="{}")
full = dict(agent_id="22222222-2222-4222-8222-222222222222", user_id="ada", input_summary="in", output_summary="out", latency_ms=1500)
vectors = []
for n in range(32):  # every combination of NULLs
    some = {k: v for i, (k, v) in enumerate(full.items()) if n >> i & 1}
    vectors.append(vector("NULL but for " + (", ".join(some) or "nothing"), **{**base, **some}))
for what, change in [
        ("empty strings", dict(user_id="", action_type="", input_summary="", output_summary="")),
        ("multibyte text", dict(user_id="ünïcode", input_summary="漢字 🔐", output_summary="e\u0301 ≠ é\nline\ttab")),
        ("jsonb numbers", dict(metadata='{"n": 1' + "0" * 400 + '}')),
        ("jsonb minus zero", dict(metadata='{"m": 0.0, "n": 0, "z": 1.50}')),
        ("jsonb order and escapes", dict(metadata='{"a": {"é": [null, true, "\\n"]}, "b": 1}')),
        ("latency 0", dict(latency_ms=0)), ("latency smallest", dict(latency_ms=-2**31)), ("latency largest", dict(latency_ms=2**31 - 1)),
        ("the epoch", dict(created_at=0)), ("one microsecond before it", dict(created_at=-1)), ("44 BC", dict(created_at=-64475870400000000)),
        ("infinity", dict(created_at=2**63 - 1)), ("-infinity", dict(created_at=-2**63)), ("adopted", dict(mode=1))]:
    vectors.append(vector(what, **{**base, **change}))
open("vectors.json", "w").write("[\n" + ",\n".join(json.dumps(v, ensure_ascii=False) for v in vectors) + "\n]\n")
