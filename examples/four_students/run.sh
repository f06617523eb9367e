#!/usr/bin/env bash
# The table of 2020: a teacher, and the four students that are made of its layers.
#
#   bash examples/four_students/run.sh            # facebook/bart-large-mnli on MNLI: a GPU, 60 GB of disk
#   SMOKE=1 bash examples/four_students/run.sh    # the same commands in minutes, on the quickstart's teacher and data
#   PUSH=1 bash examples/four_students/run.sh     # and publish the four students
#
# Stop it with Ctrl-C when you like; the same command goes on. What is whole is not done again, and a training goes on
# from its newest checkpoint.

set -euo pipefail
cd "$(dirname "$0")/../.."

# ---------------------------------------------------------------------------------------------------------------------
# Sizes and paths. Each can be set in front of the command: STUDENTS=12-3 OUT=/disk/students bash ...

if [[ ${SMOKE:-0} != 1 ]]; then
    TEACHER=${TEACHER:-facebook/bart-large-mnli}       # a folder or a Hub id
    STUDENTS=${STUDENTS:-12-9 12-6 12-3 12-1}          # encoder layers - decoder layers
    DATA=${DATA:-glue_data/MNLI}                       # train.tsv, dev_matched.tsv, dev_mismatched.tsv
    BASELINE=${BASELINE:-args/bart-large-mnli.json}    # how the teacher is evaluated
    RECIPE=${RECIPE:-args/distilbart-mnli-SIZE.json}   # how a student is fine-tuned; SIZE is 12-9, ...
    NAME=${NAME:-distilbart-mnli}                      # of a student: distilbart-mnli-12-9
    OUT=${OUT:-outputs/four_students}                  # students, runs, the encoder cache, the sheet
else
    TEACHER=${TEACHER:-outputs/quickstart/teacher}     # made here if it is not there
    STUDENTS=${STUDENTS:-2-2 2-1 1-2 1-1}
    DATA=${DATA:-outputs/quickstart/data}
    BASELINE=${BASELINE:-args/quickstart/evaluate.json}
    RECIPE=${RECIPE:-args/quickstart/student.json}
    NAME=${NAME:-smoke}
    OUT=${OUT:-outputs/four_students_smoke}
    SHEET_OPTIONS="--max_seq_length 64 ${SHEET_OPTIONS:-}"    # the small teacher has 64 positions
fi
PYTHON=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
LAUNCH=${LAUNCH:-$PYTHON}      # several GPUs: "accelerate launch --config_file accelerate_configs/multi_gpu.yaml"
RUN_OPTIONS=${RUN_OPTIONS:-}   # of every run, such as "--per_device_train_batch_size 128 --torch_compile"
SHEET_OPTIONS=${SHEET_OPTIONS:-}   # such as "--zero_shot topics.jsonl --no_speed"
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

sheet=()
for size in $STUDENTS; do
    copied=$OUT/student-$size tuned=$OUT/$NAME-$size
    sheet+=("$tuned")

    # 3. Copy layers
    whole "$copied/model.safetensors" ||
        run "$PYTHON" create_student.py --teacher_model_name_or_path "$TEACHER" --save_path "$copied" \
            --student_encoder_layers "${size%-*}" --student_decoder_layers "${size#*-}"

    # 4. Fine-tune them. The model card is the last file that a run writes.
    whole "$tuned/README.md" ||
        run $LAUNCH run_glue.py "${RECIPE//SIZE/$size}" --model_name_or_path "$copied" --output_dir "$tuned" \
            --run_name "$NAME-$size" --resume_from_checkpoint true --overwrite_output_dir "${common[@]}" $RUN_OPTIONS
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
