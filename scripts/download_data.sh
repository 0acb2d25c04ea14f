#!/usr/bin/env bash
# Downloads the Carvana training set from Kaggle into data/imgs and data/masks.
if [ -z "${BASH_VERSION:-}" ]; then echo 'error: not for sh; run  bash scripts/download_data.sh' >&2 && exit 2; fi
set -euo pipefail

usage="usage: bash scripts/download_data.sh [--zips FOLDER] [--keep-zips]

Puts the 5088 images and 5088 masks of Kaggle's carvana-image-masking-challenge into
data/imgs and data/masks. Existing files are kept. After an interruption, run it again: it
continues where it stopped. The demo set of make_demo_data.py has to be moved away first.

  --zips FOLDER  take train_hq.zip and train_masks.zip from FOLDER; needs no Kaggle account
                 (zips in data/ are used without this option)
  --keep-zips    keep the zips in data/ afterwards (those of --zips are always kept)
  -h, --help     show this text

Credentials: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or any file that the
kaggle command reads (~/.kaggle/access_token, kaggle.json). Otherwise a terminal asks you."

competition=carvana-image-masking-challenge
page=https://www.kaggle.com/c/$competition
by_hand="by hand: download train_hq.zip and train_masks.zip from $page/data, then run
      bash scripts/download_data.sh --zips FOLDER_OF_THE_TWO"
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
data=$root/data
# Set by the tests only, whose zips are small.
expected=${CARVANA_EXPECTED:-5088}

# Usage: fail CODE MESSAGE [DETAIL...]
fail() {
  local code=$1
  printf 'error: %s\n' "$2" >&2
  shift 2
  if [ $# -gt 0 ]; then printf '  %s\n' "$@" >&2; fi
  exit "$code"
}

tool() { "$python" "$root/scripts/unpack_zip.py" "$@"; }

# Sets $reason where the zip is damaged.
is_intact() { reason=$(tool check "$1" 2>&1); }

# Sets $credentials to the first place with some, in the order of the kaggle command, or asks.
find_credentials() {
  local config file searched token='' home=~
  config=${KAGGLE_CONFIG_DIR:-$home/.kaggle}
  if [ -z "${KAGGLE_CONFIG_DIR:-}" ] && [ "$(uname)" = Linux ] && [ ! -e "$config" ]; then
    config=${XDG_CONFIG_HOME:-$home/.config}/kaggle
  fi
  searched="$home/.kaggle/access_token, $config/kaggle.json, $home/.kaggle/credentials.json"
  credentials=''
  if [ -n "${KAGGLE_API_TOKEN:-}" ]; then
    credentials=KAGGLE_API_TOKEN
  elif [ -n "${KAGGLE_USERNAME:-}" ] && [ -n "${KAGGLE_KEY:-}" ]; then
    credentials='KAGGLE_USERNAME and KAGGLE_KEY'
  fi
  for file in "$home/.kaggle/access_token" "$home/.kaggle/access_token.txt" \
    "$config/kaggle.json" "$home/.kaggle/credentials.json" \
    "${KAGGLE_KERNEL_RUN_TYPE:+${KAGGLE_API_V1_TOKEN:-}}"; do
    if [ -z "$credentials" ] && [ -s "$file" ]; then credentials=$file; fi
  done
  if [ -n "$credentials" ]; then return; fi
  if [ ! -t 0 ]; then
    fail 2 'no Kaggle credentials found, and no terminal to ask for them' \
      'expected: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, in the environment,' \
      "or one of the files $searched" \
      'remedy: create a token at https://www.kaggle.com/settings/api, then' \
      '    export KAGGLE_API_TOKEN=YOUR_TOKEN' "$by_hand"
  fi
  echo 'No Kaggle credentials found. Create an API token at https://www.kaggle.com/settings/api' >&2
  IFS= read -rs -p "API token (not shown; saved in $home/.kaggle/access_token): " token || token=''
  echo >&2
  if [ -z "$token" ]; then fail 2 'no token given' "$by_hand"; fi
  # mktemp and umask: the token is at no moment readable by others.
  (
    umask 077
    mkdir -p "$home/.kaggle"
    part=$(mktemp "$home/.kaggle/access_token.XXXXXX")
    printf '%s\n' "$token" >"$part"
    mv -f "$part" "$home/.kaggle/access_token"
  )
  credentials=$home/.kaggle/access_token
}

# Prints what the kaggle command prints: into a log file without the \r of its progress bar.
show() { if [ -t 2 ]; then cat >&2; else tool lines >&2; fi; }

# Usage: fetch ZIP [--force]. On failure, exits with the remedy for what the kaggle command printed.
fetch() {
  if kaggle competitions download "$competition" -f "$1" -p "$data" ${2:+"$2"} 2>&1 |
    tee "$log" | show; then return; fi
  local no_login='401 (Client|-)|Unauthorized|Unauthenticated|Authentication required'
  no_login="$no_login|Invalid credentials|\"code\": *401"
  local no_network='Max retries exceeded|NameResolution|[Nn]ame resolution|Failed to resolve'
  no_network="$no_network|Name or service not known|getaddrinfo|ProxyError|[Uu]nreachable"
  no_network="$no_network|Connection(Error|Timeout| refused| timed out)"
  if grep -Eq "$no_login|Could not find kaggle.json" "$log"; then
    fail 2 "Kaggle did not accept the credentials in $credentials (401)" \
      'remedy: create a new token at https://www.kaggle.com/settings/api and store it there' \
      '(kaggle before version 1.8 accepts KAGGLE_USERNAME and KAGGLE_KEY only)' "$by_hand"
  fi
  if grep -Eq '403 (Client|-)|Forbidden|accept .*rules' "$log"; then
    fail 2 'Kaggle refused the download (403)' \
      "remedy: accept the rules at $page/rules, then run again" "$by_hand"
  fi
  if grep -Eq "$no_network" "$log"; then
    fail 1 'Kaggle cannot be reached' \
      'found: no connection to api.kaggle.com, or none through the proxy in HTTPS_PROXY' \
      'remedy: run again on a machine with a network; it continues where it stopped' "$by_hand"
  fi
  fail 1 "downloading $1 failed" 'remedy: run again; it continues where it stopped'
}

download() {
  if ! command -v kaggle >/dev/null; then
    fail 2 'the kaggle command is not installed' 'remedy: pip install -r requirements.txt' "$by_hand"
  fi
  find_credentials
  fetch "$1"
  # kaggle skips a damaged file of the full size unless --force is given.
  if is_intact "$data/$1"; then return; fi
  fetch "$1" --force
  if ! is_intact "$data/$1"; then fail 1 "the downloaded $1 is damaged: ${reason#error: }"; fi
}

zips='' keep_zips=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) echo "$usage" && exit 0 ;;
    --keep-zips) keep_zips=1 ;;
    --zips)
      if [ ! -d "${2:-}" ]; then fail 2 "--zips '${2:-}' is not a folder" 'expected: --zips FOLDER with both zips in it'; fi
      zips=$2 && shift
      ;;
    *) fail 2 "unknown argument: $1" 'see: bash scripts/download_data.sh --help' ;;
  esac
  shift
done
case $expected in '' | *[!0-9]*) fail 2 "CARVANA_EXPECTED is not a number: $expected" ;; esac
python=$(command -v python3 || command -v python) || fail 2 'python3 not found' 'remedy: install Python 3.10 or newer'

demo=$(tool demo "$data/imgs")
if [ -n "$demo" ]; then
  fail 2 'data/imgs holds the demo set, and training would use both' \
    "found: the cars of scripts/make_demo_data.py: $demo" 'remedy: move them away, then run again:' \
    "    cd '$root' && mkdir -p data/demo/imgs data/demo/masks" \
    "    for id in $demo; do for kind in imgs masks; do mv data/\$kind/\${id}_* data/demo/\$kind/; done; done"
fi
pairs=$(tool pairs "$data/imgs" "$data/masks")
if [ "$pairs" -ge "$expected" ]; then
  echo "data/imgs and data/masks already hold all $expected pairs: nothing to do"
  exit 0
fi
mkdir -p "$data/imgs" "$data/masks"
log=$(mktemp "${TMPDIR:-/tmp}/download_data.XXXXXX")
trap 'rm -f "$log"' EXIT
# Ends the script on Ctrl-C: an interrupted kaggle command exits with 0.
trap 'exit 130' INT

for name in train_hq.zip train_masks.zip; do
  zip=${zips:-$data}/$name
  if [ -n "$zips" ]; then
    if [ ! -f "$zip" ]; then fail 2 "no $name in $zips"; fi
    if ! is_intact "$zip"; then fail 2 "$zip is damaged: ${reason#error: }"; fi
  elif [ ! -f "$zip" ] || ! is_intact "$zip"; then
    download "$name"
  fi
done

imgs=$(tool unpack "${zips:-$data}/train_hq.zip" "$data/imgs")
masks=$(tool unpack "${zips:-$data}/train_masks.zip" "$data/masks")
pairs=$(tool pairs "$data/imgs" "$data/masks")
if [ "$imgs" -ne "$expected" ] || [ "$masks" -ne "$expected" ] || [ "$pairs" -lt "$expected" ]; then
  fail 1 'these are not the zips of the competition (they are kept)' \
    "expected: $expected images and $expected masks, one mask for each image" \
    "found: $imgs images in train_hq.zip, $masks masks in train_masks.zip, $pairs pairs unpacked"
fi
if [ -z "$zips" ] && [ -z "$keep_zips" ]; then
  rm -f "$data"/train_{hq,masks}.zip{,.kaggle-partial}
fi
echo "data/imgs and data/masks now hold $expected images and $expected masks"
