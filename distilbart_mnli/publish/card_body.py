"""The text of the model card, section by section, from the facts of a run (card_facts.py).

    body_sections(facts, picture)           # {"introduction": "# name\\n...", "results": "## Results\\n...", ...}

A section for which there is nothing to say is not in the dict. Figures are printed as the result files have them, or
rounded from them; what was reported in 2020 is set in italics in columns of its own.
"""

import json
from typing import Any

from distilbart_mnli.publish.card_facts import METRIC_NAMES, TEACHER_2020, Facts, is_number
from distilbart_mnli.publish.card_format import (
    cell,
    data_name,
    layer_list,
    link,
    number,
    percent,
    show_score,
    table,
    task_name,
)
from distilbart_mnli.publish.card_training import training

SECTIONS = ("introduction", "results", "size and speed", "use", "training", "limits", "citation")
REPOSITORY_2020 = "https://github.com/patil-suraj/distillbart-mnli"
EXAMPLE_TEXT = "The new tram line opens in May and will carry forty thousand people a day."
EXAMPLE_LABELS = ("transport", "cooking", "politics")


def body_sections(facts: Facts, picture: str | None) -> dict[str, str]:
    """Every section that has something to say, in the card's order; `picture`: file name of the training curves."""
    texts = {
        "introduction": introduction(facts),
        "results": results(facts),
        "size and speed": size_and_speed(facts),
        "use": use(facts),
        "training": training(facts, picture),
        "limits": limits(facts),
        "citation": citation(facts),
    }
    return {name: texts[name].strip() for name in SECTIONS if texts[name]}


def introduction(facts: Facts) -> str:
    """What it is and how it was made."""
    if not facts.has_model:
        of = f" of {link(facts.start)}" if facts.start else ""
        return f"# {facts.title}\n\nAn evaluation{of} on {task_name(facts)}. This folder holds results and no model."
    lines = [f"# {facts.title}", ""]
    if facts.is_nli:
        lines += [
            "A zero-shot text classifier. It was fine-tuned for natural language inference (does a premise entail a "
            "hypothesis?), so it sorts texts into labels it has never been trained on: each label becomes a "
            'hypothesis ("This example is transport."), and the label whose hypothesis the text entails most wins.'
            if facts.trained
            else "A classifier for natural language inference (does a premise entail a hypothesis?), which makes it a "
            "zero-shot text classifier as well.",
        ]
    else:
        kind = "A text regression model" if len(facts.labels) == 1 else "A text classifier"
        lines += [f"{kind}, fine-tuned on {task_name(facts)}." if facts.trained else f"{kind}."]
    lines += ["", how_it_was_made(facts)]
    layers = [
        (stack.capitalize(), f"{facts.config[f'{stack}_layers']}", layer_list(ids))
        for stack in ("encoder", "decoder")
        if (ids := facts.layer_ids(stack)) and facts.config.get(f"{stack}_layers")
    ]
    if layers and facts.teacher:
        lines += ["", table(("Stack", "Layers", "Copied from the teacher's layers (the first is 0)"), layers)]
    if facts.labels:
        labels = ", ".join(f"{index} {cell(label)}" for index, label in enumerate(facts.labels))
        lines += ["", f"Labels: {labels}." if len(facts.labels) > 1 else "Output: one number, the score."]
    return "\n".join(lines)


def how_it_was_made(facts: Facts) -> str:
    if facts.teacher:
        source = "[No Teacher Distillation](https://arxiv.org/abs/2010.13002), as in the [distilbart-mnli models of "
        source += f"2020]({REPOSITORY_2020})"
        copied = f"Some layers of {link(facts.teacher)}, its teacher, were copied into a smaller model"
        if not facts.trained:
            return f"{copied}, the first step of {source}. It has not been fine-tuned yet."
        return (
            f"Made by {source}: {copied[0].lower() + copied[1:]}, which was then fine-tuned on the labels of "
            f"{task_name(facts)} alone. The teacher's predictions were not used."
        )
    if facts.from_scratch:
        return f"Trained from new weights on {task_name(facts)}."
    if facts.start:
        return f"Fine-tuned from {link(facts.start)}." if facts.trained else f"The model is {link(facts.start)}."
    return "A BART model (`BartForSequenceClassification`)."


def results(facts: Facts) -> str:
    """This run's scores, and beside them those of 2020."""
    if not facts.scores:
        return ""
    metrics = list(dict.fromkeys(score.metric for score in facts.scores))
    sets = list(dict.fromkeys(score.source for score in facts.scores))
    head = ["Evaluation set", "Examples", *(f"{METRIC_NAMES[metric][0]}, **this run**" for metric in metrics)]
    student, teacher = facts.reported_2020, facts.reported_2020_teacher
    if student:
        sizes = f"{facts.config['encoder_layers']}-{facts.config['decoder_layers']}"
        head.append(f"*Reported in 2020: distilbart-mnli-{sizes}*")
    if teacher:
        head.append(f"*Reported in 2020: {TEACHER_2020.split('/')[1]}" + (", the teacher*" if student else "*"))
    rows = []
    for source in sets:
        here = {score.metric: score for score in facts.scores if score.source is source}
        first = next(iter(here.values()))
        # The table of tasks says how many rows GLUE's own file has.
        whole = f" of {number(first.source.rows)}" if first.is_part and first.source and facts.is_glue_data else ""
        row = [first.set_name, number(first.examples) + whole if first.examples else "not counted"]
        row += [f"**{show_score(here[metric])}**" if metric in here else "not measured" for metric in metrics]
        old = 1 if source and source.name.endswith("-mm") else 0
        row += [f"*{figures[old]} %*" for figures in (student, teacher) if figures]
        rows.append(row)
    lines = ["## Results", "", table(head, rows, right=True), ""]
    notes = ["Measured at the end of this run, each example counted once; rounded from `all_results.json`."]
    if not facts.is_glue_data and facts.task:
        notes.append(f"The texts are not GLUE's: {data_name(facts)}.")
    if facts.is_glue_data and any(score.is_part for score in facts.scores):
        notes.append("A score on a part of a set is not comparable with one on all of it.")
    if student or teacher:
        notes.append(
            f"The columns in italics are the figures that the authors of the [models of 2020]({REPOSITORY_2020}) "
            "reported for their own; they are quoted, and nothing in them was measured here."
        )
    elif facts.is_student_without_figure:
        notes.append(
            f"No figure for a student of this size was reported with the [models of 2020]({REPOSITORY_2020})."
        )
    return "\n".join([*lines, *notes])


_SHARES = ("accuracy", "f1", "agreement")  # words in keys of tradeoffs.json whose fractions are shown in percent


def size_and_speed(facts: Facts) -> str:
    """tradeoffs.json as it is: its values as a table of two columns, each list of objects as a table of its own.

    Names and units come from its keys: "latency_ms_p50" is "latency ms p50".
    """
    if not isinstance(facts.tradeoffs, dict):
        return ""
    rows, tables = [], []
    for key, value in _flatten(facts.tradeoffs):
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            heads = list(dict.fromkeys(name for entry in value for name in entry if _shown(entry[name], name)))
            body = [[_shown(entry.get(name), name) or "not measured" for name in heads] for entry in value]
            if heads:
                tables += ["", f"{key}:", "", table([_words(name) for name in heads], body, right=True)]
        elif shown := _shown(value, key):
            rows.append((key, shown))
    if not rows and not tables:
        return ""
    main = [table(("Measured", "Value"), rows)] if rows else []
    source = "From `tradeoffs.json`, measured by compare_models.py."
    return "\n".join(["## Size and speed", "", source, "", *main, *tables])


def _flatten(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{_words(key)}"
        flat += _flatten(value, f"{name}: ") if isinstance(value, dict) else [(name, value)]
    return flat


def _words(key: str) -> str:
    return cell(key.replace("_", " "))


def _shown(value: Any, key: str) -> str:
    """A value for a table cell; empty if there is nothing to show."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        is_share = any(word in key for word in _SHARES) and isinstance(value, float) and 0 <= value <= 1
        return percent(value) if is_share else number(value)
    if isinstance(value, str):
        return cell(value)
    if isinstance(value, list) and all(_shown(entry, key) for entry in value):
        return ", ".join(_shown(entry, key) for entry in value)
    return ""


def use(facts: Facts) -> str:
    """Code that runs as it stands: the pipeline, and NLI by hand with this model's own label ids."""
    if not facts.has_model:
        return ""
    name = json.dumps(facts.name)
    if not facts.is_nli:
        return "## Use\n\n" + _use_classifier(facts, name)
    contradiction, entailment = facts.label_id("contradict"), facts.label_id("entail")
    order = ", ".join(f"{index} {label.lower()}" for index, label in enumerate(facts.labels))
    return f"""## Use

Zero-shot classification:

```python
from transformers import pipeline

classifier = pipeline("zero-shot-classification", model={name})
text = {json.dumps(EXAMPLE_TEXT)}
result = classifier(text, candidate_labels={json.dumps(EXAMPLE_LABELS)})
print(result["labels"][0], result["scores"][0])
```

`multi_label=True` scores each label by itself, for texts to which several labels or none may apply.
`hypothesis_template="This text is about {{}}."` changes the sentence that a label becomes.

Natural language inference by hand, and the same zero-shot score for one label:

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
model = AutoModelForSequenceClassification.from_pretrained({name}).eval()

premise = {json.dumps(EXAMPLE_TEXT)}
hypothesis = "This example is transport."
inputs = tokenizer(premise, hypothesis, return_tensors="pt", truncation="only_first")
with torch.no_grad():
    logits = model(**inputs).logits[0]

probabilities = logits.softmax(-1)  # {order}
# How probable the label is by itself, as with multi_label=True: entailment against contradiction.
label_probability = logits[[{contradiction}, {entailment}]].softmax(-1)[1].item()
```
"""


def _use_classifier(facts: Facts, name: str) -> str:
    pair = bool(facts.task.sentence2) if facts.task else bool(facts.arguments.get("sentence2_key"))
    one = json.dumps(EXAMPLE_TEXT)
    text = f'{{"text": {one}, "text_pair": "A tram line will open."}}' if pair else one
    regression = len(facts.labels) == 1
    score = ', function_to_apply="none"' if regression else ""
    return f"""```python
from transformers import pipeline

classifier = pipeline("text-classification", model={name})
result = classifier({text}{score})
print(result)
```
"""


def limits(facts: Facts) -> str:
    """What it is for, and what it is not for."""
    if not facts.has_model:
        return ""
    lines = ["## Intended use and limits", ""]
    longest = facts.arguments.get("max_seq_length")
    if facts.is_nli:
        lines += [
            "- For sorting short texts into labels that are given as words, where there are no labelled examples to "
            "train on, and for telling entailment, neutral and contradiction apart.",
            "- Scores on natural language inference do not say how well it sorts texts by topic: try it on "
            "texts of your own, and try other words for the labels and another `hypothesis_template`.",
            "- It knows what its training pairs showed. It is no fact checker: entailment is judged from the premise, "
            "not from the world. Negation, numbers and names are often misjudged, and overlapping words are taken for "
            "entailment.",
        ]
    else:
        lines += [f"- For texts like those of {task_name(facts)}; on other texts its scores are unknown."]
    if facts.task is not None:
        lines += ["- English only."]
    if facts.trained and is_number(longest):
        lines += [f"- It was trained on inputs of at most {number(longest)} tokens; more is possible and untested."]
    lines += [
        "- It carries the biases of the texts that it and its teacher were trained on. Do not decide about people "
        "with it alone."
    ]
    if not facts.license:
        lines += ["- Its license is not stated: see the license of the model that it was made from."]
    return "\n".join(lines)


CITATIONS = {
    "distilbart-mnli": """@misc{patil2020distilbartmnli,
  title = {DistilBart-MNLI},
  author = {Suraj Patil},
  year = {2020},
  howpublished = {\\url{https://github.com/patil-suraj/distillbart-mnli}}
}""",
    "distillation": """@article{shleifer2020pretrained,
  title = {Pre-trained Summarization Distillation},
  author = {Sam Shleifer and Alexander M. Rush},
  journal = {arXiv preprint arXiv:2010.13002},
  year = {2020}
}""",
    "bart": """@article{lewis2019bart,
  title = {{BART}: Denoising Sequence-to-Sequence Pre-training for Natural Language Generation,
    Translation, and Comprehension},
  author = {Mike Lewis and Yinhan Liu and Naman Goyal and Marjan Ghazvininejad and Abdelrahman Mohamed
    and Omer Levy and Ves Stoyanov and Luke Zettlemoyer},
  journal = {arXiv preprint arXiv:1910.13461},
  year = {2019}
}""",
    "mnli": """@inproceedings{williams2018broad,
  title = {A Broad-Coverage Challenge Corpus for Sentence Understanding through Inference},
  author = {Adina Williams and Nikita Nangia and Samuel R. Bowman},
  booktitle = {Proceedings of NAACL-HLT},
  year = {2018}
}""",
    "glue": """@inproceedings{wang2019glue,
  title = {{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author = {Alex Wang and Amanpreet Singh and Julian Michael and Felix Hill and Omer Levy and Samuel R. Bowman},
  booktitle = {Proceedings of ICLR},
  year = {2019}
}""",
    "zero-shot": """@inproceedings{yin2019benchmarking,
  title = {Benchmarking Zero-shot Text Classification: Datasets, Evaluation and Entailment Approach},
  author = {Wenpeng Yin and Jamaal Hay and Dan Roth},
  booktitle = {Proceedings of EMNLP-IJCNLP},
  year = {2019}
}""",
}


def citation(facts: Facts) -> str:
    """The works that this model builds on, and no others."""
    if not facts.has_model:
        return ""
    keys = ["bart"]
    if facts.teacher:
        keys = ["distilbart-mnli", "distillation", *keys]
    if facts.is_glue_data and facts.task:
        keys.append(facts.task.citation)
    if facts.is_nli:
        keys += ["zero-shot"]
    return "## Citation\n\n```bibtex\n" + "\n\n".join(CITATIONS[key] for key in keys) + "\n```"
