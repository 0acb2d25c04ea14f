#!/usr/bin/env bash
# From a fresh clone to a trained U-Net and masks of cars it has never seen, in a few minutes on
# any computer with Python 3.10 or newer:
#
#     bash scripts/quickstart.sh
#
# Trains on what is in data/imgs and data/masks; where that is empty, on cars rendered for it.
# What an earlier call has done is not done again, and what it has begun goes on: remove
# checkpoints/quickstart to train anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

say() { printf '\n== %s\n' "$*"; }
pictures() { find "$1" -maxdepth 1 -type f ! -name '.*' 2>/dev/null | sort; }

say 'Environment'
environment requirements.txt

say 'Data'
if [ -z "$(pictures data/imgs)" ]; then
  "$python" scripts/make_demo_data.py --images data/demo/imgs --masks data/demo/masks
  "$python" scripts/make_demo_data.py --images data/unseen/imgs --masks data/unseen/masks \
    --count 48 --seed 1
  # Moved when all are there, so that an interrupted call never trains on a part.
  mv data/demo/masks/* data/masks/
  mv data/demo/imgs/* data/imgs/
fi
echo "$(pictures data/imgs | wc -l | tr -d ' ') images in data/imgs, their masks in data/masks"

say 'Training'
run=checkpoints/quickstart
"$python" train.py --amp --epochs 1 --scale 0.1 --output $run --resume auto
model=$run/best.pth
if [ ! -f $model ]; then model=$run/last.pth; fi

if [ -d data/unseen ]; then
  unseen=data/unseen/imgs
  say 'Scores on cars never seen'
  "$python" evaluate.py -m $model --images data/unseen/imgs --masks data/unseen/masks
else
  unseen=data/imgs
fi

say 'Masks'
inputs=() masks=()
while IFS= read -r input; do
  name=$(basename "${input%.*}")
  inputs+=("$input")
  masks+=("$run/$name.png")
done < <(pictures $unseen | awk 'NR % 14 == 1' | head -n 4)
"$python" predict.py -m $model -i "${inputs[@]}" -o "${masks[@]}"
"$python" predict.py -m $model --format overlay -i "${inputs[0]}" -o $run/overlay.png

say 'Done'
echo "Look at $run/overlay.png, the first of these pictures with its mask,"
echo "and at $run/samples.png: images, true masks, predicted masks."
