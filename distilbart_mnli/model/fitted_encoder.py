"""A student's encoder taken from a model in which it was trained, so that several students share it and its cache.

    fitted = read_fitted(Source("fitted-3-1", "encoder_from"), teacher.config, tokenizer)
    check_table(fitted, teacher)
    student = copy_layers(teacher, fitted.kept(None, None), [0, 2, 5], fitted.model)

`run_glue.py --fit_encoder` trains the encoder's layers, its positions and its first norm. The token table is the
decoder's too, and stays the teacher's; so a decoder of the teacher's layers fits behind such an encoder, and nothing
else of the fitted model is taken. What must be the teacher's is asked here, value by value.
"""

from dataclasses import dataclass

import torch
from transformers import BartConfig, BartForSequenceClassification, PreTrainedTokenizerBase

from distilbart_mnli.data.tokens import tokenizer_digest
from distilbart_mnli.model.configuration import check_head, read_config
from distilbart_mnli.model.history import Stage, of_encoder
from distilbart_mnli.model.pretrained import read_tokenizer, read_weights
from distilbart_mnli.model.source import Source

SAME = (
    "d_model vocab_size max_position_embeddings encoder_attention_heads encoder_ffn_dim activation_function "
    "scale_embedding pad_token_id eos_token_id decoder_start_token_id id2label"
).split()
"""What the two configurations share: the student has one of each."""


@dataclass(frozen=True)
class Fitted:
    """A model whose encoder is taken."""

    model: BartForSequenceClassification
    """In the dtype of its file."""
    source: Source

    def kept(self, number: int | None, layer_ids: list[int] | None) -> list[int]:
        """The teacher's layers that its encoder was made of.

        Raises:
            InputError: these are not the ones asked for, by number or by indices; its encoder is taken as it is.
        """
        found = list(self.model.config.encoder_layer_ids)
        for name, asked, there in (
            ("student_encoder_layers", number, len(found)),
            ("encoder_layer_ids", layer_ids, found),
        ):
            if asked not in (None, there):
                raise self.source.refused(f"its encoder is taken as it is: {name} is {there}, not {asked}")
        return found

    @property
    def history(self) -> list[Stage]:
        """How the encoder was trained."""
        return of_encoder(getattr(self.model.config, "distillation", None))


def read_fitted(source: Source, teacher: BartConfig, tokenizer: PreTrainedTokenizerBase) -> Fitted:
    """The model at `source`, if its encoder can stand before a decoder of the teacher's.

    Raises:
        InputError: no student of create_student.py; another width, vocabulary, tokenizer, or other labels.
        HubError: the Hub refused or could not be reached.
    """
    config = read_config(source)
    check_head(source, config)
    layer_ids = getattr(config, "encoder_layer_ids", None) or []
    if len(layer_ids) != config.encoder_layers or max(layer_ids) >= teacher.encoder_layers:
        raise source.refused(
            "its encoder_layer_ids do not say which of the teacher's layers it was made of; expected a student that "
            "create_student.py made of this teacher and run_glue.py --fit_encoder trained"
        )
    for name in SAME:
        its, wanted = getattr(config, name), getattr(teacher, name)
        if its != wanted:
            raise source.refused(f"its {name} is {its}, the teacher's {wanted}; expected a student of this teacher")
    if tokenizer_digest(read_tokenizer(source, config)) != tokenizer_digest(tokenizer):
        raise source.refused("its tokenizer is not the teacher's; expected a student of this teacher")
    return Fitted(read_weights(source, BartForSequenceClassification, config=config, dtype="auto"), source)


def check_table(fitted: Fitted, teacher: BartForSequenceClassification) -> None:
    """Raises InputError where the token table, which encoder and decoder share, is no longer the teacher's."""
    its, wanted = fitted.model.model.shared.weight, teacher.model.shared.weight
    dtype = torch.promote_types(its.dtype, wanted.dtype)
    if not torch.equal(its.to(dtype), wanted.to(dtype)):
        raise fitted.source.refused(
            "its token embeddings are not the teacher's (another teacher's, trained, or rounded by save_dtype), and "
            "the decoder's layers know the teacher's; expected what run_glue.py --fit_encoder wrote"
        )
