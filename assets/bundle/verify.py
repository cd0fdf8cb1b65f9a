#!/usr/bin/env python3
"""Verifies a SignedApproval audit bundle with Python 3.9 and openssl alone.

    verify.py [BUNDLE.zip | FOLDER] [--key PUB.pem] [--log-key VKEY | --log-key FILE]

Without BUNDLE it verifies the folder it lies in. --key and --log-key may be repeated; without them the keys are taken
from the bundle itself, which proves nothing about whose they are, and the verdict says so.

Exit code 0: everything holds. 1: something does not. 2: wrong usage.
"""
import argparse, base64, datetime, hashlib, json, os, re, struct, subprocess, sys, tempfile, zlib

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATES = "https://signedapproval.net/attestation/"
PAYLOAD = "application/vnd.in-toto+json"
KEY_PAYLOAD = "application/vnd.signedapproval.key+json"
ENDINGS = (".dsse.json", ".event.json", ".sigstore.json", ".tlog-proof")
FIXED = {"README.txt", "SHA256SUMS", "approvals.csv", "events.jsonl", "keys/history.json", "keys/log.vkey",
         "log/checkpoint-from", "log/checkpoint-to", "log/consistency.txt", "manifest.dsse.json", "report.html", "verify.py"}
KNOWN = re.compile(r"blobs/[0-9a-f]{64}|credentials/crd_[0-9a-f]{64}\.(dsse\.json|event\.json|sigstore\.json|tlog-proof)|"
                   r"outcomes/apr_[0-9a-f]{32}\.dsse\.json|keys/credential-[a-z0-9-]+\.pem|schema/[a-z0-9-]+\.json|"
                   r"erasures/(checkpoint|consistency\.txt|(0|[1-9][0-9]*)\.(event\.json|tlog-proof))")
NAMED_MAX = 1000
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


class Wrong(Exception):
    """Something does not hold: the check's name and what was found."""


def must(truth, check, detail):
    if not truth:
        raise Wrong(check, detail)


def sha256(data):
    return hashlib.sha256(data).digest()


def hexsha(data):
    return hashlib.sha256(data).hexdigest()


def b64(text, check="form"):
    try:
        data = base64.b64decode(text, validate=True)
    except Exception:
        raise Wrong(check, "not base64") from None
    must(base64.b64encode(data).decode() == text, check, "not base64 in its one form")
    return data


def parse(data, check):
    """JSON without doubled members, fractions or huge numbers."""
    def pairs(items):
        members = dict(items)
        must(len(members) == len(items), check, "a member stands twice")
        return members

    def number(text):
        value = int(text)
        must(abs(value) < 2 ** 53, check, "a number is too large")
        return value

    def refuse(text):
        raise Wrong(check, "a number has a fraction")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_int=number, parse_float=refuse, parse_constant=refuse)
    except Wrong:
        raise
    except Exception:
        raise Wrong(check, "not JSON") from None


def shown(text):
    return "".join(c if c.isprintable() else "\\u{%x}" % ord(c) for c in str(text))[:200]


def when(text, check):
    must(isinstance(text, str) and TIME.fullmatch(text), check, "%s is not a time" % shown(text))
    try:
        whole = datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise Wrong(check, "%s is not a time" % shown(text)) from None
    fraction = text[20:-1] if len(text) > 20 else ""
    return int(whole.timestamp()) * 1000 + int((fraction + "000")[:3])


# ---- signatures, by openssl ----

def openssl(arguments, files):
    """Runs openssl with its input in files; whether it was content."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            with open(os.path.join(folder, name), "wb") as out:
                out.write(data)
        done = subprocess.run(["openssl"] + arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done.returncode == 0


def pem(der):
    body = base64.b64encode(der).decode()
    lines = [body[at:at + 64] for at in range(0, len(body), 64)]
    return ("-----BEGIN PUBLIC KEY-----\n" + "\n".join(lines) + "\n-----END PUBLIC KEY-----\n").encode()


def ed25519(spki, message, signature):
    return len(signature) == 64 and openssl(["pkeyutl", "-verify", "-pubin", "-inkey", "k", "-rawin", "-in", "m", "-sigfile", "s"],
                                            {"k": pem(spki), "m": message, "s": signature})


def with_sha256(spki, message, signature):
    return openssl(["dgst", "-sha256", "-verify", "k", "-signature", "s", "m"], {"k": pem(spki), "m": message, "s": signature})


ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")


def envelope(data, check):
    """A DSSE envelope in its one form: payload type, payload, [(key id, signature)]."""
    it = parse(data, check)
    must(isinstance(it, dict) and list(it) == ["payload", "payloadType", "signatures"], check, "not an envelope")
    must(isinstance(it["signatures"], list) and it["signatures"], check, "an envelope without signature")
    payload = b64(it["payload"], check)
    signatures = []
    for one in it["signatures"]:
        must(isinstance(one, dict) and list(one) == ["keyid", "sig"], check, "not a signature")
        must(re.fullmatch("[0-9a-f]{64}", str(one["keyid"])), check, "not a key id")
        signatures.append((one["keyid"], b64(one["sig"], check)))
    same = json.dumps(it, separators=(",", ":"), ensure_ascii=False).encode()
    must(same == data, check, "the envelope is not in its one form")
    return it["payloadType"], payload, signatures


def pae(kind, payload):
    return b"DSSEv1 %d %s %d " % (len(kind), kind.encode(), len(payload)) + payload


def opened(data, keys, check):
    """The statement of an envelope signed by one of `keys`, and the key's id."""
    kind, payload, signatures = envelope(data, check)
    must(kind == PAYLOAD and len(signatures) == 1, check, "not a statement with one signature")
    keyid, signature = signatures[0]
    must(keyid in keys, check, "signed by key %s, which is not trusted" % keyid)
    must(ed25519(keys[keyid], pae(kind, payload), signature), check, "the signature by key %s does not verify" % keyid)
    statement = parse(payload, check)
    must(isinstance(statement, dict) and list(statement) == ["_type", "subject", "predicateType", "predicate"]
         and statement["_type"] == STATEMENT, check, "not an in-toto statement")
    return statement, keyid


# ---- the archive ----

class Zip:
    """The archive, held byte for byte against the one form it has: stored, sorted, nothing between or behind."""

    def __init__(self, data):
        self.data, self.entries = data, {}
        check = "archive"
        must(len(data) >= 22 and data[-22:-18] == b"PK\5\6", check, "it does not end as a ZIP does")
        _, _, _, count, count2, size, start, comment = struct.unpack("<4sHHHHIIH", data[-22:])
        if (count, size, start) == (0xffff, 0xffffffff, 0xffffffff):
            must(len(data) >= 98, check, "its ZIP64 end is missing")
            count, size, start = struct.unpack("<QQQ", data[-98 + 32:-98 + 56])
        must(count <= 5_000_000 and start + size <= len(data), check, "its directory is not where it must be")
        at, offset, last, directory = start, 0, b"", []
        for _ in range(count):
            must(at + 46 <= start + size, check, "its directory is shorter than it announces")
            fields = struct.unpack("<4sHHHHHHIIIHHHHHII", data[at:at + 46])
            method, crc, length, name_length = fields[4], fields[7], fields[9], fields[10]
            name = data[at + 46:at + 46 + name_length]
            must(method == 0, check, "%s is compressed; it is not unpacked" % shown(name.decode("utf-8", "replace")))
            must(0 < name_length <= 200 and name > last, check, "a name is missing, doubled or out of order")
            try:
                text = name.decode("ascii")
            except UnicodeDecodeError:
                raise Wrong(check, "a name is not text") from None
            must(text in FIXED or KNOWN.fullmatch(text), check, "it holds %s, which no bundle has" % shown(text))
            far = offset >= 0xffffffff
            record = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 3 << 8 | 45, 45 if far else 20, 0, 0, 0, 0x21, crc, length, length, name_length,
                                 12 if far else 0, 0, 0, 0, 0o100644 << 16, min(offset, 0xffffffff)) + name
            if far:
                record += struct.pack("<HHQ", 1, 8, offset)
            must(data[at:at + len(record)] == record, check, "the directory's record of %s is not the one it must have" % shown(text))
            local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0x21, crc, length, length, name_length, 0) + name
            must(data[offset:offset + len(local)] == local, check, "the header of %s is not the one it must have" % shown(text))
            content = offset + len(local)
            offset = content + length
            must(offset <= start, check, "%s reaches over the end" % shown(text))
            must(zlib.crc32(data[content:offset]) == crc, check, "%s does not match its checksum" % shown(text))
            self.entries[text] = (content, offset)
            directory.append(record)
            at, last = at + len(record), name
        must(at == start + size and offset == start, check, "there is something between the files and the directory")
        end = b""
        far = count >= 0xffff or start >= 0xffffffff or size >= 0xffffffff
        if far:
            end += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, start)
            end += struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
        short = 0xffff if far else count
        end += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, short, short, 0xffffffff if far else size, 0xffffffff if far else start, 0)
        must(data[start + size:] == end, check, "its end is not the one it must have")

    def names(self):
        return list(self.entries)

    def read(self, name):
        if name not in self.entries:
            return None
        begin, end = self.entries[name]
        return self.data[begin:end]


class Folder:
    """The same files, unpacked."""

    def __init__(self, root):
        self.root, found = root, []
        for where, folders, files in os.walk(root):
            for name in files:
                path = os.path.relpath(os.path.join(where, name), root).replace(os.sep, "/")
                must(not os.path.islink(os.path.join(where, name)), "archive", "%s is a link" % shown(path))
                must(path in FIXED or KNOWN.fullmatch(path), "archive", "there is %s, which no bundle has" % shown(path))
                found.append(path)
        self.found = sorted(found)

    def names(self):
        return self.found

    def read(self, name):
        if name not in self.found:
            return None
        with open(os.path.join(self.root, *name.split("/")), "rb") as file:
            return file.read()


# ---- the log ----

def leaf_hash(leaf):
    return sha256(b"\0" + leaf)


def node(left, right):
    return sha256(b"\1" + left + right)


def vkey(line):
    name, _, rest = line.partition("+")
    key_id, _, material = rest.partition("+")
    raw = b64(material, "log")
    must(len(raw) == 33 and raw[0] == 1, "log", "not an Ed25519 verifier key")
    must(sha256(name.encode() + b"\n" + raw)[:4].hex() == key_id, "log", "a verifier key's id is not its own")
    return name, bytes.fromhex(key_id), raw[1:]


def instance(origin):
    parts = origin.rsplit("/", 3)
    return parts[2] if len(parts) == 4 and parts[1] == "log" and len(parts[2]) == 8 else None


def checkpoint(note, keys, what):
    """Origin, size and root of a signed checkpoint."""
    try:
        text = note.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong("log", "%s is not text" % what) from None
    body, gap, signature = text.partition("\n\n")
    lines = body.split("\n")
    found = re.fullmatch("\u2014 ([^ +\n]+) ([A-Za-z0-9+/=]+)\n", signature)
    must(gap and len(lines) == 3 and found and re.fullmatch("0|[1-9][0-9]*", lines[1]), "log", "%s is not a signed checkpoint" % what)
    root, blob = b64(lines[2], "log"), b64(found.group(2), "log")
    must(len(root) == 32 and found.group(1) == lines[0], "log", "%s is not a signed checkpoint" % what)
    for name, key_id, raw in keys:
        if name == lines[0] and blob[:4] == key_id and ed25519(ED25519_SPKI + raw, (body + "\n").encode(), blob[4:]):
            return lines[0], int(lines[1]), root
    raise Wrong("log", "%s is not signed by a log key you trust" % what)


def inclusion(leaf, index, size, proof, root):
    must(0 <= index < size, "credentials", "a proof is for an entry that the log does not have")
    at, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if at % 2 or at == last:
            value = node(sibling, value)
            while at % 2 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node(value, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and value == root


def consistent(old, old_root, new, new_root, proof):
    """RFC 9162, 2.1.4.2: the larger tree begins with the smaller one."""
    if old == new:
        return not proof and old_root == new_root
    if not 0 < old < new or not proof:
        return False
    proof = list(proof) if old & (old - 1) else [old_root] + list(proof)
    at, last = old - 1, new - 1
    while at % 2:
        at, last = at >> 1, last >> 1
    one = other = proof[0]
    for sibling in proof[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            one, other = node(sibling, one), node(sibling, other)
            while at % 2 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            other = node(other, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and one == old_root and other == new_root


def split(size):
    return 1 << (size - 1).bit_length() - 1


def ranges(old, first, last, whole):
    """The subtrees a consistency proof is made of (RFC 6962, 2.1.2), relative to the whole tree."""
    if old == last - first:
        return [] if whole else [(first, last)]
    middle = split(last - first)
    if old <= middle:
        return ranges(old, first, first + middle, whole) + [(first + middle, last)]
    return ranges(old - middle, first + middle, last, False) + [(first, first + middle)]


class Frontier:
    """The right edge of a tree."""

    def __init__(self, size, peaks):
        self.size, self.peaks = size, peaks

    def append(self, value):
        at = self.size
        while at & 1:
            value, at = node(self.peaks.pop(), value), at >> 1
        self.peaks.append(value)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256(b"")
        value = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            value = node(left, value)
        return value


def begin(old, old_root, new, proof):
    """A frontier of the old tree, if the proof rebuilds its root; only the new root is left to be shown, by the leaves."""
    must(old <= new, "log", "the second checkpoint is smaller than the first")
    if old == 0 or old == new:
        must(not proof, "log", "a consistency proof where none is needed")
        must(old or old_root == sha256(b""), "log", "the empty tree has another root")
        return Frontier(0, []) if old == 0 else None
    parts = ranges(old, 0, new, True)
    must(len(parts) == len(proof), "log", "the consistency proof has the wrong length")
    if old & (old - 1) == 0:
        return Frontier(old, [old_root])
    peaks = [value for (first, last), value in zip(parts, proof) if last <= old]
    frontier = Frontier(old, peaks[::-1])
    must(frontier.root() == old_root, "log", "the consistency proof does not lead to the first checkpoint")
    return frontier


# ---- decisions ----

def webauthn(p, intent):
    w = p["evidence"]["webauthn"]
    check = "credentials"
    nonce, auth, client = b64(w["nonce"], check), b64(w["authenticatorData"], check), b64(w["clientDataJSON"], check)
    spki, signature = b64(w["publicKeySpki"], check), b64(w["signature"], check)
    must(len(nonce) == 32 and len(auth) >= 37, check, "the passkey's evidence is too short")
    challenge = sha256(b"signedapproval/webauthn-challenge/v1\0" + nonce + sha256(intent))
    told = parse(client, check)
    must(told.get("type") == "webauthn.get" and told.get("challenge") == base64.urlsafe_b64encode(challenge).decode().rstrip("="),
         check, "the passkey signed another challenge")
    must(told.get("origin") == w["origin"] and not told.get("crossOrigin") and "topOrigin" not in told, check, "the passkey signed on another page")
    must(auth[:32] == sha256(w["rpId"].encode()) and auth[32] & 5 == 5, check, "the passkey did not verify its user here")
    message = auth + sha256(client)
    good = {-7: with_sha256, -257: with_sha256, -8: ed25519}.get(w["alg"])
    must(good, check, "algorithm %s is not known" % w["alg"])
    must(good(spki, message, signature), check, "the person's passkey signature does not verify")


def digest_of(subject, subject_bytes):
    if subject["kind"] == "change":
        return {"gitCommit": subject["head"]}
    return subject.get("digest") or {"sha256": hexsha(subject_bytes)}


def credential(data, keys):
    """A credential that holds: its predicate, its intent's subject bytes, the key's id."""
    check = "credentials"
    statement, keyid = opened(data, keys, check)
    must(statement["predicateType"] == PREDICATES + "approval/v1", check, "not an approval credential")
    p = statement["predicate"]
    intent_bytes = b64(p["intent"]["content"], check)
    must(hexsha(intent_bytes) == p["intent"]["sha256"], check, "the intent is not the one that was named")
    intent = parse(intent_bytes, check)
    found = re.search(rb'"subject":(\{.*\}),"subject_sha256":"[0-9a-f]{64}"', intent_bytes, re.S)
    must(found and hexsha(found.group(1)) == intent["subject_sha256"], check, "the subject is not the one that was named")
    subject = intent["subject"]
    must(parse(found.group(1), check) == subject, check, "the subject is not the one that was named")
    gate = p["gate"]
    pairs = [(p["decision"], intent["decision"]), (p["meaning"], intent["meaning"]), (p["comment"], intent["comment"]),
             (p["request"], intent["request"]), (p["approver"]["id"], intent["person"]), (p["approver"]["name"], intent["person_name"]),
             (p["policy"]["sha256"], intent["policy_sha256"]), (p["policy"]["rules"], intent["rules"]), (gate["kind"], subject["kind"]),
             (gate.get("targetRef"), subject.get("target")), (gate.get("environment"), subject.get("environment")),
             (p["times"]["challengeIssuedAt"], intent["issued_at"]),
             ({"approve": "approval", "reject": "rejection"}.get(p["decision"]), p["meaning"])]
    must(all(one == other for one, other in pairs), check, "statement and intent do not agree")
    must(intent["v"] == 1 and intent["type"] == "signedapproval/intent", check, "not an intent")
    must(len(statement["subject"]) == 1, check, "not one subject")
    digest = dict(statement["subject"][0]["digest"])
    digest.pop("gitTree", None)
    must(digest == digest_of(subject, found.group(1)), check, "the statement is about another digest than the intent")
    decided = when(p["times"]["decidedAt"], check)
    must(intent["expires_at"] is None or decided < when(intent["expires_at"], check), check, "decided after the request had expired")
    kind = p["method"]["type"]
    if kind == "totp":
        must(p["method"]["grade"] == "server-attested" and list(p["evidence"]) == ["totp"] and not p["method"]["userVerified"],
             check, "a one-time code that claims more")
    else:
        must(kind in ("passkey", "biometric") and p["method"]["grade"] == "approver-signed" and list(p["evidence"]) == ["webauthn"],
             check, "method and evidence do not belong together")
        webauthn(p, intent_bytes)
    return p, found.group(1), keyid


class Bundle:
    def __init__(self, files, keys, log_keys):
        self.files, self.given, self.given_log = files, keys, log_keys
        self.checks, self.limits = [], []
        self.enrolled, self.counted = {}, {"credentials": 0, "outcomes": 0, "events": 0}
        self.blobs_named, self.seen, self.ended = set(), set(), set()
        self.missing_enrolments = self.codes = 0
        self.erased, self.gone = {}, {"credentials": 0, "outcomes": 0}

    def ok(self, check, detail):
        self.checks.append((check, True, detail))

    def run(self):
        try:
            self.verify()
        except Wrong as wrong:
            self.checks.append((wrong.args[0], False, wrong.args[1]))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
            self.checks.append(("form", False, "a document is not in the form it must have (%s)" % type(error).__name__))
        return bool(self.checks) and all(ok for _, ok, _ in self.checks)

    def verify(self):
        names = self.files.names()
        for name in sorted(FIXED):
            must(name in names, "archive", "%s is missing" % name)
        self.ok("archive", "%d files" % len(names))
        digests = {name: hexsha(self.files.read(name)) for name in names}
        sums = "".join("%s  %s\n" % (digests[name], name) for name in sorted(names) if name not in ("SHA256SUMS", "manifest.dsse.json"))
        listed = self.files.read("SHA256SUMS")
        if listed != sums.encode():
            told = dict(reversed(line.split("  ", 1)) for line in listed.decode("utf-8", "replace").splitlines() if "  " in line)
            here = {name: digest for name, digest in digests.items() if name not in ("SHA256SUMS", "manifest.dsse.json")}
            changed = [name for name in here if name in told and told[name] != here[name]]
            added = [name for name in here if name not in told]
            gone = [name for name in told if name not in here]
            raise Wrong("digests", "changed: %s; added: %s; missing: %s" % tuple(shown(", ".join(it)) or "none" for it in (changed, added, gone)))
        self.ok("digests", "every file is the one in SHA256SUMS")
        self.keys(names)
        self.manifest(names, digests)
        self.log()
        self.erasures(names)
        self.events()
        self.rest(names, digests)

    def keys(self, names):
        check = "keys"
        self.history = parse(self.files.read("keys/history.json"), check)["keys"]
        self.spki = {}
        for key in self.history:
            spki = b64(key["spki"], check)
            must(hexsha(spki) == key["keyid"], check, "a key's id is not its digest")
            if key["use"] == "credential":
                self.spki[key["keyid"]] = spki
                must(self.files.read("keys/credential-%s.pem" % key["keyid"][:16]) == pem(spki), check, "a key's file is missing or another")
        own = sum(name.startswith("keys/credential-") for name in names)
        must(own == len(self.spki), check, "there is a key that the history does not know")
        trusted = {hexsha(spki) for spki in self.given} if self.given else set(self.spki)
        pairs = []
        for key in self.history:
            if key["use"] != "credential" or key["introduction"] is None:
                continue
            blob = self.files.read("blobs/" + key["introduction"])
            must(blob, check, "the introduction of key %s is missing" % key["keyid"])
            kind, payload, signatures = envelope(blob, check)
            told = parse(payload, check)
            ids = [keyid for keyid, _ in signatures]
            good = kind == KEY_PAYLOAD and len(set(ids)) == 2 and key["keyid"] in ids and all(told.get(it) == key[it] for it in ("keyid", "use", "spki", "from_seq"))
            good = good and all(keyid in self.spki and ed25519(self.spki[keyid], pae(kind, payload), sig) for keyid, sig in signatures)
            must(good, check, "the introduction of key %s does not hold" % key["keyid"])
            pairs.append(ids)
        self.blobs_named.update(key["introduction"] for key in self.history if key["introduction"] is not None)
        before = -1
        while before != len(trusted):
            before = len(trusted)
            for ids in pairs:
                if set(ids) & trusted:
                    trusted |= set(ids)
        self.trusted = {keyid: spki for keyid, spki in self.spki.items() if keyid in trusted}
        must(self.trusted, check, "none of the keys you trust is one of this bundle's: it is from another instance, or was made up")
        self.ok(check, "%d of %d credential keys are trusted" % (len(self.trusted), len(self.spki)))
        if not self.given:
            self.limits.append("WHOSE THE KEYS ARE: they come from the bundle itself. Give --key with one you have from elsewhere")

    def counts_at(self, keyid, seq, check):
        key = next(it for it in self.history if it["keyid"] == keyid)
        must(key["from_seq"] <= seq and (key["until_seq"] is None or seq < key["until_seq"]), check,
             "signed by key %s at entry %d, where it did not count: it was retired, or not yet made" % (keyid, seq))

    def manifest(self, names, digests):
        check = "manifest"
        statement, keyid = opened(self.files.read("manifest.dsse.json"), self.trusted, check)
        must(statement["predicateType"] == PREDICATES + "audit-bundle/v1", check, "not about an audit bundle")
        others = [name for name in sorted(names) if name != "manifest.dsse.json"]
        if len(others) > NAMED_MAX:
            others = [name for name in others if not name.startswith(("blobs/", "credentials/", "outcomes/", "erasures/"))]
        must(statement["subject"] == [{"name": name, "digest": {"sha256": digests[name]}} for name in others], check,
             "the signed list and the files differ")
        key = next(it for it in self.history if it["keyid"] == keyid)
        must(key["until_seq"] is None, "keys", "the manifest is signed by key %s, which was retired" % keyid)
        self.predicate = statement["predicate"]
        self.signer = keyid
        self.ok(check, "signed by key %s over every file's digest" % keyid)

    def log(self):
        lines = self.files.read("keys/log.vkey").decode("utf-8", "strict").splitlines()
        listed = [vkey(line) for line in lines]
        if self.given_log:
            keys = list(self.given_log)
            keys += [it for it in listed if any(it[2] == mine[2] and instance(it[0]) == instance(mine[0]) for mine in self.given_log)]
        else:
            keys = listed
            self.limits.append("WHOSE THE LOG KEY IS: it comes from the bundle itself. Give --log-key with one you have from elsewhere")
        old, new = self.files.read("log/checkpoint-from"), self.files.read("log/checkpoint-to")
        self.origin, self.to_size, self.to_root = checkpoint(new, keys, "log/checkpoint-to")
        self.from_size, old_root = 0, sha256(b"")
        if old:
            origin, self.from_size, old_root = checkpoint(old, keys, "log/checkpoint-from")
            must(instance(origin) == instance(self.origin), "log", "the two checkpoints are of different logs")
        self.note, self.log_keys = new.decode(), keys
        span = self.predicate["range"]
        must(self.predicate["checkpoint"] == self.note and (span["fromSeq"], span["toSeq"]) == (self.from_size, self.to_size), "log",
             "the manifest names other checkpoints than the bundle holds")
        text = self.files.read("log/consistency.txt").decode("ascii", "replace")
        must(not text or text.endswith("\n"), "log", "the consistency proof is cut off")
        proof = [b64(line, "log") for line in text.splitlines()]
        must(all(len(it) == 32 for it in proof), "log", "the consistency proof is malformed")
        self.frontier = begin(self.from_size, old_root, self.to_size, proof)
        must(self.from_size != self.to_size or old_root == self.to_root, "log", "two roots of the same size")
        self.ok("log", "checkpoints of %d and %d entries of %s" % (self.from_size, self.to_size, shown(self.origin)))

    def erasures(self, names):
        """Documents that were erased: the entry that says so, in the log that this bundle is a part of."""
        check = "erasures"
        found = sorted((int(name[9:-11]), name) for name in names if name.startswith("erasures/") and name.endswith(".event.json"))
        count = sum(name.startswith("erasures/") for name in names)
        must(count == (2 + 2 * len(found) if found else 0), check, "files about erasures that belong to none")
        if not found:
            return
        note = self.files.read("erasures/checkpoint")
        must(note is not None, check, "erasures/checkpoint is missing")
        origin, size, root = checkpoint(note, self.log_keys, "erasures/checkpoint")
        must(instance(origin) == instance(self.origin), check, "erasures/checkpoint is of another log")
        text = (self.files.read("erasures/consistency.txt") or b"").decode("ascii", "replace")
        proof = [b64(line, check) for line in text.splitlines()]
        must(consistent(self.to_size, self.to_root, size, root, proof), check, "the log was not only appended to until the erasures")
        requests = set()
        for seq, name in found:
            event = self.files.read(name)
            it = parse(event, check)
            must(it["type"] == "blob.erased" and it["seq"] == seq, check, "%s is not the entry of an erasure" % shown(name))
            given = (self.files.read("erasures/%d.tlog-proof" % seq) or b"").decode("utf-8", "replace")
            head, gap, over = given.partition("\n\n")
            lines = head.split("\n")
            must(gap and lines[0] == "c2sp.org/tlog-proof@v1" and lines[1] == "index %d" % seq and over == note.decode(), check,
                 "the proof of %s is over something else" % shown(name))
            must(inclusion(leaf_hash(event), seq, size, [b64(line, check) for line in lines[2:]], root), check, "the proof of %s does not hold" % shown(name))
            self.erased.update((document["sha256"], seq) for document in it["data"]["documents"])
            requests.add(it["data"]["request"])
        self.ok(check, "%d documents of %d requests were erased, as the log's entries say (%s)"
                % (len(self.erased), len(requests), shown(", ".join(str(seq) for seq, _ in found[:10])) + (", …" if len(found) > 10 else "")))

    def events(self):
        check = "events"
        data = self.files.read("events.jsonl")
        must(not data or data.endswith(b"\n"), check, "the last line is cut off")
        lines = data.split(b"\n")[:-1] if data else []
        must(len(lines) == self.to_size - self.from_size, check, "%d lines, and %d entries between the checkpoints" % (len(lines), self.to_size - self.from_size))
        since, until = when(self.predicate["range"]["from"], check), when(self.predicate["range"]["to"], check)
        whole, counts, last, gap, shown_any, outside = not self.predicate["filter"], {}, None, 0, False, 0
        pending, self.enrolments, ends = {}, {}, []
        for seq, line in enumerate(lines, self.from_size):
            placeholder = re.fullmatch(rb'\{"seq":(0|[1-9][0-9]*),"leaf_hash":"([0-9a-f]{64})"\}', line)
            if placeholder:
                must(int(placeholder.group(1)) == seq, check, "entry %s stands where %d belongs" % (placeholder.group(1).decode(), seq))
                value = bytes.fromhex(placeholder.group(2).decode())
                gap += shown_any
                outside += 1
            else:
                it = parse(line, check)
                must(list(it) == ["v", "seq", "time", "type", "actor", "object", "data"] and it["v"] == 1, check, "entry %d is not a journal entry" % seq)
                must(it["seq"] == seq, check, "entry %s stands where %d belongs" % (it["seq"], seq))
                time = when(it["time"], check)
                must(since <= time < until, check, "entry %d stands in full, yet outside of the period" % seq)
                must(last is None or time >= last, check, "time runs back at entry %d" % seq)
                must(not (whole and gap), check, "%d entries of the period before entry %d are left out" % (gap, seq))
                last, shown_any, value = time, True, leaf_hash(line)
                counts[it["type"]] = counts.get(it["type"], 0) + 1
                kind, d = it["type"], it["data"]
                named = {"policy.activated": ["sha256"], "request.opened": ["opening_sha256", "policy_sha256"], "request.shortened": ["policy_sha256"],
                         "person.enrolled": ["attestation_sha256"], "passkey.added": ["attestation_sha256"], "proposal.confirmed": ["evidence_sha256"], "blob.erased": ["stub_sha256"]}
                self.blobs_named.update(d[name] for name in named.get(kind, ()) if d.get(name))
                if kind == "proposal.made" and isinstance(d.get("change"), dict) and d["change"].get("document"):
                    self.blobs_named.add(d["change"]["document"])
                if kind in ("person.enrolled", "passkey.added"):
                    self.enrolments[seq] = hexsha(line)
                if kind == "decision.recorded":
                    pending.setdefault(d["request"], []).append((d["credential_sha256"], seq, line))
                elif d.get("outcome_sha256") and d.get("request"):
                    ends.append((d["request"], d["outcome_sha256"], seq, line, pending.pop(d["request"], [])))
            if self.frontier:
                self.frontier.append(value)
        if self.frontier:
            must(self.frontier.root() == self.to_root, check, "the lines are not the log's entries: one was changed, left out, added or moved")
        must(counts == self.predicate["counts"], check, "the manifest counts other events than there are")
        self.counted["events"] = sum(counts.values())
        self.ok(check, "all %d entries are accounted for, %d in full" % (len(lines), self.counted["events"]))
        if whole and outside:
            self.limits.append("that the %d entries given by their hash alone are outside of the period" % outside)
        if not whole:
            self.limits.append("what the entries that the filter left out are: only their hashes are here")
        for end in ends:
            self.outcome(*end)
        for request in pending:
            for digest, seq, line in pending[request]:
                self.credential(digest, seq, line)
        self.ok("credentials", "%d decisions: appliance's signature, passkey over the exact subject, event, inclusion" % self.counted["credentials"])
        self.ok("outcomes", "%d outcomes: signature, event, and the decisions they count" % self.counted["outcomes"])

    def credential(self, digest, seq, line):
        check, base = "credentials", "credentials/crd_%s" % digest
        files = [self.files.read(base + ending) for ending in ENDINGS]
        if digest in self.erased and files == [None] * len(ENDINGS):
            self.gone["credentials"] += 1
            return None
        must(None not in files, check, "%s lacks a file" % base)
        data, event, sigstore, proof = files
        try:
            must(hexsha(data) == digest, check, "its name is not its digest")
            p, subject, keyid = credential(data, self.trusted)
            it = parse(event, check)
            must(it["type"] == "decision.recorded" and it["data"]["credential_sha256"] == digest, check, "its event is about something else")
            must(line is None or (line == event and it["seq"] == seq), check, "its event is not the one in the journal")
            must(line is not None or it["seq"] < self.from_size, check, "the journal shows no such decision")
            d = it["data"]
            pairs = [(d["request"], p["request"]), (d["person"], p["approver"]["id"]), (d["decision"], p["decision"]),
                     (d["method"], p["method"]["type"]), (d["subject_sha256"], hexsha(subject))]
            must(all(one == other for one, other in pairs), check, "event and credential do not agree")
            must(abs(when(it["time"], check) - when(p["times"]["decidedAt"], check)) <= 300_000, check, "event and decision are more than 300 s apart")
            self.counts_at(keyid, it["seq"], check)
            must(p["issuer"]["instance"].startswith("urn:uuid:" + str(instance(self.origin))), check, "it is from another instance than the log")
            head, gap, note = proof.decode("utf-8", "replace").partition("\n\n")
            lines = head.split("\n")
            must(gap and lines[0] == "c2sp.org/tlog-proof@v1" and lines[1] == "index %d" % it["seq"] and note == self.note, check, "its proof is over something else")
            must(inclusion(leaf_hash(event), it["seq"], self.to_size, [b64(line, check) for line in lines[2:]], self.to_root), check, "its proof does not hold")
            wrapped = ('{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"%s"},"tlogEntries":[]},"dsseEnvelope":'
                       % keyid).encode() + data + b"}"
            must(sigstore == wrapped, check, "its Sigstore wrapping holds something else")
            self.blobs_named.add(p["policy"]["sha256"])
            if "webauthn" in p["evidence"]:
                self.enrolment(p)
            else:
                self.codes += 1
        except Wrong as wrong:
            raise Wrong(check, "crd_%s: %s" % (digest, wrong.args[1])) from None
        self.seen.add(digest)
        self.counted["credentials"] += 1
        return p, subject

    def enrolment(self, p):
        w = p["evidence"]["webauthn"]
        seq, digest = w["enrolment"]["event"], w["enrolment"]["sha256"]
        must(self.enrolments.get(seq, digest) == digest and seq < self.to_size, "credentials", "its passkey was not enrolled by the event it names")
        if digest not in self.enrolled:
            blob = self.files.read("blobs/" + digest)
            self.enrolled[digest] = blob and parse(blob, "credentials")
        it = self.enrolled[digest]
        if it is None:
            self.missing_enrolments += 1
            return
        self.blobs_named.add(digest)
        credential_id = base64.urlsafe_b64encode(b64(w["credentialId"])).decode().rstrip("=")
        d = it["data"]
        must(it["type"] in ("person.enrolled", "passkey.added") and it["seq"] == seq and d["person"] == p["approver"]["id"]
             and d["credential_id"] == credential_id and d["spki_sha256"] == hexsha(b64(w["publicKeySpki"])), "credentials",
             "its passkey was enrolled for somebody else, or is another")

    def outcome(self, request, digest, seq, line, decisions):
        check, name = "outcomes", "outcomes/%s.dsse.json" % request
        data = self.files.read(name)
        given = {"crd_" + it[0]: self.credential(*it) for it in decisions}
        if data is None and digest in self.erased:
            self.gone["outcomes"] += 1
            return
        must(data and hexsha(data) == digest, check, "%s is missing, or not the one that the journal names" % shown(name))
        must(None not in given.values(), check, "%s is here, and decisions it counts were erased" % shown(name))
        statement, keyid = opened(data, self.trusted, check)
        p = statement["predicate"]
        must(statement["predicateType"] == PREDICATES + "outcome/v1" and p["request"] == request, check, "%s is not this request's outcome" % shown(name))
        event = parse(line, check)
        must(event["type"] == "request." + p["outcome"], check, "%s says something else than its event" % shown(name))
        must(abs(when(event["time"], check) - when(p["decidedAt"], check)) <= 300_000, check, "%s: event and outcome are more than 300 s apart" % shown(name))
        self.counts_at(keyid, seq, check)
        subject = b64(p["subject"]["content"], check)
        must(hexsha(subject) == p["subject"]["sha256"], check, "%s: the subject is not the one that was named" % shown(name))
        digests = dict(statement["subject"][0]["digest"])
        digests.pop("gitTree", None)
        must(digests == digest_of(parse(subject, check), subject), check, "%s is about another digest than its subject" % shown(name))
        obligations = p["obligations"]
        must(p["outcome"] != "approved" or obligations, check, "%s: approved under no obligation" % shown(name))
        must(p["outcome"] != "skipped" or not obligations, check, "%s: skipped under an obligation" % shown(name))
        strength = ["totp", "passkey", "biometric"]
        for it in obligations:
            people = set()
            for crd in it["credentials"]:
                if crd not in given:
                    given[crd] = self.credential(crd[4:], None, None)
                c, about = given[crd]
                must(c["request"] == request and about == subject, check, "%s counts a decision about something else" % shown(name))
                must(c["decision"] == "approve", check, "%s counts a rejection as an approval" % shown(name))
                must(any(strength.index(c["method"]["type"]) >= strength.index(m) for m in it["methods"]), check, "%s counts a method its rule does not take" % shown(name))
                must(c["approver"]["id"] not in people, check, "%s counts one person twice" % shown(name))
                people.add(c["approver"]["id"])
            must(p["outcome"] != "approved" or len(people) >= it["quorum"] >= 1, check, "%s: rule %s is not filled" % (shown(name), shown(it["rule"])))
        for c, about in given.values():
            must(about == subject, check, "%s: a decision is about another subject" % shown(name))
            must(not (c["decision"] == "reject" and p["outcome"] in ("approved", "skipped")), check, "%s: rejected, yet approved" % shown(name))
        self.blobs_named.add(p["policy"]["sha256"])
        self.ended.add(name)
        self.counted["outcomes"] += 1

    def rest(self, names, digests):
        for name in names:
            if name.startswith("blobs/"):
                must(digests[name] == name[6:], "blobs", "%s: its name is not its digest" % name)
                must(name[6:] in self.blobs_named, "blobs", "%s: nothing shown here names it" % name)
            if name.startswith("credentials/"):
                must(name[16:80] in self.seen, "credentials", "%s: no decision or outcome shown here names it" % name)
            if name.startswith("outcomes/"):
                must(name in self.ended, "outcomes", "%s: no event shown here names it" % name)
        self.ok("blobs", "each by its digest and named by an event")
        missing = sum("blobs/" + it not in digests and it not in self.erased for it in self.blobs_named)
        if any(self.gone.values()):
            self.limits.append("what %(credentials)d decisions and %(outcomes)d outcomes said beyond their entries, and that persons signed them: their documents were erased" % self.gone)
        if missing:
            self.limits.append("%d documents that entries name by digest only: not part of this bundle, or erased" % missing)
        if self.from_size:
            self.limits.append("the %d entries before log/checkpoint-from: this bundle begins after them" % self.from_size)
        if self.missing_enrolments:
            self.limits.append("whose the passkeys of %d decisions are: their enrolment is named by digest only" % self.missing_enrolments)
        if self.codes:
            self.limits.append("that the persons of %d one-time-code decisions agreed: a code binds nothing" % self.codes)
        self.limits += ["that report.html and approvals.csv say what the signed statements say: the appliance signed them as files",
                        "that everybody is shown the same log: compare log/checkpoint-to with one that somebody else kept",
                        "times beyond the appliance's word"]


def verify(files, keys=(), log_keys=()):
    """Verifies Zip or Folder against SPKI keys and parsed verifier keys; whether it is valid, and the Bundle that tells."""
    bundle = Bundle(files, list(keys), list(log_keys))
    return bundle.run(), bundle


def read_key(path):
    with open(path, encoding="ascii") as file:
        text = file.read()
    body = "".join(line for line in text.splitlines() if not line.startswith("-----"))
    der = base64.b64decode(body, validate=True)
    if not der.startswith(ED25519_SPKI) or len(der) != 44:
        raise ValueError("not an Ed25519 public key")
    return der


def read_vkeys(text):
    if os.path.exists(text):
        with open(text, encoding="utf-8") as file:
            text = file.read()
    return [vkey(line) for line in text.splitlines() if line.strip()]


def main():
    arguments = argparse.ArgumentParser(description="Verifies a SignedApproval audit bundle.")
    arguments.add_argument("bundle", nargs="?", help="the .zip or its unpacked folder; by default the folder of this file")
    arguments.add_argument("--key", action="append", default=[], metavar="PUB.pem", help="the appliance's public credential key")
    arguments.add_argument("--log-key", action="append", default=[], metavar="VKEY", help="the log's verifier key, or a file of them")
    arguments.add_argument("--json", action="store_true", help="print the result as JSON")
    given = arguments.parse_args()
    try:
        keys = [read_key(path) for path in given.key]
        log_keys = [key for text in given.log_key for key in read_vkeys(text)]
        where = given.bundle or os.path.dirname(os.path.abspath(__file__))
        data = None
        if not os.path.isdir(where):
            with open(where, "rb") as file:
                data = file.read()
    except (OSError, ValueError, Wrong) as error:
        print("verify.py: %s" % error, file=sys.stderr)
        return 2
    try:
        valid, bundle = verify(Zip(data) if data is not None else Folder(where), keys, log_keys)
        checks, limits, counted = bundle.checks, bundle.limits, bundle.counted
    except Wrong as wrong:
        valid, checks, limits, counted = False, [(wrong.args[0], False, wrong.args[1])], [], {}
    if given.json:
        print(json.dumps({"valid": valid, "checks": [{"name": n, "ok": ok, "detail": d} for n, ok, d in checks], "not_shown": limits, **counted}))
    else:
        for name, ok, detail in checks:
            print("  %s  %s: %s" % ("ok  " if ok else "FAIL", name, detail))
        for limit in limits:
            print("  not proved  %s" % limit)
        print("valid" if valid else "NOT VALID")
    return 0 if valid else 1


if __name__ == "__main__":
    sys.exit(main())
