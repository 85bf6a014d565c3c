# The CUDA environment of the study. The image runs it on its own:  docker run --rm --gpus all -v "$PWD/artifacts:/study/artifacts" basins
ARG BASE_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04
FROM ${BASE_IMAGE}
# g++ and Python's headers: torch.compile builds its kernels at run time.
RUN apt-get update && apt-get install -y --no-install-recommends make g++ python3 python3-dev python3-venv git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /study
# Dependencies before code: a changed script rebuilds in seconds.
COPY requirements.txt requirements-test.txt ./
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -r requirements.txt -r requirements-test.txt
ENV PYTHON=/opt/venv/bin/python PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=basins \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY . .
RUN useradd --uid 1001 basins && mkdir -p artifacts && chmod 777 artifacts && git config --system --add safe.directory /study
USER 1001
CMD ["make", "all"]
