# Two images from one file, each with the wheel alone and no source tree:
#   docker build --target cpu  -t videosvc:cpu .      (--build-arg TORCH_INDEX_URL=… names an index of CPU builds of torch)
#   docker build --target cuda -t videosvc:cuda .
# `videosvc serve`, the images' command, listens on 0.0.0.0 and so needs an API key (`videosvc keys create --tenant NAME`
# on the same volume first), or --insecure. Stop it with `docker stop -t 45`: a worker finishes its job or gives it back.
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY videosvc videosvc
COPY samplers samplers
COPY kernels kernels
COPY queue queue
COPY configs configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_VERSION}-slim AS base
# PYTHONSAFEPATH: the folder a command is started in is no place to import from.
# No OMP_*: a worker ties its own threads to cores where that pays, and takes such variables for the user's wish.
ENV PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 VIDEOSVC_DATA_DIR=/var/lib/videosvc
# A compiler, as Triton builds what starts its kernels and Inductor what it compiles for a CPU: both at run time.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libc6-dev && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /var/lib/videosvc --create-home videosvc
COPY --from=wheel /wheels /wheels
WORKDIR /var/lib/videosvc
VOLUME /var/lib/videosvc
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["videosvc", "serve", "--host", "0.0.0.0"]

FROM base AS cpu
ARG TORCH_INDEX_URL=""
COPY constraints-cpu.txt /wheels/
RUN pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -c /wheels/constraints-cpu.txt \
    "$(echo /wheels/*.whl)[postgres,s3]"
USER videosvc

FROM base AS cuda
RUN pip install "$(echo /wheels/*.whl)[cuda,postgres,s3]"
USER videosvc
