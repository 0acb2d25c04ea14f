# docker build -t unet .
# docker run --rm --shm-size=8g --ulimit memlock=-1 --gpus all -it \
#     -v "$PWD/data:/workspace/unet/data" -v "$PWD/checkpoints:/workspace/unet/checkpoints" unet

# CUDA 13.0 is what pip's own torch 2.14 brings too; it wants an NVIDIA driver of 580 or newer.
# For an older driver, or a GPU older than Turing:
#     docker build --build-arg PYTORCH_TAG=2.14.1-cuda12.6-cudnn9-runtime -t unet .
ARG PYTORCH_TAG=2.14.1-cuda13.0-cudnn9-runtime
FROM pytorch/pytorch:${PYTORCH_TAG}

# The image's Python is Ubuntu's, which refuses pip (PEP 668) unless told that this is meant.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

WORKDIR /workspace/unet

# Pinned as it is in the image, or pip might put another build of several gigabytes beside it.
# The folders are made here because .dockerignore keeps what is in them out.
RUN python -c "from importlib.metadata import version; print('torch==' + version('torch'))" > constraints.txt \
    && mkdir -p data/imgs data/masks checkpoints

COPY requirements.txt ./
RUN python -m pip install -r requirements.txt -c constraints.txt

COPY . .

CMD ["bash"]
