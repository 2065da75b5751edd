"""Images, archives and a registry that mean harm: images.py FOLDER ARCHITECTURE writes KIND.tar for each kind of archive, prints the address of
a registry on loopback, and serves it until its input ends. tests/hostile.rs says what is expected of each."""

import gzip
import hashlib
import http.server
import io
import json
import os
import sys
import tarfile
import threading
import zlib

FOLDER, ARCHITECTURE = sys.argv[1], sys.argv[2]


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def entry(tar, name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o644, device=(0, 0)):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(data), kind, link, mode
    info.devmajor, info.devminor = device
    tar.addfile(info, io.BytesIO(data))


def archive(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for each in entries:
            entry(tar, **each) if isinstance(each, dict) else entry(tar, *each)
    return out.getvalue()


class Image:
    """An image that is well-formed, to be spoilt in one place."""

    def __init__(self, layers=None, config=None, diffs=None):
        self.blobs = {}
        layers = [archive([("note", b"hello")])] if layers is None else layers
        self.layers = [self.blob(data, "application/vnd.oci.image.layer.v1.tar" + kind) for data, kind in map(self.kind, layers)]
        self.diffs = [digest(self.unpacked(data)) for data in layers] if diffs is None else diffs
        self.config = {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": ["/none"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": self.diffs},
        }

    @staticmethod
    def kind(data):
        return (data, "+gzip") if data[:2] == b"\x1f\x8b" else (data, "")

    @staticmethod
    def unpacked(data):
        # A bomb is not unpacked here either: what it would be is of no matter.
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" and len(data) < 1 << 16 else data

    def blob(self, data, kind):
        self.blobs[digest(data)] = data
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    def manifest(self):
        data = json.dumps(self.config).encode() if isinstance(self.config, dict) else self.config
        config = self.blob(data, "application/vnd.oci.image.config.v1+json")
        return {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": self.layers}

    def index(self, manifest=None):
        data = json.dumps(manifest or self.manifest()).encode()
        return {"schemaVersion": 2, "manifests": [self.blob(data, "application/vnd.oci.image.manifest.v1+json")]}

    def tar(self, index=None):
        index = json.dumps(index or self.index()).encode() if not isinstance(index, bytes) else index
        files = [("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), ("index.json", index)]
        return archive(files + [("blobs/" + name.replace(":", "/"), data) for name, data in self.blobs.items()])


def zeros(count, level=9):
    """A layer with one file of so many MiB of nothing, packed."""
    head = tarfile.TarInfo("bomb")
    head.size = count << 20
    packer, out = zlib.compressobj(level, zlib.DEFLATED, 31), []
    out.append(packer.compress(head.tobuf(tarfile.GNU_FORMAT)))
    for _ in range(count):
        out.append(packer.compress(bytes(1 << 20)))
    out.append(packer.compress(bytes(1024)) + packer.flush())
    return b"".join(out)


def with_manifest(change, image=None):
    # A layer that no other image has: what the daemon knows already it does not ask for again.
    image = image or Image([archive([("note", os.urandom(32))])])
    manifest = image.manifest()
    change(manifest, image)
    return image.tar(image.index(manifest))


def with_index(change, image=None):
    image = image or Image()
    index = image.index()
    change(index, image)
    return image.tar(index)


def user(name, passwd):
    return Image([archive(passwd)], {"User": name}).tar()


EVIL = f"tmp/elapse-evil-{os.getpid()}"


def swap(image, name, data):
    image.blobs[name] = data


KINDS = {
    "no-tar": b"this is no archive" * 1000,
    "empty": b"",
    "truncated": Image().tar()[:2000],
    "no-index": archive([("oci-layout", b"{}")]),
    "index-is-no-json": Image().tar(b"{ not json"),
    "index-is-deep": Image().tar(b'{"manifests":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "index-is-empty": Image().tar(b'{"manifests": []}'),
    "index-is-long": Image().tar(b" " * (17 << 20)),
    "index-is-a-link": archive([dict(name="index.json", kind=tarfile.SYMTYPE, link="/etc/shadow")]),
    "index-is-a-pipe": archive([dict(name="index.json", kind=tarfile.FIFOTYPE)]),
    "index-of-another-machine": with_index(lambda i, _: i["manifests"][0].update(platform={"architecture": "s390x", "os": "linux"})),
    "many-files": archive([(f"f{n}", b"") for n in range(20_000)]),
    "digest-is-a-path": with_index(lambda i, _: i["manifests"][0].update(digest="../../../etc/passwd")),
    "digest-is-short": with_index(lambda i, _: i["manifests"][0].update(digest="sha256:abc")),
    "digest-is-of-nothing": with_index(lambda i, _: i["manifests"][0].update(digest=digest(b"nothing"))),
    "digest-is-no-text": with_index(lambda i, _: i["manifests"][0].update(digest=7)),
    "manifest-is-another": with_index(lambda i, image: swap(image, i["manifests"][0]["digest"], b"{}")),
    "manifest-is-no-json": with_index(lambda i, image: i["manifests"].__setitem__(0, image.blob(b"{", "application/vnd.oci.image.manifest.v1+json"))),
    "config-is-missing": with_manifest(lambda m, image: m["config"].update(digest=digest(b"nothing"))),
    "config-is-another": with_manifest(lambda m, image: swap(image, m["config"]["digest"], b"{}")),
    "config-is-no-json": Image.tar(type("Broken", (Image,), {})()),
    "config-is-a-list": Image.tar(type("Broken", (Image,), {})()),
    "layers-are-many": with_manifest(lambda m, _: m.update(layers=m["layers"] * 400)),
    "layer-of-less-than-nothing": with_manifest(lambda m, _: m["layers"][0].update(size=-1)),
    "layer-of-everything": with_manifest(lambda m, _: m["layers"][0].update(size=1 << 60)),
    "layer-is-missing": with_manifest(lambda m, image: image.blobs.pop(m["layers"][0]["digest"])),
    "layer-is-another": with_manifest(lambda m, image: swap(image, m["layers"][0]["digest"], archive([("other", b"x")]))),
    "layer-is-shorter": with_manifest(lambda m, image: swap(image, m["layers"][0]["digest"], b"x")),
    "layer-is-no-tar": Image([b"no archive at all" * 100]).tar(),
    "layer-of-another-name": Image(diffs=[digest(b"somebody else's layer")]).tar(),
    "layers-without-names": Image(diffs=[]).tar(),
    "bomb": Image([zeros(4096)], diffs=[digest(b"bomb")]).tar(),
    "out-of-the-root": Image([archive([("../../../../../../" + EVIL, b"x")])]).tar(),
    "absolute-path": Image([archive([("/" + EVIL, b"x")])]).tar(),
    "through-a-link": Image([archive([dict(name="way", kind=tarfile.SYMTYPE, link="/"), ("way/" + EVIL, b"x")])]).tar(),
    "hard-link-to-the-host": Image([archive([dict(name="shadow", kind=tarfile.LNKTYPE, link="../../../../../../etc/shadow")])]).tar(),
    "devices": Image([archive([dict(name="disk", kind=tarfile.BLKTYPE, device=(8, 0)), dict(name="memory", kind=tarfile.CHRTYPE, device=(1, 1))])]).tar(),
    "user-in-a-pipe": user("app", [dict(name="etc/passwd", kind=tarfile.FIFOTYPE)]),
    "user-in-a-device": user("app", [dict(name="etc/passwd", kind=tarfile.CHRTYPE, device=(1, 5))]),
    "user-in-a-link": user("root", [dict(name="etc/passwd", kind=tarfile.SYMTYPE, link="/etc/passwd")]),
    "user-behind-a-link": user("root", [dict(name="etc", kind=tarfile.SYMTYPE, link="/etc")]),
    "user-in-a-long-list": user("app", [("etc/passwd", b"x" * (32 << 20))]),
    "user-of-no-number": user("4294967296:0", [("etc/passwd", b"root:x:0:0::/:/bin/sh\n")]),
    "environment-is-long": Image(config={"Env": ["X=" + "x" * (3 << 20)]}).tar(),
    "no-command": Image(config={"Entrypoint": [], "Cmd": []}).tar(),
}
broken = Image()
broken.config = b"{ no json"
KINDS["config-is-no-json"] = broken.tar()
broken = Image()
broken.config = b"[1, 2]"
KINDS["config-is-a-list"] = broken.tar()

for name, data in KINDS.items():
    with open(os.path.join(FOLDER, name + ".tar"), "wb") as file:
        file.write(data)
os.mkfifo(os.path.join(FOLDER, "file-is-a-pipe.tar"))
os.mkdir(os.path.join(FOLDER, "file-is-a-folder.tar"))
os.symlink("/dev/zero", os.path.join(FOLDER, "file-is-a-device.tar"))

GOOD = Image([archive([("note", os.urandom(32))])])
MANIFEST = json.dumps(GOOD.manifest()).encode()
TYPE = "application/vnd.oci.image.manifest.v1+json"


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", more=(), kind=TYPE, length=None):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body) if length is None else length))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def endless(self):
        self.send_response(200)
        self.send_header("content-type", TYPE)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        some = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        while True:
            self.wfile.write(some)

    def do_GET(self):
        try:
            self.get()
        except OSError:
            self.close_connection = True

    def get(self):
        _, _, kind, what, version = (self.path.split("?")[0] + "////").split("/")[:5]
        is_blob = what == "blobs"
        if kind == "manifest-is-endless" and not is_blob:
            return self.endless()
        if kind == "blob-is-endless" and is_blob and version == GOOD.layers[0]["digest"]:
            return self.endless()
        if kind == "blob-is-shorter" and version == GOOD.layers[0]["digest"]:
            self.close_connection = True
            return self.answer(200, b"x", length=GOOD.layers[0]["size"])
        if kind == "blob-is-another" and version == GOOD.layers[0]["digest"]:
            return self.answer(200, b"x" * GOOD.layers[0]["size"])
        if kind == "redirects-for-ever":
            return self.answer(307, more=[("location", self.path)])
        if kind == "redirects-to-a-file":
            return self.answer(307, more=[("location", "file:///etc/shadow")])
        if kind == "token-from-elsewhere":
            return self.answer(401, more=[("www-authenticate", 'Bearer realm="http://169.254.169.254/latest",service="x"')])
        if kind == "token-from-a-file":
            return self.answer(401, more=[("www-authenticate", 'Bearer realm="file:///etc/shadow"')])
        if kind == "demand-is-nonsense":
            return self.answer(401, more=[("www-authenticate", "Negotiate " + "x" * 4000)])
        if kind == "no-token-will-do":
            host = self.headers["host"]
            return self.answer(401, more=[("www-authenticate", f'Bearer realm="http://{host}/token/token/x"')])
        if kind == "token":
            return self.answer(200, b'{"token": "x"}', kind="application/json")
        if kind == "always-busy":
            return self.answer(503)
        if kind == "headers-are-endless":
            self.send_response(200)
            for n in range(100_000):
                self.send_header(f"x-{n}", "y" * 100)
            self.end_headers()
            return None
        if kind == "manifest-of-another-digest" and not is_blob:
            return self.answer(200, b"{}")
        if is_blob:
            data = GOOD.blobs.get(version)
            return self.answer(200, data) if data is not None else self.answer(404)
        return self.answer(200, MANIFEST)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"127.0.0.1:{server.server_address[1]} {digest(MANIFEST)} {os.getpid()}", flush=True)
sys.stdin.read()
