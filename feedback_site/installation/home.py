"""Where templates, demo data, Procfile and manage.py are: beside the packages in a clone, inside of
them where a wheel was installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "home"
IS_INSTALLED = _INSTALLED.exists()
HOME = _INSTALLED if IS_INSTALLED else _PACKAGE.parent
# Packages are no place for data: there it is the folder where one starts the site.
DATA_DIR = (Path.cwd() if IS_INSTALLED else HOME) / ".data"
