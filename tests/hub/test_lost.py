"""What is lost or changed from outside is noticed, and nothing is built on it."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from hub.basefiles import read_base
from hub.errors import AdapterRejected, IntegrityError, UnknownReference
from hub.home import Home
from hub.local import LocalHub
from hub.names import parse_adapter_reference
from hub.records import Base
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts, adapter_config, adapter_tensors, write_adapter, write_base


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that reads as a base, with the shapes that `write_adapter` fits."""
    return write_base(tmp_path / "model")


def spoil_weights(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({name: -value for name, value in tensors.items()}, model / "model.safetensors")


def spoil_template(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ messages }}!")


@pytest.mark.parametrize(
    ("spoil", "part"), [(spoil_weights, "weights"), (spoil_template, "chat template")]
)
def test_a_base_changed_in_place_is_another_model(
    registry: Registry, home: Home, model: Path, tmp_path: Path, spoil: object, part: str
) -> None:
    """Publish refuses and verify fails by name, and the doctor calls it broken."""
    identity, shapes = read_base(model, "tiny")
    registry.bases.add(str(model), identity, shapes)
    folder = write_adapter(tmp_path / "a", adapter_tensors(), adapter_config())
    with LocalHub.open(home, acts) as hub:
        hub.publish("support", folder, lineage={})
        assert next(hub.verify("support")).ok
        spoil(model)  # type: ignore[operator]
        other = write_adapter(tmp_path / "b", adapter_tensors(1), adapter_config())
        with pytest.raises(AdapterRejected, match=f"its {part} changed"):
            hub.publish("support", other, lineage={})
        assert [version.number for version in hub.versions("support")] == [1]
        effect = next(hub.verify("support")).checks[-1]
        assert (effect.check, effect.state) == ("effect", "failed")
        assert part in effect.message
        bases = next(entry for entry in hub.doctor() if entry.check == "bases")
    assert bases.state == "broken"
    assert part in bases.message


def test_an_emptied_registry_is_not_a_new_hub(
    registry: Registry, base: Base, store: Store, home: Home
) -> None:
    """No command takes it for one: its files would be nobody's, and gc would delete them."""
    blob = home.blobs / "ab" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"kept")
    registry.close()
    home.registry.write_bytes(b"")
    for beside in home.root.glob("registry.db-*"):
        beside.unlink()
    hub = Hub(home.root)
    for command in ("ls", "gc", "doctor", "init"):
        result = hub(command)
        assert result.status == 1, command
        assert "it is empty" in result.stdout + result.stderr
    home.registry.unlink()
    lost = hub("init")
    assert lost.status == 1
    assert "registry.db is gone" in lost.stderr
    assert blob.read_bytes() == b"kept"


def test_another_programs_database_is_left_alone(home: Home) -> None:
    """It is named as what it is, and not a byte of it is changed."""
    home.create()
    with sqlite3.connect(home.registry) as music:
        music.execute("CREATE TABLE songs (title TEXT)")
    music.close()
    before = home.registry.read_bytes()
    for opened in (Registry.open, Registry.create):
        with pytest.raises(IntegrityError, match="another program's, with songs"):
            opened(home)
    assert home.registry.read_bytes() == before


def test_the_past_knows_what_was_there(registry: Registry, base: Base, tmp_path: Path) -> None:
    """A number and a digest answer for a time as an alias does: there then, or not."""
    folder = write_adapter(tmp_path / "a")
    with LocalHub.open(registry.home, acts) as hub:
        published = hub.publish("support", folder, lineage={})
    at = registry.versions.get("support", 1).published_at
    for text in ("support", "support@1", f"support@sha256:{published.digest[:12]}"):
        reference = parse_adapter_reference(text)
        assert registry.resolve(reference, at="9999-01-01T00:00:00.000Z").number == 1
        with pytest.raises(UnknownReference, match="there was no 'support"):
            registry.resolve(reference, at="2000-01-01T00:00:00.000Z")
    assert registry.resolve(parse_adapter_reference("support@1"), at=at).number == 1


def test_one_model_under_two_names(home: Home, model: Path, tmp_path: Path) -> None:
    """What comes from another hub joins its adapter, whatever that adapter's base is called."""
    sources = []
    for seed in (0, 1):
        folder = write_adapter(tmp_path / f"a{seed}", adapter_tensors(seed))
        (folder / "adapter_config.json").write_text(
            (folder / "adapter_config.json").read_text().replace('"tiny"', '""')
        )
        sources.append(folder)
    shutil.copytree(model, tmp_path / "copy")
    with Registry.create(home) as registry:
        for place, name in ((model, "zeta"), (tmp_path / "copy", "alpha")):
            identity, shapes = read_base(place, name)
            registry.bases.add(str(place), identity, shapes)
    with LocalHub.open(home, acts) as hub:
        first = hub.publish("support", sources[0], base="zeta", lineage={})
        elsewhere = hub.manifest(first.version).replace('"name":"zeta"', '"name":"alpha"')
        assert '"alpha"' in elsewhere
        made = hub.publish("other", sources[1], base="alpha", lineage={})
        again = hub.publish("support", sources[1], lineage={}, manifest=hub.manifest(made.version))
        assert again.version == "support@2"
        assert hub.show("support@2").base.name == "zeta"
