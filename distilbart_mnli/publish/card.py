"""The model card: README.md of a finished run, written from the files of its folder and from nothing else.

    write_model_card(Path("distilbart-mnli-12-1"))

run_glue.py calls it at the end of every training, published or not. Called again it renews what it generated and keeps
what a person added: text outside the sections that lie between `<!-- begin generated: NAME -->` and
`<!-- end generated: NAME -->`, and metadata keys that are not generated here. A generated key is ours: a tag that a
person added to `tags` goes. A README.md that cannot be read (not UTF-8, metadata that is not YAML) is set aside as
README.old.md.

model_card.md is the text, a template to edit; card_facts.py reads the run's files, card_format.py writes numbers and
names, curves.py draws the picture; here are the metadata and the joining of new and old. What the Hub asks of the
metadata: https://huggingface.co/docs/hub/model-cards.
"""

import dataclasses
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import yaml_dump

from distilbart_mnli.errors import InputError
from distilbart_mnli.files import atomic_file
from distilbart_mnli.publish import card_format
from distilbart_mnli.publish.card_facts import METRIC_NAMES, Evaluation, Facts, read_facts
from distilbart_mnli.publish.curves import plot_training_curves
from distilbart_mnli.publish.run_files import Values, is_number
from distilbart_mnli.yaml_text import read_front_matter

logger = logging.getLogger(__name__)

FILE_NAME = "README.md"
TEMPLATE = Path(__file__).with_name("model_card.md")
EXAMPLE_TEXT = "The new tram line opens in May and will carry forty thousand people a day."
_LANGUAGE = r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{2,8})*"
EXAMPLE_LABELS = ("transport", "cooking", "politics")

# Identifiers that the Hub takes as `license` (docs/hub/repositories-licenses); any other becomes license_name.
HUB_LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
    """.split()
)


def write_model_card(output_dir: Path, hub_model_id: str | None = None, license: str | None = None) -> None:
    """Write output_dir/README.md and, where there is a log, output_dir/training_curves.png.

    Args:
        output_dir: folder of a finished run; any of its files may be missing.
        hub_model_id: the repository that the code examples name; default: hub_model_id of training_args.json, else
            the folder's name.
        license: where the files of the run name none; default: the one that the card has.

    Raises:
        InputError: output_dir is no folder, or one of its result files is not JSON; model_card.md is no template.
        RunError: the disk is full.
    """
    facts = read_facts(output_dir, hub_model_id)
    picture = plot_training_curves(output_dir) if facts.trained else None
    path = output_dir / FILE_NAME
    try:
        old = read_card(path)
    except ValueError as error:
        aside = path.with_name("README.old.md")
        while aside.exists():
            aside = aside.with_stem(aside.stem + ".old")
        path.rename(aside)
        logger.warning(f"model card: {path} cannot be read ({error}); it is kept as {aside.name}")
        old = {}, ""
    card = make_card(facts, old, picture.name if picture else None, license)
    if card.data.get("license") is None and facts.has_model:
        logger.warning("model card: the license is left out, because no card of the teacher names one; --license does")
    with atomic_file(path, "the other files of the run are whole") as temporary:
        card.save(temporary)


def make_card(
    facts: Facts, old: tuple[dict[str, Any], str] = ({}, ""), picture: str | None = None, license: str | None = None
) -> ModelCard:
    """The card of a run, joined with the one that is there.

    Args:
        old: from `read_card`.
        picture: file name of the training curves.
        license: as for `write_model_card`.

    Raises:
        InputError: model_card.md, which anybody may edit, is no template any more.
    """
    metadata, body = old
    if facts.license is None:
        there = {key: metadata.get(key) for key in ("license", "license_name", "license_link")}
        texts = {key: text for key, text in there.items() if isinstance(text, str)}
        facts = dataclasses.replace(facts, run=Values(facts.run | ({"license": license} if license else texts)))
    ours = card_metadata(facts)
    kept = {key: value for key, value in metadata.items() if key not in (*ours, "model-index") and value is not None}
    front = yaml_dump(ModelCardData(**ours).to_dict() | kept, sort_keys=False)
    try:
        body = join(body, render(facts, picture))
    except jinja2.TemplateError as error:
        raise InputError(f"{TEMPLATE}, line {getattr(error, 'lineno', '?')}: the card's template: {error}") from error
    # Through ModelCard, so that what is written is what the Hub's own client reads.
    return ModelCard(f"---\n{front}---\n\n{body}\n")


def renew_model_card(output_dir: Path, hub_model_id: str | None = None, license: str | None = None) -> None:
    """See to it, before a finished run is published, that its card is there and its own; a person's card of a model
    that no run of ours made stays as it is.

    Args:
        license: added where the card names none; one that is there stays.

    Raises:
        InputError: the run did not come to its results; else as `write_model_card`.
    """
    facts, path = read_facts(output_dir, hub_model_id), output_dir / FILE_NAME
    if not facts.is_finished:
        raise InputError(
            f"{output_dir}: the run that made this model did not come to its results, so nothing can be said of it: "
            "finish it with --resume_from_checkpoint true, or evaluate it with --do_eval and --model_name_or_path "
            f"{shlex.quote(str(output_dir))}"
        )
    try:
        named, text = read_card(path)[0].get("license"), path.read_text(encoding="utf-8-sig") if path.is_file() else ""
    except ValueError:
        named, text = None, ""
    if not text.strip() or (facts.stamp and f"<!-- of run {facts.stamp} -->" not in text) or (license and not named):
        write_model_card(output_dir, hub_model_id, license)
    elif license and named != hub_license(license):
        logger.warning(
            f"model card: {path} names the license {named} already, so --license {license} changes nothing; edit it "
            "if it is wrong"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Metadata


def card_metadata(facts: Facts) -> dict[str, Any]:
    """The arguments of ModelCardData, under the Hub's rules. What is not known is None, and left out of the card."""
    license_id = hub_license(facts.license)
    pipeline = "zero-shot-classification" if facts.is_nli else "text-classification"
    return {
        "language": languages(facts.run["language"]) or ("en" if facts.task else None),
        "license": license_id,
        "license_name": license_name(facts) if license_id == "other" else None,
        "license_link": facts.license_link if license_id == "other" else None,
        "library_name": "transformers" if facts.has_model else None,
        "pipeline_tag": pipeline if facts.has_model else None,
        "tags": [
            "distilbart",
            *(["distilbart-mnli"] if facts.is_nli else []),
            *(["knowledge-distillation"] if facts.learnt_from else []),
        ],
        "datasets": [facts.dataset] if facts.dataset else None,
        "base_model": facts.base_model,
        "metrics": list(dict.fromkeys(METRIC_NAMES[metric][1] for metric in facts.metrics)) or None,
        "widget": widget(facts) if facts.has_model else None,
        "model_name": facts.title,
        "eval_results": [eval_result(facts, each, metric) for each in facts.evaluations for metric in each.scores]
        or None,
    }


def languages(given: str | list[str] | None) -> str | list[str] | None:
    """The codes among what the teacher's card calls its language (ISO 639, with a region or script)."""
    codes = [code for code in ([given] if isinstance(given, str) else given or []) if re.fullmatch(_LANGUAGE, code)]
    return codes if isinstance(given, list) else codes[0] if codes else None


def hub_license(name: str | None) -> str | None:
    """The Hub's identifier of a license; "other" if it has none."""
    plain = str(name or "").strip().lower()
    return plain if plain in HUB_LICENSES else "other" if plain else None


def license_name(facts: Facts) -> str | None:
    """What the teacher's card, else whoever named it, calls a license of no identifier, in letters the Hub takes."""
    plain = str(facts.run["license_name"] or facts.license).lower()
    return None if plain == "other" else re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.") or "unnamed"


def widget(facts: Facts) -> list[dict[str, Any]] | None:
    """Examples for the box on the model's page, in the form that the box of this pipeline takes."""
    if facts.is_nli:
        keys = ("example_title", "text", "candidate_labels", "multi_class")
        complaint = "My parcel arrived two weeks late and the screen of the phone in it is broken."
        examples = (
            ("One label", EXAMPLE_TEXT, ", ".join(EXAMPLE_LABELS), False),
            ("Several labels", complaint, "late delivery, damaged goods, praise, billing", True),
        )
        return [dict(zip(keys, example, strict=True)) for example in examples]
    # The box for text-classification takes single texts; a pair cannot be typed into it.
    single = facts.task is not None and not facts.task.sentence2
    return [{"example_title": "Example", "text": EXAMPLE_TEXT}] if single else None


def eval_result(facts: Facts, evaluation: Evaluation, metric: str) -> EvalResult:
    """One entry of model-index: the value as all_results.json has it, under the data set, configuration and split."""
    label, metric_type, _ = METRIC_NAMES[metric]
    source, examples, kind = evaluation.source, evaluation.examples, evaluation.kind
    config, split = (source.hub if source else None) or (None, "validation")
    if source is None:
        name = "Validation data of the user's own"
    elif not facts.is_glue_data:
        name = f"Other data in the format of {evaluation.name}"
    else:
        name = f"GLUE {evaluation.name}"
        if evaluation.is_part:
            name += f" ({examples:,} of {source.rows:,} examples)"
    return EvalResult(
        # "zero-shot-classification" is what the model is for; what was measured is the classification of pairs.
        task_type="text-classification",
        task_name="Natural Language Inference" if facts.is_nli else "Text Classification",
        dataset_type=facts.dataset or "custom",
        dataset_name=name,
        dataset_config=config,
        dataset_split=split,
        metric_type=metric_type,
        metric_name=f"{label} ({kind})" if kind else label,
        metric_value=evaluation.scores[metric],
    )


# ---------------------------------------------------------------------------------------------------------------------
# Text

_SECTION = re.compile(
    r"<!-- begin generated: (?P<name>[^\n]*?) -->(?P<text>(?:(?!<!-- begin generated: ).)*?)"
    r"<!-- end generated: (?P=name) -->",
    re.DOTALL,
)
_STRAY_MARKER = re.compile(r"<!-- (?:begin|end) generated: [^\n]*? -->\n?")
# The notice and the stamp above the sections, and what release 1.0 wrote below them.
_COMMENT = re.compile(
    r"<!-- (?:What lies between begin and end|of run|checksums of the generated metadata)[^\n]*? -->\n?"
)


def render(facts: Facts, picture: str | None) -> str:
    """model_card.md filled in; `picture`: file name of the training curves.

    Raises:
        jinja2.TemplateError: the template asks for something that there is not.
    """
    environment = jinja2.Environment(  # Markdown, so nothing is escaped but by escaped()
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    helpers = "command_lines escaped figure in_code layer_list link named number option percent quoted".split()
    environment.filters["link"] = card_format.link
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts=facts,
        picture=picture,
        example_text=EXAMPLE_TEXT,
        example_labels=EXAMPLE_LABELS,
        metric_names=METRIC_NAMES,
        is_number=is_number,
        **{name: getattr(card_format, name) for name in helpers},
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def join(old_body: str, rendered: str) -> str:
    """The card's text: the rendered sections in the places of the old ones, a person's text between them untouched.

    A section that is new to the card comes after the one that precedes it in the template; one that has nothing to say
    any more goes. A marker without its partner goes too, and what it enclosed counts as a person's text.
    """
    notice, *pieces = _SECTION.split(rendered)  # then of each section its name, its text, and what follows it
    new = {name: text.strip() for name, text in zip(pieces[::3], pieces[1::3], strict=True) if text.strip()}
    first, *pieces = _SECTION.split(_COMMENT.sub("", old_body))
    parts = [("", first)]  # (name of a section, or "" for a person's text; that text)
    for name, after in zip(pieces[::3], pieces[2::3], strict=True):
        parts += [(name, ""), ("", after)]
    parts = [(name, _STRAY_MARKER.sub("", text).strip("\n")) for name, text in parts]
    parts = [(name, text) for name, text in parts if name in new or text.strip()]
    # Of a section that was copied the first is kept.
    parts = [part for place, part in enumerate(parts) if not part[0] or part not in parts[:place]]
    place = 0
    for name in new:
        if (name, "") not in parts:
            parts.insert(place, (name, ""))
        place = parts.index((name, "")) + 1
    texts = [
        f"<!-- begin generated: {name} -->\n\n{new[name]}\n\n<!-- end generated: {name} -->" if name else text
        for name, text in parts
    ]
    return "\n\n".join([notice.strip(), *texts])


def read_card(path: Path) -> tuple[dict[str, Any], str]:
    """(metadata, body) of the README.md that is there; empty if there is none, or a link, which may lead to anybody's.

    Raises:
        ValueError: not UTF-8, or with metadata that is no YAML, or nothing that the Hub's client reads.
    """
    if path.is_symlink() or not path.is_file():
        return {}, ""
    try:
        metadata, body = read_front_matter(path.read_text(encoding="utf-8-sig"))
        ModelCardData(**metadata).to_yaml()
    except (OSError, TypeError) as error:
        raise ValueError(str(error)) from None
    return metadata, body
