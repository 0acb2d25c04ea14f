#!/usr/bin/env bash
# From a fresh clone to a trained U-Net and masks of unseen cars, in a few minutes on any computer
# with Python 3.10 or newer:
#
#     bash scripts/quickstart.sh
#
# Trains on data/imgs and data/masks, or on cars rendered into them if they are empty. A second call
# continues where the first stopped; remove checkpoints/quickstart to train again.
if [ -z "${BASH_VERSION:-}" ]; then echo 'error: not for sh; run  bash scripts/quickstart.sh' >&2 && exit 2; fi
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

say() { printf '\n== %s\n' "$*"; }
list_images() { find "$1" -maxdepth 1 -type f ! -name '.*' 2>/dev/null | sort; }

say 'Environment'
environment requirements.txt

say 'Data'
rendered=data/demo/rendered
if [ -z "$(list_images data/imgs)" ] && [ ! -e $rendered ]; then
  "$python" scripts/make_demo_data.py --images data/demo/imgs --masks data/demo/masks
  "$python" scripts/make_demo_data.py --images data/unseen/imgs --masks data/unseen/masks \
    --count 48 --seed 1
  touch $rendered
fi
# Moved when all are rendered, and moved on if a call was interrupted here: none trains on a part.
if [ -e $rendered ]; then
  for part in masks imgs; do
    list_images data/demo/$part | while IFS= read -r file; do mv "$file" data/$part/; done
  done
  rm $rendered
fi
echo "$(list_images data/imgs | wc -l | tr -d ' ') images in data/imgs, their masks in data/masks"

say 'Training'
run=checkpoints/quickstart
"$python" train.py --amp --epochs 1 --scale 0.1 --output $run --resume auto
model=$run/best.pth
if [ ! -f $model ]; then model=$run/last.pth; fi

unseen=data/imgs
if [ -d data/unseen ]; then
  unseen=data/unseen/imgs
  say 'Scores on unseen cars'
  "$python" evaluate.py -m $model --images $unseen --masks data/unseen/masks
fi

say 'Masks'
inputs=() masks=()
while IFS= read -r input; do
  inputs+=("$input")
  masks+=("$run/$(basename "${input%.*}").png")
done < <(list_images $unseen | awk 'NR % 14 == 1' | head -n 4)
"$python" predict.py -m $model -i "${inputs[@]}" -o "${masks[@]}"
"$python" predict.py -m $model --format overlay -i "${inputs[0]}" -o $run/overlay.png

say 'Done'
echo "$run/overlay.png shows the first of these images with its mask,"
echo "$run/samples.png images, true masks and predicted masks."
