from whitenoise.storage import CompressedManifestStaticFilesStorage


class Hashed(CompressedManifestStaticFilesStorage):
    """Once `collectstatic` has made them, files are named by their content: browsers keep them for
    ever, and ask for the new ones after an upgrade. Without it, by their plain names."""

    manifest_strict = False

    def stored_name(self, name: str) -> str:
        return str(super().stored_name(name)) if self.hashed_files else name
