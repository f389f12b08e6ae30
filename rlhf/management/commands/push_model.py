"""`manage.py push_model --project SLUG --policy NAME --to OWNER/NAME`"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotate.command_line import project_named
from rlhf.command_line import policy_named, trained_folder


class Command(BaseCommand):
    help = (
        "Sends a trained policy's folder to a Hugging Face hub, private unless --public is given. "
        "The token is read from HF_TOKEN, the hub's address from HF_ENDPOINT."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--policy", required=True, metavar="NAME")
        parser.add_argument("--to", required=True, metavar="OWNER/NAME")
        parser.add_argument("--public", action="store_true")

    def handle(self, **options: Any) -> None:
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
        except ImportError:
            raise CommandError("huggingface_hub is missing: pip install '.[train]'.")
        project = project_named(options["project"])
        policy = policy_named(project, options["policy"])
        folder, checkpoint = trained_folder(policy)
        api, to = HfApi(), options["to"]
        try:
            api.create_repo(to, private=not options["public"], exist_ok=True)
            message = f"{policy} of {project}, manifest {checkpoint.manifest_sha256}"
            done = api.upload_folder(repo_id=to, folder_path=folder, commit_message=message)
        except HFValidationError as error:
            raise CommandError(f"--to must be OWNER/NAME. {error}")
        except HfHubHTTPError as error:
            raise CommandError(f"The hub refused: {error}. Is HF_TOKEN set, and may it write?")
        except (HTTPError, OSError) as error:
            raise CommandError(f"The hub {api.endpoint} cannot be reached: {error}")
        self.stdout.write(f"{policy} is at {done}")
