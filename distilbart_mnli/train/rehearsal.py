"""What the end of a run will ask, asked before it: the card and the publication of the model that is to be trained.

    with same_outcome_on_all_ranks():
        target = rehearse(run)        # seconds; nothing is left of it

The files that are known by then are written to a temporary folder: configuration, tokenizer, options, and what
trainer_state.json says of the run. From them, and from a README.md in output_dir, the card is made and staged as at
the end: a template with a mistake in it, a token, a name that will not do costs seconds then, not hours.
"""

import json
import tempfile
from pathlib import Path

from distilbart_mnli.errors import InputError, RunError
from distilbart_mnli.publish import hub
from distilbart_mnli.publish.card import FILE_NAME, make_card, read_card, renew_model_card
from distilbart_mnli.publish.card_facts import read_facts
from distilbart_mnli.publish.commit import PublishTarget
from distilbart_mnli.publish.staging import known_secrets, looks_like_token, staged
from distilbart_mnli.train.checkpoints import disk_errors
from distilbart_mnli.train.history import config_after
from distilbart_mnli.train.run import Run
from distilbart_mnli.train.saving import run_facts, shown_arguments


def rehearse(run: Run) -> PublishTarget | None:
    """Make the card of this run and, with push_to_hub, stage it and ask the Hub; returns where it will be published.

    Raises:
        InputError: a mistake in the card's template; a token, or a path of this machine, in what would be published.
        HubError: whatever the Hub will refuse.
    """
    args, card = run.args, ""
    if args.push_to_hub:
        for option, value in args.without_token().items():
            if looks_like_token(str(value)):
                raise InputError(f"{option} looks like an access token, and would be published: give another name")
    with tempfile.TemporaryDirectory(prefix="distilbart-mnli-") as temporary:
        folder = Path(temporary) / run.output_dir.resolve().name
        if args.do_train:
            folder.mkdir()
            card = _write_what_is_known(run, folder)
        else:
            folder = run.output_dir  # an earlier run's model, which is published as it is
            if not args.do_eval:
                renew_model_card(folder, args.hub_model_id, args.license)
        if not args.push_to_hub:
            return None
        target = hub.preflight(args, card, folder)
        try:
            with staged(folder, known_secrets(args), run.output_dir.resolve().parent):
                return target
        except RunError as error:
            raise InputError(f"{run.output_dir} could not be published: {error}") from error


def _write_what_is_known(run: Run, folder: Path) -> str:
    """Returns the card."""
    try:
        old = read_card(run.output_dir / FILE_NAME)
    except ValueError:  # it will be set aside
        old = {}, ""
    with disk_errors("what would be published", folder, "nothing was trained yet"):
        config_after(run).save_pretrained(folder)
        if run.args.push_to_hub:
            run.tokenizer.save_pretrained(folder)
        (folder / "training_args.json").write_text(shown_arguments(run.args), encoding="utf-8")
        (folder / "trainer_state.json").write_text(json.dumps({"run": run_facts(run)}), encoding="utf-8")
        card = str(make_card(read_facts(folder, run.args.hub_model_id), old))
        (folder / FILE_NAME).write_text(card, encoding="utf-8")
    return card
