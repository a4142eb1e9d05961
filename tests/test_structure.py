"""docs/structure.md names every module."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_module_has_its_line() -> None:
    sections = (ROOT / "docs" / "structure.md").read_text().split("\n#")
    missing = []
    for package in ("stagemesh", "services", "bench"):
        for module in sorted((ROOT / package).rglob("*.py")):
            folder = module.parent.relative_to(ROOT).as_posix()
            if module.name == "__init__.py" or "models" in module.parts:
                continue
            if not any(f" {folder}/ " in s.partition("\n")[0] and f"- `{module.name}` — " in s for s in sections):
                missing.append(f"{folder}/{module.name}")
    assert not missing
