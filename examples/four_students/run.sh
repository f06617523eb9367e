#!/usr/bin/env bash
# The table of 2020: a teacher, and the four students that are made of its layers.
#
#   bash examples/four_students/run.sh            # facebook/bart-large-mnli on MNLI: a GPU, 60 GB of disk
#   SMOKE=1 bash examples/four_students/run.sh    # the same commands in minutes, on the quickstart's teacher and data
#   DISTIL=1 bash examples/four_students/run.sh   # and five students that learn the teacher's answers
#   PUSH=1 bash examples/four_students/run.sh     # and publish the students
#
# Stop it with Ctrl-C when you like; the same command goes on. What is whole is not done again, and a training goes on
# from its newest checkpoint.

set -euo pipefail
cd "$(dirname "$0")/../.."

# ---------------------------------------------------------------------------------------------------------------------
# Sizes and paths. Each can be set in front of the command: STUDENTS=12-3 OUT=/disk/students bash ...

if [[ ${SMOKE:-0} != 1 ]]; then
    TEACHER=${TEACHER:-facebook/bart-large-mnli}       # a folder or a Hub id
    STUDENTS=${STUDENTS-12-9 12-6 12-3 12-1}          # encoder layers - decoder layers
    DATA=${DATA:-glue_data/MNLI}                       # train.tsv, dev_matched.tsv, dev_mismatched.tsv
    BASELINE=${BASELINE:-args/bart-large-mnli.json}    # how the teacher is evaluated
    RECIPE=${RECIPE:-args/distilbart-mnli-SIZE.json}   # how a student is fine-tuned; SIZE is 12-9, ...
    DISTILLED=${DISTILLED-12-1-kd 12-3-kd 6-1 6-3 3-1}    # with DISTIL=1; -kd: the teacher's encoder, as it is
    DISTILLED_RECIPE=${DISTILLED_RECIPE:-args/distilled/distilbart-mnli-SIZE.json}
    FIT_RECIPE=${FIT_RECIPE:-args/distilled/fit-SIZE.json}    # how an encoder is fitted; SIZE is 6 or 3
    NAME=${NAME:-distilbart-mnli}                      # of a student: distilbart-mnli-12-9
    OUT=${OUT:-outputs/four_students}                  # students, runs, the encoder cache, the sheet
else
    TEACHER=${TEACHER:-outputs/quickstart/teacher}     # made here if it is not there
    STUDENTS=${STUDENTS-2-2 2-1 1-2 1-1}
    DATA=${DATA:-outputs/quickstart/data}
    BASELINE=${BASELINE:-args/quickstart/evaluate.json}
    RECIPE=${RECIPE:-args/quickstart/student.json}
    DISTILLED=${DISTILLED-2-1-kd 1-3}
    DISTILLED_RECIPE=${DISTILLED_RECIPE:-args/quickstart/student.json}
    FIT_RECIPE=${FIT_RECIPE:-args/quickstart/fit.json}
    NAME=${NAME:-smoke}
    OUT=${OUT:-outputs/four_students_smoke}
    SHEET_OPTIONS="--max_seq_length 64 ${SHEET_OPTIONS:-}"    # the small teacher has 64 positions
fi
PYTHON=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
LAUNCH=${LAUNCH:-$PYTHON}      # several GPUs: "accelerate launch --config_file accelerate_configs/multi_gpu.yaml"
RUN_OPTIONS=${RUN_OPTIONS:-}   # of every run, such as "--per_device_train_batch_size 128 --torch_compile"
SHEET_OPTIONS=${SHEET_OPTIONS:-}   # such as "--zero_shot topics.jsonl --no_speed"
DISTIL=${DISTIL:-0}            # 1: the students in DISTILLED too
PUSH=${PUSH:-0}                # 1: publish each student as YOUR-NAME/distilbart-mnli-12-9 (log in with `hf auth login`)
HUB_OPTIONS=${HUB_OPTIONS:-}   # such as "--hub_private_repo --license mit"

run() { # print a command, and run it
    printf '\n$ %s\n' "$*"
    "$@"
}
whole() { # whether a file that a step writes last is there
    [[ -e $1 ]] && printf '\n# done already: %s\n' "$1"
}
common=(--data_dir "$DATA" --encoder_cache_dir "$OUT/encoder_cache")

# 1. Data (and the teacher, for the smoke run)
if [[ ${SMOKE:-0} != 1 ]]; then
    run "$PYTHON" download_glue_data.py --data_dir "$(dirname "$DATA")" --tasks MNLI
elif [[ ! -e $TEACHER ]]; then # the quickstart's
    world=$(dirname "$TEACHER")
    run "$PYTHON" -m examples.quickstart.make_data --output_dir "$world"
    run "$PYTHON" run_glue.py args/quickstart/teacher.json --config_name "$world/teacher-config" \
        --data_dir "$DATA" --output_dir "$TEACHER"
fi

# 2. The teacher's baseline
whole "$OUT/teacher/eval_results_mnli-mm.txt" ||
    run $LAUNCH run_glue.py "$BASELINE" --model_name_or_path "$TEACHER" --output_dir "$OUT/teacher" \
        "${common[@]}" $RUN_OPTIONS

copy() { # SIZE FOLDER: 3. Copy layers
    whole "$2/model.safetensors" ||
        run "$PYTHON" create_student.py --teacher_model_name_or_path "$TEACHER" --save_path "$2" \
            --student_encoder_layers "${1%-*}" --student_decoder_layers "${1#*-}"
}
train() { # RECIPE START FOLDER [OPTION ...]: 4. Fine-tune them. The model card is the last file that a run writes.
    whole "$3/README.md" ||
        run $LAUNCH run_glue.py "$1" --model_name_or_path "$2" --output_dir "$3" --run_name "$(basename "$3")" \
            --resume_from_checkpoint true --overwrite_output_dir "${common[@]}" "${@:4}" $RUN_OPTIONS
}

sheet=()
for size in $STUDENTS; do
    copy "$size" "$OUT/student-$size"
    train "${RECIPE//SIZE/$size}" "$OUT/student-$size" "$OUT/$NAME-$size"
    sheet+=("$OUT/$NAME-$size")
done
[[ $DISTIL == 1 ]] || DISTILLED=
for name in $DISTILLED; do
    size=${name%-kd} start=$OUT/student-$name
    encoder=${size%-*}
    if [[ $name == *-kd ]]; then
        start=$OUT/student-$size
        copy "$size" "$start"
    else # first the encoder, once for all students that share it
        copy "$encoder-1" "$OUT/to-fit-$encoder"
        train "${FIT_RECIPE//SIZE/$encoder}" "$OUT/to-fit-$encoder" "$OUT/fitted-$encoder" \
            --teacher_model_name_or_path "$TEACHER"
        whole "$start/model.safetensors" ||
            run "$PYTHON" create_student.py --teacher_model_name_or_path "$TEACHER" --save_path "$start" \
                --encoder_from "$OUT/fitted-$encoder" --student_decoder_layers "${size#*-}"
    fi
    train "${DISTILLED_RECIPE//SIZE/$name}" "$start" "$OUT/$NAME-$name" --teacher_model_name_or_path "$TEACHER"
    sheet+=("$OUT/$NAME-$name")
done

# 5. The sheet: size, accuracy, agreement with the teacher, speed, memory. Each model card gets its own line of it.
whole "$OUT/sheet/tradeoffs.md" ||
    run "$PYTHON" compare_models.py "$TEACHER" "${sheet[@]}" --data_dir "$DATA" --output_dir "$OUT/sheet" \
        --update_model_dirs $SHEET_OPTIONS

# 6. Publish
for tuned in "${sheet[@]}"; do
    if [[ $PUSH == 1 ]]; then
        run "$PYTHON" run_glue.py --output_dir "$tuned" --push_to_hub $HUB_OPTIONS
    fi
done

printf '\nThe table is in %s/sheet/tradeoffs.md; %s/encoder_cache may be deleted.\n' "$OUT" "$OUT"
