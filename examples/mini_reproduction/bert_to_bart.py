"""Make a small BART classifier out of a BERT encoder, to be trained by run_glue.py.

    python examples/mini_reproduction/bert_to_bart.py --bert sentence-transformers/all-MiniLM-L6-v2 \\
        --save_path untrained

BERT and BART normalise after each residual sum and read absolute positions, so a BERT layer fits into either stack:

    BART                                 BERT
    shared                               word_embeddings
    embed_positions, row k + 2           position_embeddings, row k, plus token_type_embeddings, row 0
    layernorm_embedding, both stacks     embeddings.LayerNorm
    self_attn, and the decoder's         attention.self (query, key, value), attention.output.dense
      encoder_attn
    their layer norms                    attention.output.LayerNorm
    fc1, fc2, final_layer_norm           intermediate.dense, output.dense, output.LayerNorm

The classification head is new (--seed). The encoder computes what the BERT computes, except that BART's layer norms
have an epsilon of 1e-5 where BERT's configuration may say another, mostly 1e-12. The labels have the names and the
order of facebook/bart-large-mnli.

Exit codes: 0 done; 1 the disk failed; 2 bad input, nothing was written; 3 the Hub refused or cannot be reached.
"""

import sys
from pathlib import Path

import torch
from huggingface_hub import ModelCardData
from transformers import BartConfig, BartForSequenceClassification, BertConfig, BertModel, PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from distilbart_mnli.command_line import OneLineParser, set_up_logging
from distilbart_mnli.data.tokens import check_tokenizer
from distilbart_mnli.errors import run_command
from distilbart_mnli.model.configuration import read_settings
from distilbart_mnli.model.pretrained import read_card, read_tokenizer, read_weights
from distilbart_mnli.model.source import Source
from distilbart_mnli.model.student import check_save_path, describe, save_verified

LABELS = ("contradiction", "neutral", "entailment")  # the order of facebook/bart-large-mnli
POSITION_OFFSET = 2  # of transformers' BartLearnedPositionalEmbedding: position k reads row k + 2


def read_bert_config(source: Source) -> BertConfig:
    """The configuration of a BERT encoder whose layers fit into BART; nothing large is read.

    Raises:
        InputError: nothing there, not readable, or a model whose layers compute something else, with the reason.
        HubError: the Hub refused or could not be reached.
    """
    values = read_settings(source)
    # transformers 5 reads relative positions as absolute ones without a word, so the configuration must be asked.
    flags = {"is_decoder": False, "add_cross_attention": False}
    expected = {"model_type": "bert", "position_embedding_type": "absolute", "hidden_act": "gelu", **flags}
    for key, wanted in expected.items():
        value = {**expected, "model_type": None, **values}[key]
        if value != wanted:
            raise source.refused(f"{key} is {value}; only a BERT encoder with {key} {wanted} becomes a BART")
    with source.reading():
        config = BertConfig.from_dict(values)
    if not config.num_hidden_layers:
        raise source.refused(f"num_hidden_layers is {config.num_hidden_layers}; expected at least 1")
    if config.hidden_size % config.num_attention_heads:
        raise source.refused(
            f"hidden_size {config.hidden_size} is no multiple of its {config.num_attention_heads} heads"
        )
    return config


def read_bert_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The encoder's tokenizer, without token types: a BART has none.

    Raises:
        InputError: none there, or one without [CLS], [SEP] or [PAD].
        HubError: the Hub refused or could not be reached.
    """
    tokenizer = read_tokenizer(source, model_input_names=["input_ids", "attention_mask"])
    for name in ("pad_token", "cls_token", "sep_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise source.refused(f"its tokenizer has no {name}")
    return tokenizer


def bart_config(bert: BertConfig, tokenizer: PreTrainedTokenizerBase) -> BartConfig:
    """A BART with the BERT's sizes and dropouts in both stacks. [CLS] begins and [SEP] ends its texts."""
    sep = tokenizer.sep_token_id
    dropout, layers = bert.hidden_dropout_prob, bert.num_hidden_layers
    return BartConfig(
        vocab_size=bert.vocab_size,
        max_position_embeddings=bert.max_position_embeddings,
        d_model=bert.hidden_size,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=bert.num_attention_heads,
        decoder_attention_heads=bert.num_attention_heads,
        encoder_ffn_dim=bert.intermediate_size,
        decoder_ffn_dim=bert.intermediate_size,
        activation_function="gelu",
        dropout=dropout,
        attention_dropout=bert.attention_probs_dropout_prob,
        activation_dropout=0.0,
        classifier_dropout=dropout if bert.classifier_dropout is None else bert.classifier_dropout,
        init_std=bert.initializer_range,
        scale_embedding=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=sep,
        decoder_start_token_id=sep,
        forced_eos_token_id=None,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
        architectures=["BartForSequenceClassification"],
    )


def bart_weights(bert: BertModel) -> dict[str, torch.Tensor]:
    """The BERT's tensors under BART's names, without the classification head.

    The position tables are [max_position_embeddings + 2, hidden_size]; the two rows that no position reads are 0.
    """
    source = bert.state_dict()
    words, types = source["embeddings.word_embeddings.weight"], source["embeddings.token_type_embeddings.weight"]
    positions = source["embeddings.position_embeddings.weight"] + types[0]
    positions = torch.cat([positions.new_zeros(POSITION_OFFSET, positions.shape[1]), positions])
    weights = {"model.shared.weight": words}

    def copy(target: str, origin: str) -> None:
        for kind in ("weight", "bias"):
            weights[f"{target}.{kind}"] = source[f"{origin}.{kind}"].clone()

    for stack in ("encoder", "decoder"):
        weights[f"model.{stack}.embed_tokens.weight"] = words
        weights[f"model.{stack}.embed_positions.weight"] = positions.clone()
        copy(f"model.{stack}.layernorm_embedding", "embeddings.LayerNorm")
        for index in range(bert.config.num_hidden_layers):
            layer, origin = f"model.{stack}.layers.{index}", f"encoder.layer.{index}"
            for attention in ("self_attn", "encoder_attn")[: 1 if stack == "encoder" else 2]:
                for projection, name in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
                    copy(f"{layer}.{attention}.{projection}", f"{origin}.attention.self.{name}")
                copy(f"{layer}.{attention}.out_proj", f"{origin}.attention.output.dense")
                copy(f"{layer}.{attention}_layer_norm", f"{origin}.attention.output.LayerNorm")
            copy(f"{layer}.fc1", f"{origin}.intermediate.dense")
            copy(f"{layer}.fc2", f"{origin}.output.dense")
            copy(f"{layer}.final_layer_norm", f"{origin}.output.LayerNorm")
    return weights


def bert_to_bart(bert: BertModel, tokenizer: PreTrainedTokenizerBase, seed: int = 42) -> BartForSequenceClassification:
    """A stock BART classifier with the encoder's layers in both stacks and a new head, float32, in eval mode."""
    torch.manual_seed(seed)
    model = BartForSequenceClassification(bart_config(bert.config, tokenizer))
    weights = bart_weights(bert)
    head = {name: value for name, value in model.state_dict().items() if name.startswith("classification_head.")}
    model.load_state_dict({**weights, **head})
    return model.eval()


def card(model: BartForSequenceClassification, source: Source) -> str:
    """README.md of the untrained classifier. License and language are those of the BERT's card, where it has one."""
    base = None if source.is_local else source.name
    metadata = ModelCardData(**read_card(source), library_name="transformers", base_model=base)
    name = f"{source.name} (revision {source.revision})" if base else Path(source.name).resolve().name
    return f"""---
{metadata}
---

# A BART classifier from the layers of {name}, not fine-tuned yet

{describe(model)}. Both stacks hold the BERT's layers; cross-attention is its self-attention. The head is new, so the
answers are chance until run_glue.py has trained the model. Made by examples/mini_reproduction/bert_to_bart.py.
"""


def main() -> None:
    set_up_logging(format="%(message)s")
    parser = OneLineParser(prog="bert_to_bart.py", description=__doc__)
    add = parser.add_argument
    add("--bert", required=True, metavar="FOLDER_OR_HUB_ID", help="a BERT encoder")
    add("--save_path", required=True, metavar="FOLDER", help="where the BART goes: a new or an empty folder")
    add("--revision", default="main", metavar="REVISION", help="branch, tag or commit of a BERT on the Hub")
    add("--seed", type=int, default=42, metavar="N", help="seed of the new head (default: 42)")
    add("--overwrite", action="store_true", help="replace the model in save_path, once the new one is whole")
    args = parser.parse_args()
    save_path = Path(args.save_path)
    check_save_path(save_path, args.bert, args.overwrite)
    source = Source(args.bert, "BERT", args.revision)
    config, tokenizer = read_bert_config(source), read_bert_tokenizer(source)
    check_tokenizer(tokenizer, bart_config(config, tokenizer), config.max_position_embeddings, f"BERT {args.bert}")
    bert = read_weights(source, BertModel, config=config, dtype=torch.float32, add_pooling_layer=False)
    model = bert_to_bart(bert, tokenizer, args.seed)
    save_verified(model, tokenizer, save_path, card(model, source))
    print(f"BERT  {args.bert}: {config.num_hidden_layers} layers")
    print(f"BART  {args.save_path}: {describe(model)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
