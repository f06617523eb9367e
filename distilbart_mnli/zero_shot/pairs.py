"""Every text against every label, as NLI pairs of token ids; and logits of such pairs into scores.

    pairs = PairTokenizer(tokenizer, config, ["sports", "business"], "This example is {}.").pairs(texts)
    scores = label_scores(logits, 2, config)        # [texts, labels]

The method is that of Yin et al., arXiv 1909.00161, as transformers' zero-shot-classification pipeline has it: which
tokens a pair has, where it is cut, and what a score is, are the pipeline's. It tokenises every pair; here every text
and every hypothesis is tokenised once, and the tokenizer's own last step joins them.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from transformers import BartConfig, PreTrainedTokenizerBase

from distilbart_mnli.data.labels import entailment_id
from distilbart_mnli.data.tokens import TokenizedSplit, digest_of
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.checks import candidates, template


def check_template(hypothesis_template: str) -> None:
    """Raises InputError where a template does not take a label: it needs one {}."""
    try:
        template(hypothesis_template)
    except ValueError as error:
        raise InputError(f"hypothesis_template {error}") from None


def check_labels(labels: Sequence[str]) -> None:
    """Raises InputError for no label, an empty one, or one that is given twice: its score would be halved."""
    try:
        candidates(list(labels))
    except ValueError as error:
        raise InputError(f"candidate_labels {error}") from None


class PairTokenizer:
    """Makes the pairs of one list of labels.

    As in the pipeline, a pair that is too long loses tokens of its text, never of its hypothesis; where the text has
    not that many tokens, none are taken.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: BartConfig, labels: Sequence[str], hypothesis_template: str
    ):
        """Raises InputError for a label whose hypothesis leaves no position of the model for a text."""
        self.labels, self.positions = list(labels), config.max_position_embeddings
        self.limit = min(tokenizer.model_max_length, self.positions)
        backend = tokenizer.backend_tokenizer
        self._whole, self._cut = (type(backend).from_str(backend.to_str()) for _ in range(2))
        for copy in (self._whole, self._cut):
            copy.no_truncation()
            copy.no_padding()
            copy.encode_special_tokens = tokenizer.split_special_tokens
        side = tokenizer.truncation_side
        self._cut.enable_truncation(self.limit, strategy="only_first", direction=side)
        self._hypotheses = self._encode([hypothesis_template.format(label) for label in labels])
        self._special = self._whole.num_special_tokens_to_add(is_pair=True)
        for label, hypothesis in zip(labels, self._hypotheses, strict=True):
            tokens = len(hypothesis.ids) + self._special
            if tokens >= self.positions:
                raise self._too_long(label, tokens)

    def _encode(self, texts: list[str]) -> list:
        return self._whole.encode_batch(texts, add_special_tokens=False)

    def _too_long(self, label: str, tokens: int, place: str = "a text") -> InputError:
        return InputError(
            f"the label {label[:60]!r} with {place} has {tokens} tokens, the model {self.positions} positions; "
            "shorten the label"
        )

    def pairs(self, texts: Sequence[str], name: str = "texts") -> TokenizedSplit:
        """Token ids of all pairs: text 0 with each label, text 1 with each label, and so on.

        Args:
            name: of the texts, for messages.

        Raises:
            InputError: a pair that cannot be cut has more tokens than the model has positions.
        """
        rows = []
        for number, text in enumerate(self._encode(list(texts)), start=1):
            for label, hypothesis in zip(self.labels, self._hypotheses, strict=True):
                length = len(text.ids) + len(hypothesis.ids) + self._special
                # One token of the text has to stay, or the tokenizer refuses to cut.
                is_cut = self.limit < length < self.limit + len(text.ids)
                if length > self.positions and not is_cut:
                    raise self._too_long(label, length, f"text {number} of {name}")
                rows.append((self._cut if is_cut else self._whole).post_process(text, hypothesis).ids)
        ids, offsets = np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)])
        return TokenizedSplit(name, ids, offsets, None, digest_of(ids, offsets))


def entailment_of(config: BartConfig) -> int:
    """The id of the label that means entailment.

    Raises:
        InputError: the model has none.
    """
    label2id = config.label2id or {}
    entailment = entailment_id(label2id)
    if entailment is None:
        raise InputError(
            f"{config.name_or_path}: none of its labels {sorted(label2id)} begins with entail, as NLI's does"
        )
    return entailment


def label_scores(logits: np.ndarray, labels: int, config: BartConfig, multi_label: bool = False) -> np.ndarray:
    """Probabilities float64 [texts, labels].

    Args:
        logits: float32 [texts x labels, num_labels], in the order of PairTokenizer.pairs.
        labels: how many there are.
        config: of the model; its label that means entailment is the one that counts.
        multi_label: every label for itself, entailment against contradiction; otherwise, and with more than one label,
            the entailment logits against each other, and each row has the sum 1.

    Raises:
        InputError: the model has no label that means entailment.
    """
    entailment, values = entailment_of(config), logits.astype(np.float64)
    if multi_label or labels == 1:
        contradiction = -1 if entailment == 0 else 0  # as the pipeline takes it: the label at the other end
        return softmax(values[:, [contradiction, entailment]], axis=1)[:, 1].reshape(-1, labels)
    return softmax(values[:, entailment].reshape(-1, labels), axis=1)
