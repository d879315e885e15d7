"""Small facts in the spool, by which the processes of one factory tell each other what they know."""

from collections.abc import Callable, Mapping

from corporation.federation.spool_file import SpoolFile

KEEP = "INSERT OR REPLACE INTO notes (name, value) VALUES (?, ?)"


class SpoolNotes(SpoolFile):
    """The notes of a factory: a name and a text each, the newest text alone."""

    def note(self, name: str, value: str) -> None:
        """Remember one small fact for the other processes of this factory."""
        self.note_all({name: value})

    def note_all(self, facts: Mapping[str, str]) -> None:
        """Remember all of these facts, or none if the disk takes nothing."""
        with self._write() as db:
            db.executemany(KEEP, facts.items())

    def note_once(self, name: str, value: str) -> str:
        """The fact under `name`, which is `value` if there was none; every process gets the same."""
        with self._write() as db:
            db.execute("INSERT OR IGNORE INTO notes (name, value) VALUES (?, ?)", (name, value))
            return str(db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()[0])

    def count_up(self, name: str) -> int:
        """One more than at the last call, from 1 on; no two calls get the same, in whatever processes."""
        with self._write() as db:
            row = db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
            number = int(row[0]) + 1 if row else 1
            db.execute(KEEP, (name, str(number)))
            return number

    def change_note(self, name: str, change: Callable[[str | None], str]) -> None:
        """The fact under `name` is what `change` makes of it; of two who change it at once, both count."""
        with self._write() as db:
            row = db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
            db.execute(KEEP, (name, change(str(row[0]) if row else None)))

    def noted(self, name: str) -> str | None:
        """The fact last noted under `name`."""
        rows = self._read("SELECT value FROM notes WHERE name = ?", (name,))
        return rows[0]["value"] if rows else None

    def noted_all(self) -> dict[str, str]:
        """Every fact, by its name."""
        return {row["name"]: row["value"] for row in self._read("SELECT name, value FROM notes")}

    def forget_note(self, name: str) -> None:
        """Nothing is known under `name` any more."""
        with self._write() as db:
            db.execute("DELETE FROM notes WHERE name = ?", (name,))
