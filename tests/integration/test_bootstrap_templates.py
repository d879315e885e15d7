"""Templates are filled in inside their folder only, and never with anything but the variables that were given."""

from pathlib import Path

import pytest

from factory_tasks.bootstrap_repo.templates import TemplateRefusedError, render_folder


def test_files_and_path_names_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "{{package}}" / "{{package}}_tests").mkdir(parents=True)
    (tmp_path / "{{package}}" / "{{package}}_tests" / "test_{{ package }}.py.jinja").write_text(
        "from {{package}} import {{n}}\n"
    )

    render_folder(tmp_path, {"package": "queue", "n": 5})

    assert (tmp_path / "queue" / "queue_tests" / "test_queue.py").read_text() == "from queue import 5\n"
    assert [path.name for path in tmp_path.iterdir()] == ["queue"]


def test_a_file_without_the_suffix_keeps_its_braces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("{{ package }}")

    render_folder(tmp_path, {})

    assert (tmp_path / "a.txt").read_text() == "{{ package }}"


def test_a_rendered_script_stays_executable(tmp_path: Path) -> None:
    (tmp_path / "run.sh.jinja").write_text("echo {{ word }}\n")
    (tmp_path / "run.sh.jinja").chmod(0o755)

    render_folder(tmp_path, {"word": "hi"})

    assert (tmp_path / "run.sh").stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize(
    "text",
    [
        "{{ missing }}",
        "{% if %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ name.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ range(10 ** 9) }}",
        "{{ 1 / 0 }}",
        "{{ name | no_such_filter }}",
    ],
)
def test_a_template_that_asks_for_more_than_it_was_given_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt.jinja").write_text(text)

    with pytest.raises(TemplateRefusedError, match=r"a\.txt\.jinja"):
        render_folder(tmp_path, {"name": "x"})


@pytest.mark.parametrize("value", ["..", ".", "", "a/b", "../../escaped", ".git", ".GIT", "a\0b"])
def test_a_path_name_that_would_leave_its_folder_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "{{name}}").write_text("x")

    with pytest.raises(TemplateRefusedError, match="no name for a file"):
        render_folder(tmp_path / "inside", {"name": value})

    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_two_files_that_would_get_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "{{name}}").write_text("x")
    (tmp_path / "y").write_text("y")

    with pytest.raises(TemplateRefusedError, match="already"):
        render_folder(tmp_path, {"name": "y"})


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.jinja").write_text("{{ name }}")
    (tmp_path / "inside" / "link.jinja").symlink_to(tmp_path / "outside.jinja")

    render_folder(tmp_path / "inside", {"name": "x"})

    assert (tmp_path / "outside.jinja").read_text() == "{{ name }}"
    assert (tmp_path / "inside" / "link.jinja").is_symlink()
