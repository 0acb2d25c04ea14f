@echo off
rem Downloads Carvana on Windows: scripts\download_data.bat, after pip install -r requirements.txt
rem Untested: written after download_data.sh, but not run, for want of a Windows machine.
rem First accept https://www.kaggle.com/c/carvana-image-masking-challenge/rules and set a token from
rem https://www.kaggle.com/settings/api: set KAGGLE_API_TOKEN=YOUR_TOKEN
cd /d "%~dp0.." || exit /b 1
for %%Z in (train_hq train_masks) do (
  kaggle competitions download carvana-image-masking-challenge -f %%Z.zip -p data || exit /b 1
  python scripts\unpack_zip.py check data\%%Z.zip || exit /b 1
)
python scripts\unpack_zip.py unpack data\train_hq.zip data\imgs || exit /b 1
python scripts\unpack_zip.py unpack data\train_masks.zip data\masks || exit /b 1
del data\train_hq.zip data\train_masks.zip
