"""Names that are not options of run_glue.py, but that people type: what they are called here, or what to do instead.

A near name must be a near meaning. Letters alone answer `optim` with `dropout`; so the options of transformers'
TrainingArguments and example scripts that are not ours stand here with their meaning, and letters decide about the
rest only where it is a slip of the keyboard.
"""

import re

from distilbart_mnli.command_line import did_you_mean
from distilbart_mnli.errors import InputError
from distilbart_mnli.options.checks import shown
from distilbart_mnli.options.fields import OPTIONS

# Names of 2020 and of older releases of transformers: the name now (None: the key has no effect any more), or what
# true and false are now. Each is translated with one log line.
OLD_NAMES: dict[str, str | dict[bool, dict[str, str]] | None] = {
    "evaluate_during_training": {True: {"eval_strategy": "steps"}, False: {}},
    "group_by_length": {
        True: {"train_sampling_strategy": "group_by_length"},
        False: {"train_sampling_strategy": "random"},
    },
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "max_length": "max_seq_length",
    "no_cuda": "use_cpu",
    "activation_checkpointing": "gradient_checkpointing",
    "push_to_hub_model_id": "hub_model_id",
    **dict.fromkeys(("overwrite_cache", "fp16_opt_level", "fp16_backend"), None),
    **dict.fromkeys(("logging_dir", "local_rank", "use_fast_tokenizer"), None),
}

# The same thing under another name: of the example scripts, of other trainers, or as it is said for short.
CALLED_HERE = {
    **dict.fromkeys(("lr", "peak_lr"), "learning_rate"),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs", "max_epochs"), "num_train_epochs"),
    **dict.fromkeys(("steps", "max_train_steps", "num_train_steps", "num_training_steps"), "max_steps"),
    **dict.fromkeys(("batch_size", "train_batch_size", "bs", "micro_batch_size"), "per_device_train_batch_size"),
    **dict.fromkeys(("eval_batch_size", "test_batch_size", "predict_batch_size"), "per_device_eval_batch_size"),
    **dict.fromkeys(("global_batch_size", "total_batch_size"), "effective_batch_size"),
    **dict.fromkeys(("grad_accum", "accumulation_steps", "gradient_accumulation"), "gradient_accumulation_steps"),
    **dict.fromkeys(("with_tracking", "logger", "wandb", "tensorboard", "trackio"), "report_to"),
    **dict.fromkeys(("warmup", "num_warmup_steps", "warmup_proportion", "lr_warmup_steps"), "warmup_steps"),
    **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler"), "lr_scheduler_type"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
    **dict.fromkeys(("gradient_clipping", "clip_grad_norm", "grad_clip", "max_norm"), "max_grad_norm"),
    **dict.fromkeys(("label_smoothing", "smoothing"), "label_smoothing_factor"),
    **dict.fromkeys(("model", "model_name", "model_path", "pretrained_model_name_or_path"), "model_name_or_path"),
    **dict.fromkeys(("student", "student_name_or_path", "checkpoint"), "model_name_or_path"),
    **dict.fromkeys(("teacher", "teacher_model", "teacher_name_or_path"), "teacher_model_name_or_path"),
    **dict.fromkeys(("alpha", "alpha_ce", "kd_weight", "distillation"), "distillation_weight"),
    **dict.fromkeys(("temperature", "kd_temperature"), "distillation_temperature"),
    **dict.fromkeys(("unlabeled_file", "unlabelled_file"), "transfer_file"),
    **dict.fromkeys(("class_names", "class_names_file"), "candidate_labels"),
    "template": "hypothesis_template",
    **dict.fromkeys(("revision", "model_version"), "model_revision"),
    **dict.fromkeys(("tokenizer", "tokenizer_path", "tokenizer_name_or_path"), "tokenizer_name"),
    **dict.fromkeys(("task", "dataset", "dataset_name", "dataset_config_name"), "task_name"),
    **dict.fromkeys(("data", "data_path", "dataset_dir", "glue_dir"), "data_dir"),
    **dict.fromkeys(("eval_file", "dev_file", "valid_file"), "validation_file"),
    **dict.fromkeys(("predict_file", "prediction_file"), "test_file"),
    **dict.fromkeys(("text_column_name", "text_column_names", "text_column", "premise_column"), "sentence1_key"),
    **dict.fromkeys(("text_pair_column", "hypothesis_column"), "sentence2_key"),
    **dict.fromkeys(("label_column_name", "label_column", "label_names"), "label_key"),
    **dict.fromkeys(("max_len", "max_source_length", "block_size", "model_max_length"), "max_seq_length"),
    **dict.fromkeys(("ignore_mismatched_sizes", "reinit_head", "new_head"), "reinit_classifier"),
    **dict.fromkeys(("out_dir", "output", "save_path", "save_dir", "out"), "output_dir"),
    **dict.fromkeys(("overwrite", "force"), "overwrite_output_dir"),
    **dict.fromkeys(("resume", "resume_from", "continue", "restart"), "resume_from_checkpoint"),
    **dict.fromkeys(("checkpointing_steps", "save_interval", "save_every"), "save_steps"),
    **dict.fromkeys(("log_interval", "log_every", "log_steps"), "logging_steps"),
    **dict.fromkeys(("eval_interval", "eval_every"), "eval_steps"),
    **dict.fromkeys(("train", "fit"), "do_train"),
    **dict.fromkeys(("eval", "evaluate", "validate"), "do_eval"),
    **dict.fromkeys(("predict", "do_test", "test"), "do_predict"),
    **dict.fromkeys(("patience", "early_stopping"), "early_stopping_patience"),
    **dict.fromkeys(("cpu", "no_gpu"), "use_cpu"),
    **dict.fromkeys(("load_best", "load_best_model", "save_best"), "load_best_model_at_end"),
    "compile": "torch_compile",
    **dict.fromkeys(("num_workers", "preprocessing_num_workers", "n_workers"), "dataloader_num_workers"),
    **dict.fromkeys(("freeze", "freeze_base"), "freeze_encoder"),
    **dict.fromkeys(("publish", "upload"), "push_to_hub"),
    **dict.fromkeys(("hub_private", "private"), "hub_private_repo"),
    **dict.fromkeys(("repo_id", "hub_repo_id", "hub_repo"), "hub_model_id"),
}

_TOKEN = "`hf auth login`, or HF_TOKEN"
_ADAMW = "the optimizer is AdamW: adam_beta1, adam_beta2, adam_epsilon, weight_decay"
_PRECISION = "evaluations compute in the training's precision (fp16, bf16)"
_LOADING = "batches are prepared by threads: dataloader_num_workers"
_CHECKPOINTS = "a checkpoint always holds all that an exact resume needs"
_LAUNCHER = "the launcher's: `accelerate launch --config_file accelerate_configs/...`"
_METRICS = "the metrics are the task's own"
_LEVEL = "log lines go to stderr: INFO from the first process, warnings from the others"

# What there is no option for: why, or what to do.
INSTEAD = {
    **dict.fromkeys(("optim", "optim_args", "optim_target_modules", "optimizer", "adafactor"), _ADAMW),
    **dict.fromkeys(("fp16_full_eval", "bf16_full_eval"), _PRECISION),
    **dict.fromkeys(("half_precision_backend", "mixed_precision", "precision"), "fp16 or bf16 choose the precision"),
    "torch_compile_backend": "torch_compile compiles with inductor",
    "torch_compile_mode": "torch_compile compiles with inductor, in its default mode",
    **dict.fromkeys(("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"), "it takes no arguments"),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), "BART has no Liger kernels"),
    "use_cache": "a classifier generates nothing, so it has no key-value cache",
    "neftune_noise_alpha": "there is no noise on embeddings",
    "torch_empty_cache_steps": "the GPU's memory is not emptied between steps",
    "auto_find_batch_size": "choose per_device_train_batch_size; effective_batch_size keeps the recipe's batch",
    "logging_strategy": "log lines come every logging_steps, and at the end",
    **dict.fromkeys(("log_level", "log_level_replica", "log_on_each_node", "verbose", "quiet"), _LEVEL),
    "logging_nan_inf_filter": "a loss that is not finite stops the run",
    "include_num_input_tokens_seen": "tokens are not counted",
    "include_tokens_per_second": "the log counts examples a second",
    "project": "the tracker's own variable names the project (WANDB_PROJECT, TRACKIO_PROJECT); run_name the run",
    **dict.fromkeys(
        ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), "trackio writes to this machine"
    ),
    **dict.fromkeys(
        ("eval_delay", "eval_on_start"), "evaluations come as eval_strategy says; do_eval adds one at the end"
    ),
    **dict.fromkeys(("prediction_loss_only", "include_for_metrics", "batch_eval_metrics"), _METRICS),
    **dict.fromkeys(("eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"), _METRICS),
    **dict.fromkeys(("metric", "metric_name", "compute_metrics"), _METRICS),
    **dict.fromkeys(
        ("save_only_model", "save_on_each_node", "enable_jit_checkpoint", "ignore_data_skip"), _CHECKPOINTS
    ),
    "restore_callback_states_from_checkpoint": _CHECKPOINTS,
    "save_safetensors": "weights are always saved as safetensors",
    **dict.fromkeys(("hub_always_push", "hub_revision"), "one commit at the end, to the main branch"),
    **dict.fromkeys(("token", "use_auth_token", "hf_token", "auth_token", "api_key", "push_to_hub_token"), _TOKEN),
    "push_to_hub_organization": "hub_model_id takes organization/name",
    **dict.fromkeys(("accelerator_config", "parallelism_config", "ddp_backend", "ddp_timeout", "rank"), _LAUNCHER),
    **dict.fromkeys(("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"), _LAUNCHER),
    **dict.fromkeys(("ddp_static_graph", "tpu_num_cores", "tpu_metrics_debug", "world_size"), _LAUNCHER),
    **dict.fromkeys(("num_processes", "nproc_per_node", "n_gpu", "gpus", "num_machines"), _LAUNCHER),
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed"), "the model fits on one device; data parallel is what it needs"
    ),
    **dict.fromkeys(("dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_in_order"), _LOADING),
    **dict.fromkeys(("dataloader_prefetch_factor", "dataloader_multiprocessing_context"), _LOADING),
    "dataloader_drop_last": "a short last batch is trained, weighted by its examples",
    "remove_unused_columns": "columns are chosen by sentence1_key, sentence2_key and label_key",
    "length_column_name": "lengths are counted; train_sampling_strategy uses them",
    "average_tokens_across_devices": "losses are weighted by examples over all processes",
    "debug": "there is no debugging mode",
    "skip_memory_metrics": "memory is measured by the benchmarks",
    "trust_remote_code": "no code of a model is run; BART is part of transformers",
    **dict.fromkeys(("dtype", "torch_dtype"), "fp16 or bf16 is what is computed in, save_dtype what is saved"),
    **dict.fromkeys(("train_split", "eval_split", "test_split", "split"), "a split is a file: train_file, ..."),
    "device": "the GPU is used where there is one; use_cpu keeps off it",
    "freeze_decoder": "the encoder and the embeddings can be frozen: freeze_encoder, freeze_embeds",
    "adam_beta": "there are two: adam_beta1, adam_beta2",
    **dict.fromkeys(("model_type", "problem_type"), "BART classifiers only"),
    **dict.fromkeys(("num_labels", "label_list"), "the labels are the task's, or those of the training file"),
    "do_lower_case": "the tokenizer decides about small letters",
    **dict.fromkeys(("use_slow_tokenizer", "tokenizer_type"), "the tokenizer is the fast one"),
    **dict.fromkeys(
        ("student_encoder_layers", "student_decoder_layers"), "create_student.py makes the student; this fine-tunes it"
    ),
    **dict.fromkeys(("use_lora", "lora_r", "peft"), "all weights are trained, or those that freeze_encoder leaves"),
    **dict.fromkeys(("load_in_8bit", "load_in_4bit", "quantization"), "training is in float32, fp16 or bf16"),
    "use_mps_device": "Apple's GPU is not supported; use_cpu",
    **dict.fromkeys(("config", "config_file", "args", "args_file"), "the file of options goes first, without a name"),
}


def unknown_option(name: str, where: str) -> InputError:
    """The refusal of an option that there is not.

    Args:
        where: a file's name, or "command line".
    """
    return InputError(f"{where}: unknown option {name}; {_meant(name) or 'run_glue.py --help lists them'}")


def stray_word(word: str, hint: str = "") -> InputError:
    """The refusal of a word where an --option belongs: seed, seed=1, -seed, or with the dash that an editor makes."""
    name = re.sub(r"^[-\u2010-\u2015\u2212]+|=.*", "", word).replace("-", "_")
    if name in OPTIONS:
        hint = hint or f"did you mean --{name}?"
    elif name != word:  # there was a dash, or a value
        hint = hint or _meant(name)
    return InputError(f"command line: expected an --option, found {shown(word)}; {hint or 'see run_glue.py --help'}")


def _meant(name: str) -> str:
    if name in CALLED_HERE:
        return f"did you mean {CALLED_HERE[name]}?"
    return INSTEAD.get(name) or did_you_mean(name, [*OPTIONS, *OLD_NAMES])
