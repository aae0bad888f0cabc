"""Names of the Hugging Face Hub: against a cache as huggingface_hub lays it out, and against a small hub on this machine."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from storyjax.errors import StoryjaxError
from storyjax.weights.hub import locate, needed_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNET = "unet/diffusion_pytorch_model"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache: what huggingface_hub makes of HF_HOME when it is imported."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def offline(cache, monkeypatch):
    """The same where HF_HUB_OFFLINE=1."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def put(cache, name, files, revision="main"):
    """A downloaded repository: blobs, the commit that a branch stands for, links to the blobs under the files' names."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for file, content in files.items():
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / file).symlink_to(blob)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(COMMIT)
    return snapshot


def test_a_path_goes_first(tmp_path, offline, monkeypatch):
    put(offline, "org/name", {"model_index.json": b"{}"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "one.ckpt").touch()
    assert locate("org/name") == Path("org/name")
    assert locate(tmp_path / "one.ckpt") == tmp_path / "one.ckpt"


def test_the_cache_is_enough(offline):
    snapshot = put(offline, "org/name", {"model_index.json": b"{}", "v1.safetensors": b"x"})
    assert locate("org/name") == snapshot
    assert locate("org/name", variant="fp16") == snapshot
    assert locate("org/name", revision=COMMIT) == snapshot
    assert locate("org/name/v1.safetensors") == snapshot / "v1.safetensors"
    put(offline, "org/name", {}, revision="v2")
    assert locate("org/name", revision="v2") == snapshot


def test_not_cached_and_offline(offline):
    put(offline, "org/name", {"model_index.json": b"{}"})
    message = "is neither a file or folder here nor in the cache at '.*hub', and HF_HUB_OFFLINE forbids"
    for source, revision in [("org/other", None), ("org/name", "v3"), ("org/name/v2.ckpt", None)]:
        with pytest.raises(StoryjaxError, match=f"'{source}' {message}") as error:
            locate(source, revision=revision)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        *("nothing", "./org/name", "/org/name", "org/../name", "org/", "a b/c", Path("org/name")),
        *("org/na--me", "org/name-", "org/name./file.ckpt", f"org/{'n' * 100}"),
    ],
)
def test_what_is_no_name(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoryjaxError, match=r"no file or folder at '.*', and it is no name on the Hugging Face Hub"):
        locate(source)


INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": [None, None],
}
REPOSITORY = {
    "model_index.json": json.dumps(INDEX).encode(),
    "README.md": b"words",
    "v1-5-pruned.ckpt": b"large",
    "unet/config.json": b"{}",
    f"{UNET}.bin": b"bin",
    f"{UNET}.safetensors": b"whole",
    f"{UNET}.fp16.safetensors": b"half",
    "tokenizer/vocab.json": b'{"a": 0}',
    "tokenizer/merges.txt": b"#version: 0.2",
    "safety_checker/model.safetensors": b"large",
    "feature_extractor/preprocessor_config.json": b"{}",
}
PLAIN = {"model_index.json", "unet/config.json", "tokenizer/vocab.json", "tokenizer/merges.txt"}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as one repository needs: what it has, and its files."""

    protocol_version = "HTTP/1.1"
    fetched: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in ("/api/models/org/name", *(f"/api/models/org/name/revision/{each}" for each in ("main", COMMIT))):
            self.answer({"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in REPOSITORY]})
        elif path.startswith("/api/models/org/name/tree/"):
            files = [(name, len(data), self.etag(data)) for name, data in REPOSITORY.items()]
            self.answer([{"type": "file", "path": name, "size": size, "oid": oid} for name, size, oid in files])
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            name = path.removeprefix(f"/org/name/resolve/{COMMIT}/")
            if self.command == "GET":
                self.fetched.append(name)
            self.answer(REPOSITORY[name], {"ETag": f'"{self.etag(REPOSITORY[name])}"', "X-Repo-Commit": COMMIT})
        elif path.startswith("/api/models/org/gated"):
            self.answer({"error": "gated"}, {"X-Error-Code": "GatedRepo"}, 403)
        elif path.startswith("/api/models/org/name/revision/"):
            self.answer({"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"}, 404)
        elif path.startswith("/api/models/org/broken"):
            self.answer({"error": "broken"}, status=501)
        else:
            self.answer({"error": "no repository"}, {"X-Error-Code": "RepoNotFound"}, 404)

    def answer(self, content, headers=None, status=200):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    @staticmethod
    def etag(data):
        return hashlib.sha1(data).hexdigest()

    def log_message(self, *_):
        pass


def ask_at(address, monkeypatch):
    """Let huggingface_hub take `address` for the hub, as HF_ENDPOINT does when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def fetched(cache, monkeypatch):
    """What was fetched from a hub on this machine."""
    handler = type("Counted", (Hub,), {"fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ask_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield handler.fetched
    server.shutdown()
    server.server_close()
    thread.join()


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_only_what_is_needed_is_fetched_and_only_once(cache, fetched):
    folder = cache / "models--org--name" / "snapshots" / COMMIT
    assert locate("org/name") == folder
    assert files_in(folder) == PLAIN | {f"{UNET}.safetensors"}
    assert locate("org/name") == folder
    assert locate("org/name", variant="fp16") == folder
    assert locate("org/name/v1-5-pruned.ckpt") == folder / "v1-5-pruned.ckpt"
    assert locate("org/name", patterns=["tokenizer/*"], revision=COMMIT) == folder
    every = PLAIN | {f"{UNET}.safetensors", f"{UNET}.fp16.safetensors", "v1-5-pruned.ckpt"}
    assert files_in(folder) == every
    assert sorted(fetched) == sorted(every)
    assert (folder / "v1-5-pruned.ckpt").read_bytes() == b"large"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            "org/name",
            {"variant": "bf16"},
            r"'org/name/unet' on the hub has no weights of variant 'bf16', it has .*fp16",
        ),
        ("org/name/v2.ckpt", {}, r"'org/name' on the hub has no file 'v2\.ckpt'; it has v1-5-pruned\.ckpt"),
        ("org/name", {"revision": "v9"}, r"'org/name' on the hub has no revision 'v9'"),
        ("org/gated", {}, r"'org/gated' asks you to agree to its terms"),
        ("org/other", {}, r"'org/other' is neither a file .* hub knows no model of that name; check the spelling"),
        ("org/broken", {}, r"'org/broken' is neither .*the hub answered with 501"),
    ],
)
def test_what_the_hub_refuses(fetched, source, options, message):
    with pytest.raises(StoryjaxError, match=message) as error:
        locate(source, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", [b"[1]", b'{"unet": []}', b"{"])
def test_a_damaged_index_is_told(fetched, monkeypatch, index):
    monkeypatch.setitem(REPOSITORY, "model_index.json", index)
    with pytest.raises(StoryjaxError, match=r"model_index.json' is no model index; delete it and download"):
        locate("org/name")


def test_a_hub_that_does_not_answer(cache, monkeypatch):
    ask_at("http://127.0.0.1:9", monkeypatch)  # the discard port: nothing listens there
    snapshot = put(cache, "org/name", {"model_index.json": b"{}"})
    assert locate("org/name") == snapshot
    with pytest.raises(
        StoryjaxError, match=r"'org/other' is neither .*the hub did not answer \(.*refused\); check the net"
    ):
        locate("org/other")


@pytest.mark.parametrize(
    ("names", "folders", "variant", "needed"),
    [
        (REPOSITORY, ["unet", "tokenizer", "safety_checker"], None, PLAIN | {f"{UNET}.safetensors"}),
        (REPOSITORY, ["unet", "tokenizer"], "fp16", PLAIN | {f"{UNET}.fp16.safetensors"}),
        # one network alone, as CLIP's repositories are
        (
            [
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
                "flax_model.msgpack",
                "tf_model.h5",
                "merges.txt",
            ],
            None,
            None,
            {"config.json", "model.safetensors", "merges.txt"},
        ),
        (["only.ckpt", "v1-inference.yaml"], None, None, {"only.ckpt"}),
        (["config.json", "pytorch_model.bin"], None, None, {"config.json", "pytorch_model.bin"}),
        # a story model: files of its own beside the parts
        (
            ["model_index.json", "cumulative_motion.json", "unet/config.json", f"{UNET}.safetensors"],
            ["unet"],
            None,
            {"model_index.json", "cumulative_motion.json", "unet/config.json", f"{UNET}.safetensors"},
        ),
    ],
)
def test_what_a_model_needs(names, folders, variant, needed):
    assert set(needed_files("org/name", names, folders, variant)) == needed


SHARDED = [
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.fp16.json",
    "model.fp16-00001-of-00001.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model-00001-of-00001.bin",
]


def test_shards_come_with_their_index():
    assert set(needed_files("org/name", SHARDED)) == set(SHARDED[:3])
    assert set(needed_files("org/name", SHARDED, variant="fp16")) == set(SHARDED[3:5])
    assert set(needed_files("org/name", SHARDED[5:])) == set(SHARDED[5:])


def test_several_single_files_must_be_named():
    with pytest.raises(
        StoryjaxError, match=r"no weights under a usual name.*a\.ckpt, b\.safetensors; .*'org/name/a\.ckpt'"
    ):
        needed_files("org/name", ["b.safetensors", "a.ckpt", "README.md"])
