"""The shipped YAML presets: where they live in a checkout and in an installed wheel."""

from pathlib import Path

from simulator.errors import InputError


def presets_dir() -> Path:
    """Return the folder of the shipped presets.

    A wheel carries `configs/` as `optimizer/configs/`; a checkout, editable install included, keeps it beside
    the packages.
    """
    package = Path(__file__).resolve().parent
    shipped = package / "configs"
    return shipped if shipped.is_dir() else package.parent / "configs"


def find_config(path: Path) -> Path:
    """Return `path` if it exists, otherwise the shipped preset of that file name.

    So `--config configs/deadline.yaml` means the same in a checkout and after `pip install spotwise`.

    Raises:
        InputError: neither exists; the message lists the presets.
    """
    if path.exists():
        return path
    preset = presets_dir() / path.name
    if preset.is_file():
        return preset
    known = ", ".join(sorted(p.name for p in presets_dir().glob("*.yaml")))
    raise InputError(f"{path}: no such configuration file; give a path or a shipped preset ({known})")
