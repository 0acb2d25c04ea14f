# docker build -t unet .
# docker run --rm --shm-size=8g --ulimit memlock=-1 --gpus all -it \
#     -v "$PWD/data:/workspace/unet/data" -v "$PWD/checkpoints:/workspace/unet/checkpoints" \
#     -v unet-cache:/root/.cache unet
#
# or, with the same options in compose.yaml:  docker compose run --rm unet

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

# The folders are created because .dockerignore excludes their contents.
RUN mkdir -p data/imgs data/masks checkpoints

# The locked versions, but for the image's own torch, torchvision and what they need: pip could
# replace them with other builds of several gigabytes.
COPY requirements.lock ./
COPY scripts/lock_without_torch.py scripts/
RUN python scripts/lock_without_torch.py > without-torch.lock \
    && python -m pip install --require-hashes -r without-torch.lock

COPY . .

# Last, because they differ from build to build.
ARG PYTORCH_TAG
ARG REVISION=unknown
LABEL org.opencontainers.image.title="unet" \
    org.opencontainers.image.description="U-Net in PyTorch: training, prediction, evaluation" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.documentation="docs/docker.md" \
    org.opencontainers.image.base.name="docker.io/pytorch/pytorch:${PYTORCH_TAG}" \
    org.opencontainers.image.revision="${REVISION}"

CMD ["bash"]
