"""Version numbers across a restore: none that was ever given is given again."""

from typing import Any

from hub.clock import now
from hub.database import one, transaction
from hub.home import Home
from hub.sqlite import Database
from hub.sweep import version_folders


def carry_numbers(new: Database, live: Database | None, home: Home) -> None:
    """Raise every adapter's last number in `new` to what was given here before.

    Adapters that only `live` knows come along without versions, and their bases with them. Where
    the registry here can't be read, the folders of versions that lie about still count.
    """
    with transaction(new):
        for row in [] if live is None else list(live.query("SELECT * FROM adapters ORDER BY id")):
            _raise(new, row["name"], row["last_number"])
            if not one(new, "SELECT 1 FROM adapters WHERE name = ?", row["name"]):
                assert live is not None
                _bring(new, live, row)
        for folder in version_folders(home):
            name, _, number = folder.relative_to(home.adapters).as_posix().rpartition("@")
            _raise(new, name, int(number))


def _raise(new: Database, name: str, number: int) -> None:
    new.execute(
        "UPDATE adapters SET last_number = ? WHERE name = ? AND last_number < ?",
        [number, name, number],
    )


def _bring(new: Database, live: Database, adapter: dict[str, Any]) -> None:
    if one(new, "SELECT 1 FROM bases WHERE name = ?", adapter["name"]):
        return  # it is a base's name there, which no adapter can have
    base = one(live, "SELECT * FROM bases WHERE id = ?", adapter["base_id"])
    assert base is not None
    there = one(
        new,
        "SELECT id FROM bases WHERE digest = ? OR name = ? ORDER BY digest = ? DESC LIMIT 1",
        base["digest"],
        base["name"],
        base["digest"],
    )
    if there is None:
        if one(new, "SELECT 1 FROM adapters WHERE name = ?", base["name"]):
            return
        there = {"id": new.table("bases").insert({**base, "id": None}).last_pk}
    new.execute(
        "INSERT INTO adapters (name, base_id, last_number, created_at) VALUES (?, ?, ?, ?)",
        [adapter["name"], there["id"], adapter["last_number"], now()],
    )
