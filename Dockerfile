# docker build -t unet .
# docker run --rm --shm-size=8g --ulimit memlock=-1 --gpus all -it \
#     -v "$PWD/data:/workspace/unet/data" -v "$PWD/checkpoints:/workspace/unet/checkpoints" unet

# CUDA 13.0, as in pip's torch 2.14, needs an NVIDIA driver 580 or newer. For an older driver, or a
# GPU older than Turing:
#     docker build --build-arg PYTORCH_TAG=2.14.1-cuda12.6-cudnn9-runtime -t unet .
ARG PYTORCH_TAG=2.14.1-cuda13.0-cudnn9-runtime
FROM pytorch/pytorch:${PYTORCH_TAG}

# The image's Python is Ubuntu's, where pip refuses to install (PEP 668) without this variable.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

WORKDIR /workspace/unet

# The constraint keeps the image's torch: pip could replace it with another build of several
# gigabytes. The folders are created because .dockerignore excludes their contents.
RUN python -c "from importlib.metadata import version; print('torch==' + version('torch'))" > constraints.txt \
    && mkdir -p data/imgs data/masks checkpoints

COPY requirements.txt ./
RUN python -m pip install -r requirements.txt -c constraints.txt

COPY . .

CMD ["bash"]
