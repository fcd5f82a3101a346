"""The place that lazy engines read adapters from: one PEFT folder for each engine name.

vLLM's filesystem resolver looks for `ROOT/<model asked for>/`, Ray Serve LLM for the same below its
`dynamic_lora_loading_path`. So a gateway offers a version here, under its engine name, before the
first request for it in each of the gateway's lives, and from then on the engine helps itself.

- An offer is whole or absent: it is written in scratch space beside its place and renamed; in a
  bucket `adapter_config.json` is sent last, and without it no engine sees an adapter.
- It is the version's own files, hard links where both places share a file system, else copies, and
  read-only. Only `base_model_name_or_path` differs: the resolver compares it with vLLM's `--model`.
- What lies there already is compared, byte for byte, once in a gateway's life. An engine name means
  one digest for ever, so what differs is damage, or meant for engines of another `--model`, and is
  refused, never replaced: an engine may be reading it.

Absent on purpose: removal. A lazy engine reads a folder again after an eviction of its own, and
vLLM dies if it is gone then; no gateway can tell when that is over, least of all with others beside
it. Every gateway offers again in its next life, so while no gateway that uses ROOT runs, anything
below it may be deleted, whatever engines are up.
"""

import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from hub.blobs import parse_store_url, sync
from hub.disk import writing
from hub.errors import HubError, IntegrityError, InvalidName, MissingExtra, StoreUnavailable
from hub.names import parse_name

CONFIG = "adapter_config.json"
_BASE = "base_model_name_or_path"
# Names of adapters begin with a letter or a digit, so nothing can be offered under this.
_SCRATCH = ".scratch"
_EXTRAS = {"s3": "s3", "gs": "gcs"}
_ENGINE_NAME = re.compile(r"(?P<name>[^@#]+)@[1-9][0-9]{0,8}#[0-9a-f]{12}")
_CHUNK = 1 << 20
# Somebody may still be writing what lies in scratch space for less than this.
_SCRATCH_S = 3600
# A bucket that can't be reached should say so before the request's deadline.
_CONNECT_TIMEOUT_S = 10


class LazyFolder:
    """`root` is a folder, `s3://bucket/prefix` or `gs://bucket/prefix`; `base_model` is what the
    engines that read it were given as `--model`.

    Any thread may offer. Raises UsageError for any other URL.
    """

    def __init__(self, root: str | Path, base_model: str) -> None:
        self.url = parse_store_url(str(root))
        self.base_model = base_model
        self._place = _Bucket(self.url) if "://" in self.url else _Folder(Path(self.url))
        self._offered: set[str] = set()
        self._offering: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def offer(self, engine_name: str, folder: Path) -> None:
        """Have `folder`, a version's own, found under `engine_name`; it blocks.

        Raises:
            InvalidName: when it is no engine name, such as one that leads elsewhere.
            IntegrityError: when something else lies there, or `folder` is not an adapter's.
            StoreUnavailable: when the place can't be written or reached.
            HubError: when the disk is full.
        """
        if engine_name in self._offered:
            return
        require_engine_name(engine_name)
        config = _config_for(folder, self.base_model)
        with self._guard:
            lock = self._offering.setdefault(engine_name, threading.Lock())
        # Of two that offer the same, one sends the bytes; nobody waits for another version's.
        with lock:
            try:
                if engine_name not in self._offered:
                    self._place.offer(engine_name, folder, config)
                    self._offered.add(engine_name)
            finally:
                with self._guard:
                    self._offering.pop(engine_name, None)


def require_engine_name(text: str) -> str:
    """`text` itself if it is `name@number#12 hex`.

    Raises:
        InvalidName: for anything else; it would become a path.
    """
    match = _ENGINE_NAME.fullmatch(text)
    if match is None:
        raise InvalidName(f"{text[:100]!a} is not an engine name, as in support@3#9f2c00aa11bb")
    parse_name(match["name"])
    return text


def _config_for(folder: Path, base_model: str) -> bytes:
    """The folder's config as the engines want it: the same bytes for the same version and base."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"the config can't be read ({error})", where=str(path)) from error
    if not isinstance(config, dict):
        raise IntegrityError("the config is not a JSON object", where=str(path))
    config[_BASE] = base_model
    return json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _files(folder: Path) -> Iterator[Path]:
    """What is offered as it is."""
    return (path for path in sorted(folder.iterdir()) if path.name != CONFIG)


def _differs(where: str, name: str) -> IntegrityError:
    return IntegrityError(
        f"something else is offered to the engines there ({name})",
        where=where,
        hint="Engines of one adapter folder want the same --model, and nobody else may write in it."
        " Stop every gateway that uses it, delete what is there, and start them again.",
    )


def _what_differs(there: bytes, wanted: bytes) -> str:
    """Of two configs, in words: mostly engines were started with another `--model`."""
    try:
        one, other = json.loads(there), json.loads(wanted)
        if one[_BASE] != other[_BASE]:
            return f"for the base {one[_BASE]}, not {other[_BASE]}"
    except (ValueError, KeyError, TypeError):
        pass  # it is not even a config
    return CONFIG


class _Folder:
    """A folder of this machine, or one that several machines mount."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def offer(self, engine_name: str, folder: Path, config: bytes) -> None:
        place = self._root / engine_name
        try:
            with writing(place):
                if not place.exists():
                    self._make(place, folder, config)
            self._compare(place, folder, config)
        except OSError as error:
            raise StoreUnavailable(
                f"nothing can be offered to the engines there ({error.strerror or error})",
                where=str(self._root),
                hint="Check that the folder is there, and that this user may write in it.",
            ) from error

    def _make(self, place: Path, folder: Path, config: bytes) -> None:
        self._tidy()
        scratch = self._root / _SCRATCH / secrets.token_hex(8)
        try:
            scratch.mkdir(parents=True)
            for path in _files(folder):
                _link_or_copy(path, scratch / path.name)
            (scratch / CONFIG).write_bytes(config)
            (scratch / CONFIG).chmod(0o444)
            sync(scratch / CONFIG)
            sync(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                scratch.rename(place)
            except OSError:
                # Another gateway was first; what it made is compared like all that was there.
                if not place.is_dir():
                    raise
                return
            place.chmod(0o555)
            sync(place.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove what gateways that were killed left half-written."""
        for path in (self._root / _SCRATCH).glob("*"):
            with suppress(OSError):  # another gateway's tidying took it
                if time.time() - path.stat().st_mtime > _SCRATCH_S:
                    shutil.rmtree(path, ignore_errors=True)

    def _compare(self, place: Path, folder: Path, config: bytes) -> None:
        wanted = {path.name: path for path in _files(folder)}
        present = {path.name for path in place.iterdir()} if place.is_dir() else set()
        # The card is for people, and another release of Loom may write it otherwise.
        for name in sorted((present ^ {*wanted, CONFIG}) - {"README.md"}):
            raise _differs(str(place), name)
        if (there := (place / CONFIG).read_bytes()) != config:
            raise _differs(str(place), _what_differs(there, config))
        for name, path in wanted.items():
            if name != "README.md" and not _same(place / name, path):
                raise _differs(str(place), name)


class _Bucket:
    """Below a URL that fsspec knows."""

    def __init__(self, url: str) -> None:
        self._url = url

    def offer(self, engine_name: str, folder: Path, config: bytes) -> None:
        place = f"{self._url}/{engine_name}"
        with self._asking():
            offered = self._offered(f"{place}/{CONFIG}")
            for path in _files(folder):
                key = f"{place}/{path.name}"
                if offered is None:
                    self._fs.put_file(str(path), key)
                elif path.name != "README.md" and not self._holds(key, path):
                    raise _differs(place, path.name)
            if offered is None:
                self._fs.pipe_file(f"{place}/{CONFIG}", config)
            elif offered != config:
                raise _differs(place, _what_differs(offered, config))

    def _offered(self, key: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(key))
        except FileNotFoundError:
            return None

    def _holds(self, key: str, path: Path) -> bool:
        """Whether an object has a file's bytes; neither is ever in memory whole."""
        try:
            with self._fs.open(key, "rb") as there, path.open("rb") as here:
                return _equal(there, here)
        except FileNotFoundError:
            return False

    @cached_property
    def _fs(self) -> Any:
        # Imported here: a gateway without lazy engines in a bucket needs none of it.
        from fsspec import filesystem  # type: ignore[import-untyped]

        scheme = self._url.partition("://")[0]
        # Listings that are cached would hide what another gateway has offered since.
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if scheme == "s3":
            options["config_kwargs"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
        try:
            return filesystem(scheme, **options)
        except ImportError as error:
            raise MissingExtra(
                f"the adapter folder is {self._url}, which the core can't write ({error})",
                hint=f"Install it: pip install 'lora-loom[{_EXTRAS[scheme]}]'.",
            ) from error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except HubError:
            raise
        except Exception as error:
            # fsspec passes on whatever its backends raise: botocore's and aiohttp's errors have no
            # common ancestor below this one, and no user should read their tracebacks.
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise StoreUnavailable(
                f"nothing can be offered to the engines there: {reason}",
                where=self._url,
                hint="Check the bucket's name, the endpoint and the credentials.",
            ) from error


def _link_or_copy(path: Path, target: Path) -> None:
    """A hard link is as read-only as the hub's own file, with which it shares its mode."""
    try:
        target.hardlink_to(path)
        return
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, target)
    target.chmod(0o444)
    sync(target)


def _same(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    with one.open("rb") as first, other.open("rb") as second:
        return _equal(first, second)


def _equal(one: Any, other: Any) -> bool:
    while True:
        first, second = one.read(_CHUNK), other.read(_CHUNK)
        if first != second:
            return False
        if not first:
            return True
